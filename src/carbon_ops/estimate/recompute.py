"""Derive every gram of a record anew from what stands in it.

Inputs, seed, intervals and the shipped tables' hash are in a record, so anyone can repeat
it: the same numbers come out, to the last digit on the same platform. Where a record
names a table and rules of this very version, its factors are taken from them, not from
the record; with others :func:`made_elsewhere` says so, and the factor is taken as
recorded. So is what a live provider answered: it cannot be asked again.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum, isclose
from typing import Any, get_args

from carbon_ops.errors import InvalidInputError
from carbon_ops.estimate import given
from carbon_ops.estimate.estimator import LEAST_COVERAGE, MOST_COVERAGE
from carbon_ops.estimate.figure import figure, label_of
from carbon_ops.estimate.inputs import Exact, Input, Lognormal, parse
from carbon_ops.estimate.instant import instant
from carbon_ops.estimate.record import HEAD, Figure
from carbon_ops.intensity.base import Intensity, Signal
from carbon_ops.intensity.static import StaticProvider
from carbon_ops.model import ESTIMATE_SCHEMA

_FIGURE = (
    "g", "median", "sd", "ci_low", "ci_high", "label", "method", "method_detail",
    "seed", "trials", "converged", "inputs", "variance_share", "truncated_mass",
    "validation",
)  # fmt: skip


def recompute(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``record`` with every derived value computed anew.

    Equal to what went in if the record was not changed; other keys are passed through.

    Args:
        record: A carbon estimate as JSON (``CarbonRecord.to_dict()``), or a ledger
            record that contains its keys.

    Raises:
        InvalidInputError: it is no estimate of this schema, or contradicts itself.
    """
    if record.get("schema") != ESTIMATE_SCHEMA:
        raise InvalidInputError(
            f"not an estimate of schema {ESTIMATE_SCHEMA}: {record.get('schema')!r:.80}"
        )
    try:
        return _again(record)
    except (
        LookupError,
        TypeError,
        AttributeError,
        ValueError,
        ArithmeticError,
    ) as error:
        raise InvalidInputError(
            f"the estimate cannot be recomputed: {type(error).__name__}: {error}"
        ) from error


def made_elsewhere(record: Mapping[str, Any]) -> str | None:
    """Return the version of a shipped factor that this release does not have, or None.

    A record without such a factor, or that :func:`recompute` refuses, gives None.
    """
    for signal in get_args(Signal):
        grid = record[signal]["intensity"]
        if grid and _of_the_tables(grid) and not _shipped(record, signal, grid):
            return f"{grid['version']}"
    return None


def _again(record: Mapping[str, Any]) -> dict[str, Any]:
    again = dict(record)
    if not LEAST_COVERAGE <= float(record["coverage"]) <= MOST_COVERAGE:
        raise ValueError(f"coverage {record['coverage']!r:.40}")  # else: any effort
    inputs = {item["name"]: parse(item) for item in record["inputs"]}
    shared = tuple(i for name, i in inputs.items() if "." not in name)
    if record["energy_wh"] is not None:
        energy = tuple(i for i in shared if i.name != "pue")
        again["energy_wh"] = given.total(energy)
        again["energy_u_wh"] = given.spread(energy)
    used = list(shared)
    for signal in get_args(Signal):
        old = record[signal]
        if record["energy_wh"] is None or old["intensity"] is None:
            new = Figure(None, None, old["reason"], old["label"], (), {}, {}).to_dict()
        else:
            grid, own = _factor(record, signal, inputs)
            used += own
            new = _figure(record, signal, (*shared, *own)) | {"intensity": grid}
        new["label"] = label_of(signal, record["energy_basis"])
        new["reason"] = old["reason"] if new["g"] is None else None
        again[signal] = old | {k: new[k] for k in (*_FIGURE, "intensity", "reason")}
    head = again[record["signal"]]
    for key, source in HEAD.items():
        again[key] = head[source]
    again["inputs"] = [i.to_dict() for i in used]
    if record["embodied"] is not None:
        made = record["embodied"]
        reserved = made["reserved_s"] / made["lifetime_s"]
        again["embodied"] = {**made, "g": made["total_g"] * reserved * made["share"]}
    return again


def _figure(
    record: Mapping[str, Any], signal: Signal, inputs: tuple[Input, ...]
) -> dict[str, Any]:
    old = record[signal]
    detail = str(old["method_detail"])
    digits = int(detail.split("_")[-2]) if old["method"] == "monte_carlo" else 1
    return figure(
        inputs,
        None,
        old["label"],
        float(record["coverage"]),
        method=old["method"],
        validate=old["validation"] is not None,
        digits=digits,
        seed=old["seed"],
    ).to_dict()


def _factor(
    record: Mapping[str, Any], signal: Signal, inputs: dict[str, Input]
) -> tuple[dict[str, Any], list[Input]]:
    """Return the record's account of the factor and its inputs, computed anew."""
    old = dict(record[signal]["intensity"])
    bias = inputs[f"{signal}.factor"]
    residual = inputs.get(f"{signal}.residual")
    pieces = [dict(piece) for piece in old["intervals"]]
    shipped = _shipped(record, signal, old)
    cv = bias.distribution.cv if isinstance(bias.distribution, Lognormal) else 0.0
    if shipped is not None:
        cv = shipped.cv
        for piece in pieces:
            piece["g_per_kwh"] = shipped.g_per_kwh
    parts = [float(piece["energy_wh"]) for piece in pieces]
    whole = float(record["energy_wh"])
    if not isclose(fsum(parts), whole, rel_tol=1e-15, abs_tol=0.0):
        raise ValueError(f"intervals hold {fsum(parts)!r} Wh of {whole!r} Wh")
    mean = float(old["g_per_kwh"])
    if len(pieces) == 1:
        mean = float(pieces[0]["g_per_kwh"])
    elif whole > 0.0:
        grams = [e * float(p["g_per_kwh"]) for e, p in zip(parts, pieces, strict=True)]
        mean = fsum(grams) / fsum(parts)
    value = Lognormal(mean, cv) if mean > 0.0 else Exact(0.0)
    own = [bias._replace(distribution=value)]
    rest = 0.0
    if residual is not None:
        own.append(residual)
        rest = getattr(residual.distribution, "cv", 0.0)
    old["g_per_kwh"] = mean
    old["u"] = mean * (cv**2 + rest**2) ** 0.5
    old["intervals"] = pieces
    return old, own


def _of_the_tables(grid: Mapping[str, Any]) -> bool:
    return grid["provider"] == StaticProvider.name and len(grid["intervals"]) == 1


def _shipped(
    record: Mapping[str, Any], signal: Signal, grid: dict[str, Any]
) -> Intensity | None:
    """Return the shipped factor, where the record names this version of the table."""
    if not _of_the_tables(grid):
        return None
    limits = instant(record["start"], "start"), instant(record["end"], "end")
    found = StaticProvider().series(grid["zone"], signal, *limits)
    factor = found.intervals[0].intensity
    return factor if factor is not None and factor.version == grid["version"] else None
