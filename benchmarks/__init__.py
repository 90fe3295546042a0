"""Benchmarks: ``scripts/bench``, or ``python -m benchmarks --help``."""
