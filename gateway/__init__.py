"""Routes vision calls to model backends."""

__version__ = "0.1.0"
