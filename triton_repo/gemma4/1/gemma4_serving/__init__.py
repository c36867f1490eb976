"""Serves Gemma 4 on Triton over wire contract v1, by whichever engine its configuration names."""
