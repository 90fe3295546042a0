"""Settings of all tests."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from hypothesis import settings

# Benchmarks are no part of the installed package, but have tests.
sys.path.append(str(Path(__file__).resolve().parents[1]))

# A busy machine makes any example slow; how long a test may take is pytest's matter.
# No database: tests leave nothing behind, and run where the checkout is read-only.
settings.register_profile("patient", deadline=None, database=None)
settings.load_profile("patient")

# Begun with `&` or nohup, a process ignores these, and so does all that it starts.
for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
    signal.signal(signal.SIGINT, signal.default_int_handler)
