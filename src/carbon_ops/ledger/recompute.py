"""Derive the grams of a recorded estimate anew, from nothing but the record.

The estimator is bound late: it belongs to a stage beside this one, and a verifier that
does not recompute does not need it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def difference(record: dict[str, Any]) -> str | None:
    """Return what in a ``carbon_estimate`` does not follow from its inputs, or None."""
    found = import_module("carbon_ops.estimate.recompute").recompute(record)
    return str(found) if found else None
