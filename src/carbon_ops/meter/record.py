"""Measurements as records that a ledger takes, whatever the caller put in. Pure.

A program may name its information as it likes and give as much as it likes. A ledger
reserves three names at every depth, holds no number that readers round, and no record
over 65,535 bytes. What does not fit is kept in another form, and the record's
``energy.quality.flags`` say so; nothing is dropped without a trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any

from carbon_ops.ledger.canonical import CanonicalError, dumps
from carbon_ops.ledger.chain import MAX_RECORD_BYTES, RESERVED
from carbon_ops.meter.plain import AS_TEXT, MAX_EXACT, plain
from carbon_ops.model import Metric

RENAMED = "info_renamed"  # a reserved name got an underscore behind it
SHORTENED = "info_shortened"  # a long value is its length and SHA-256
MAX_INFO_BYTES = 32_768
MAX_VALUE_BYTES = 1_024  # a longer one goes first
MAX_NAME_CHARS = 4_096


def records(metric: Metric, estimate: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return what a ledger keeps of one measurement: copies, in a form it accepts."""
    kept: list[dict[str, Any]] = [_metric(metric)]
    if estimate is not None:
        kept.append(_estimate(metric["span_id"], estimate))
    return kept


def _metric(metric: Metric) -> dict[str, Any]:
    told: set[str] = set()
    record: dict[str, Any] = plain(metric, told)
    info = _safe(record["additional_info"], told)
    if len(dumps(info)) > MAX_INFO_BYTES:
        told.add(SHORTENED)
        info = {name: _short(value) for name, value in info.items()}
        if len(dumps(info)) > MAX_INFO_BYTES:
            info = {"shortened": _digest(info)}
    record["additional_info"] = info
    name = str(record["operation"])
    if len(name) > MAX_NAME_CHARS:
        told.add(SHORTENED)
        record["operation"] = f"{name[:100]} {_digest(name)}"
    flags = record["energy"]["quality"]["flags"]
    record["energy"]["quality"]["flags"] = list(dict.fromkeys([*flags, *sorted(told)]))
    return {**record, "type": "energy_metric"}


def _safe(value: Any, told: set[str]) -> Any:
    """Return plain JSON without reserved names and numbers that readers round."""
    if isinstance(value, dict):
        made: dict[str, Any] = {}
        taken = set(value)
        for name, item in value.items():
            new = name
            while new in RESERVED or (new != name and new in taken):
                new += "_"
                told.add(RENAMED)
            taken.add(new)
            made[new] = _safe(item, told)
        return made
    if isinstance(value, list):
        return [_safe(item, told) for item in value]
    if isinstance(value, float) and MAX_EXACT < abs(value) < 1e21:
        told.add(AS_TEXT)  # printed as digits, it would read back as an integer
        return str(value)
    return value


def _short(value: Any) -> Any:
    return _digest(value) if len(dumps(value)) > MAX_VALUE_BYTES else value


def _digest(value: Any) -> str:
    """Return what is left of a value that is too long: enough to recognise it by."""
    data = dumps(value)
    return f"<{len(data)} bytes of JSON, SHA-256 {sha256(data).hexdigest()}>"


def _estimate(span_id: str, estimate: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of an estimate.

    A span of a week may be cut at thousands of intervals of the grid. Where they are too
    many for a record, their number and the SHA-256 over all of them stand in their
    place; the figures are the same, but nobody can derive them from the record alone.
    """
    record = {**estimate, "type": "carbon_estimate", "span_id": span_id}
    grids = [
        (name, figure["intensity"])
        for name in ("marginal", "average")
        if (figure := record.get(name)) and figure.get("intensity")
    ]
    many = sum(len(grid["intervals"]) for _, grid in grids) > 100
    with suppress(CanonicalError):  # an estimator of the caller's own: refused later
        if many and len(dumps(record)) > MAX_RECORD_BYTES - 256:  # seq and prev_hash
            for name, grid in grids:
                every = grid["intervals"]
                left_out = {
                    "count": len(every),
                    "sha256": sha256(dumps(every)).hexdigest(),
                }
                short = {**grid, "intervals": [], "intervals_left_out": left_out}
                record[name] = {**record[name], "intensity": short}
    return record
