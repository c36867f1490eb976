"""What stands between Triton's Python backend and the model: metrics, and the one way an answer goes out."""
