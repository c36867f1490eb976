"""Checks images by their headers, and makes of them what a model takes, in processes that can be killed."""
