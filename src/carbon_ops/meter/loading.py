"""The lock that is held while a module loads that is seldom needed.

No fork happens meanwhile: a child forked by another thread would find the module half
loaded, and locked for ever.
"""

from __future__ import annotations

import os
from _thread import RLock

lock = RLock()
os.register_at_fork(
    before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
)
