"""What several runs of one command say together. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from math import comb
from typing import Any, NamedTuple

from carbon_ops.cli.measurement import number
from carbon_ops.meter.summary import percentile
from carbon_ops.model import Metric


class Run(NamedTuple):
    """One measured run."""

    metric: Metric
    estimate: Mapping[str, Any] | None
    status: int


class Middle(NamedTuple):
    """A median and how far to trust it."""

    median: float
    low: float
    high: float
    coverage: float  # of [low, high] for the median; under 0.95 for fewer than 6 runs
    runs: int


COLUMNS = (
    "operation", "run", "exit_status", "duration_s",
    "cpu_s", "energy_j",
    "energy_u_j", "attribution_mode", "reason",
    "source", "carbon_g",
    "carbon_ci_low_g", "carbon_ci_high_g",
    "average_carbon_g",
)  # fmt: skip


# Of what middles() returns, in its order.
TITLES = (("time", "s"), ("CPU", "s"), ("energy", "J"), ("carbon", "g"))


def middle(values: Sequence[float]) -> Middle | None:
    """Return the median with its distribution-free interval, None without values.

    The interval runs between two order statistics; the number of values below the true
    median is binomial with p = 1/2 (David, Nagaraja 2003, Order Statistics, 7.1). It is
    the narrowest symmetric one that covers at least 95 %, or the whole range, whose
    coverage 1 - 2**(1-n) is then less.

    >>> middle([3.0, 1.0, 2.0])
    Middle(median=2.0, low=1.0, high=3.0, coverage=0.75, runs=3)
    """
    n = len(values)
    if n == 0:
        return None
    ordered = sorted(values)
    rank = 0
    while 2 * (rank + 1) < n and _coverage(n, rank + 1) >= 0.95:
        rank += 1
    low, high = ordered[rank], ordered[n - 1 - rank]
    return Middle(percentile(ordered, 0.5), low, high, _coverage(n, rank), n)


def _coverage(n: int, rank: int) -> float:
    outside = sum(comb(n, k) for k in range(rank + 1))
    return float(1.0 - 2.0 * outside / 2**n)


def middles(runs: Sequence[Run]) -> dict[str, Middle | None]:
    """Return the medians of time, CPU time, energy and carbon.

    Of the runs that succeeded: one that failed or was interrupted did something else.
    """
    runs = [run for run in runs if run.status == 0]
    joules = [run.metric["energy"]["energy_j_total"] for run in runs]
    grams = [run.estimate["carbon_gco2e"] if run.estimate else None for run in runs]
    return {
        "duration_s": middle([run.metric["duration_s"] for run in runs]),
        "cpu_s": middle([run.metric["cpu"]["process_s"] for run in runs]),
        "energy_j": middle([j for j in joules if j is not None]),
        "carbon_g": middle([g for g in grams if g is not None]),
    }


def as_text(runs: Sequence[Run], warmup: int) -> str:
    """Return the medians as lines of text."""
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    before = f" after {warmup} not measured" if warmup else ""
    lines = [f"carbon-ops: {count} measured{before}"]
    for (name, unit), found in zip(TITLES, middles(runs).values(), strict=True):
        said = (
            "unknown"
            if found is None
            else (
                f"median {number(found.median)} {unit}, {100 * found.coverage:.1f} % "
                f"interval {number(found.low)} to {number(found.high)} {unit} "
                f"({found.runs} runs)"
            )
        )
        lines.append(f"  {name:<9} {said}")
    lines.append("  note      the interval is between runs; each run's own is wider")
    return "\n".join(lines)


def as_json(runs: Sequence[Run], warmup: int) -> dict[str, Any]:
    """Return runs and medians as one plain object."""
    return {
        "schema": "carbon-ops/runs/1",
        "warmup": warmup,
        "median": {
            name: None if found is None else found._asdict()
            for name, found in middles(runs).items()
        },
        "runs": [
            {"exit_status": status, "metric": metric, "estimate": estimate}
            for metric, estimate, status in runs
        ],
    }


def as_csv(runs: Sequence[Run]) -> str:
    """Return one line for each run, with a header; RFC 4180 but for the line ends."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for place, (metric, estimate, status) in enumerate(runs, start=1):
        energy, found = metric["energy"], estimate or {}
        writer.writerow([
            metric["operation"], place, status, metric["duration_s"],
            metric["cpu"]["process_s"], energy["energy_j_total"],
            energy["uncertainty_j"], energy["attribution_mode"], energy["reason"],
            energy["components"]["cpu"]["source"], found.get("carbon_gco2e"),
            found.get("ci_low_gco2e"), found.get("ci_high_gco2e"),
            found.get("average", {}).get("g"),
        ])  # fmt: skip
    return out.getvalue().rstrip("\n")
