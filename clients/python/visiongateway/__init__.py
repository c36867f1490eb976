"""Stubs and client of the Vision Gateway."""
