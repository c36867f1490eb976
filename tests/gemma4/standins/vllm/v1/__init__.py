"""A stand-in of vLLM's package of this name."""
