"""What is written for Envoy."""
