"""Documented fakes that wrap, symlink and fail like the real thing."""
