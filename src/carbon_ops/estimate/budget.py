"""An estimate in words, and its uncertainty budget as a metrologist's table.

Source of the table's columns: JCGM 100:2008 (GUM), 7.2 and annex H.
"""

from __future__ import annotations

from math import sqrt

from carbon_ops.estimate.inputs import NAMES, Input, shape
from carbon_ops.estimate.record import CarbonRecord, Figure

_REASONS = {
    "no_energy": "no energy is known",
    "no_marginal_factor": "this region has no marginal factor",
    "no_average_factor": "this region has no average factor",
    "missing_intervals": "the grid signal has gaps in this span",
    "basis_mismatch": "the factors of this span have different bases or gases",
}


def _gas(figure: Figure) -> str:
    return "CO2e" if figure.factor is None else figure.factor.pieces[0].intensity.gas


def _mass(grams: float) -> str:
    for unit, size in (("t", 1e6), ("kg", 1e3), ("g", 1.0), ("mg", 1e-3)):
        if abs(grams) >= size:
            return f"{grams / size:.3g} {unit}"
    return "0 g" if grams == 0.0 else f"{grams * 1e6:.3g} µg"


def sentence(record: CarbonRecord) -> str:
    """Return the record in two lines, the chosen signal first."""
    pair = [record.marginal, record.average]
    if record.signal == "average":
        pair.reverse()
    return "\n".join(_line(figure, record.coverage) for figure in pair)


def _line(figure: Figure, coverage: float) -> str:
    o = figure.outcome
    if o is None:
        why = _REASONS.get(figure.reason or "", figure.reason)
        return f"unknown: {why} ({figure.label})"
    zone = "" if figure.factor is None else figure.factor.pieces[0].intensity.zone
    return (
        f"{_mass(o.mean)} {_gas(figure)} ({100 * coverage:.4g} % interval "
        f"{_mass(o.low)} to {_mass(o.high)}), {figure.label}, {zone}"
    )


def table(record: CarbonRecord) -> str:
    """Return the uncertainty budget of the chosen figure."""
    figure = record.figure
    o = figure.outcome
    if o is None:
        return _line(figure, record.coverage)
    head = (
        "input", "distribution", "estimate", "u (k=1)", "u rel.",
        "sensitivity", "contribution [g]", "share", "source",
    )  # fmt: skip
    rows: list[tuple[str, ...]] = [head]
    for i in figure.inputs:
        rows.append(_row(i, o.mean, figure.variance_share.get(i.name, 0.0)))
    joint = figure.variance_share.get("joint", 0.0)
    if joint:
        rows.append(
            ("joint", "", "", "", "", "", "", f"{joint:.1%}", "products of errors")
        )
    widths = [max(len(row[c]) for row in rows) for c in range(len(head))]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    lines += [
        "",
        f"result: {o.mean:.6g} g {_gas(figure)}, u = {o.sd:.3g} g (k=1), "
        f"{100 * record.coverage:.4g} % interval {o.low:.6g} to {o.high:.6g} g",
        f"label: {figure.label}",
        f"method: {o.method}, {o.detail}"
        + ("" if o.trials is None else f", {o.trials} trials, seed {o.seed}"),
    ]
    return "\n".join([*lines, *(f"warning: {text}" for text in record.warnings)])


def _row(i: Input, mean: float, share: float) -> tuple[str, ...]:
    of = shape(i.distribution)
    u = of.mean * sqrt(of.c2)
    sensitivity = mean / of.mean if of.mean else 0.0
    return (
        i.name,
        NAMES[type(i.distribution)],
        f"{of.mean:.6g}",
        f"{u:.3g}",
        f"{sqrt(of.c2):.1%}",
        f"{sensitivity:.4g}",
        f"{abs(sensitivity) * u:.3g}",
        f"{share:.1%}",
        i.source + (" (default)" if i.default else ""),
    )
