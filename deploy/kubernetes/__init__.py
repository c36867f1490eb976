"""Kustomize: a base, components, and an overlay for each way to run."""
