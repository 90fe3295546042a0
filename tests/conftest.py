"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine makes any example slow; how long a test may take is pytest's matter.
# No database: tests leave nothing behind, and run where the checkout is read-only.
settings.register_profile("patient", deadline=None, database=None)
settings.load_profile("patient")
