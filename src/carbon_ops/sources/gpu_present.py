"""Whether a GPU seems to be there: a stat and a listing, and nothing is imported."""

from __future__ import annotations

import os

NVIDIA_NODE = "/dev/nvidiactl"
DRM_ROOT = "/sys/class/drm"


def nvidia() -> bool:
    """Return whether an NVIDIA driver seems to be loaded."""
    return os.path.exists(NVIDIA_NODE)


def cards(root: str | None = None) -> list[str]:
    """Return the graphics cards the kernel shows: ``card0``, ``card1``, ..."""
    try:
        names = os.listdir(DRM_ROOT if root is None else root)
    except OSError:
        return []
    found = [n for n in names if n.startswith("card") and n[4:].isdigit()]
    return sorted(found, key=lambda name: int(name[4:]))


def anything() -> bool:
    """Return whether there is any sign of a GPU."""
    return nvidia() or bool(cards())
