"""Derive the grams of a recorded estimate anew, from nothing but the record.

The estimator is bound late: it belongs to a stage beside this one, and a verifier that
does not recompute does not need it.
"""

from __future__ import annotations

from importlib import import_module
from math import isclose
from typing import Any

from carbon_ops.errors import InvalidInputError
from carbon_ops.model import ESTIMATE_SCHEMA

# Sums and logarithms may differ in the last bits between machines; nothing else may.
RELATIVE, ABSOLUTE = 1e-9, 1e-12


def difference(record: dict[str, Any]) -> str | None:
    """Return what in a ``carbon_estimate`` does not follow from its inputs.

    Returns:
        A sentence; empty where all of it follows; None for an estimate of a schema that
        this version cannot repeat, whose intervals were too many for its record, or whose
        shipped factor is of other tables or rules than this version's.
    """
    if record.get("schema") != ESTIMATE_SCHEMA or _left_out(record):
        return None
    estimate = import_module("carbon_ops.estimate.recompute")
    try:
        again = estimate.recompute(record)
    except InvalidInputError as error:
        return str(error)
    wrong = _compare("", record, again)
    return wrong if wrong or not estimate.made_elsewhere(record) else None


def _left_out(record: dict[str, Any]) -> bool:
    for name in ("marginal", "average"):
        figure = record.get(name)
        grid = figure.get("intensity") if isinstance(figure, dict) else None
        if isinstance(grid, dict) and "intervals_left_out" in grid:
            return True
    return False


def _compare(place: str, old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        if old.keys() != new.keys():
            names = ", ".join(sorted(old.keys() ^ new.keys()))
            return f"{place or 'the estimate'} differs in the members {names:.80}"
        pairs = [(f"{place}.{k}" if place else k, old[k], new[k]) for k in old]
    elif isinstance(old, list) and isinstance(new, (list, tuple)):
        if len(old) != len(new):
            return f"{place} has {len(old)} items, {len(new)} follow"
        both = zip(old, new, strict=True)
        pairs = [(f"{place}.{n}", a, b) for n, (a, b) in enumerate(both)]
    else:
        return (
            "" if _alike(old, new) else f"{place} is {old!r:.60}, {new!r:.60} follows"
        )
    return next((text for p in pairs if (text := _compare(*p))), "")


def _alike(old: object, new: object) -> bool:
    numbers = (int, float)
    if isinstance(old, numbers) and isinstance(new, numbers):
        return isclose(old, new, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return old == new
