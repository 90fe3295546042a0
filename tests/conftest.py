"""Settings of all tests."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

# Benchmarks are no part of the installed package, but have tests.
sys.path.append(str(Path(__file__).resolve().parents[1]))

# A busy machine makes any example slow; how long a test may take is pytest's matter.
# No database: tests leave nothing behind, and run where the checkout is read-only.
settings.register_profile("patient", deadline=None, database=None)
settings.load_profile("patient")
