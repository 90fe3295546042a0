"""Metrics for the tools people already run."""
