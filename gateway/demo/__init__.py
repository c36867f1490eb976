"""What `vision-gateway up` shows."""
