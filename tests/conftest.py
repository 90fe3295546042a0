"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine makes any example slow; how long a test may take is pytest's matter.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
