"""Runs calls through the gateway's own policies, with simulated models and in virtual time."""
