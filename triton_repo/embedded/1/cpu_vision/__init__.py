"""A small vision model for CPUs: reads text, finds objects, names classes, and puts the two RPCs of words together.

It knows nothing of Triton; `model.py` beside this package serves it.
"""
