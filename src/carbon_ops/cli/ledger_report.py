"""``carbon-ops ledger audit-report``: one page for the auditor."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import click

import carbon_ops
from carbon_ops.cli.ledger_prove import write_new
from carbon_ops.cli.ledger_verify import (
    processes,
    progress_on_terminal,
    read_vkeys,
    trusted_keys,
)
from carbon_ops.cli.output import visible
from carbon_ops.clock import rfc3339, wall_ns
from carbon_ops.ledger.lines import lines, parsed
from carbon_ops.ledger.report import Report
from carbon_ops.ledger.verify import verify_ledger

_MOST_ROWS = 100  # of a table on the page


@click.command("audit-report")
@click.argument("ledger", type=click.Path())
@trusted_keys
@click.option(
    "--anchor",
    multiple=True,
    type=click.Path(),
    help="File with a checkpoint kept elsewhere.",
)
@click.option("--no-recompute", is_flag=True, help="Do not derive the grams anew.")
@click.option("-o", "--output", type=click.Path(), help="File (default: stdout).")
def audit_report(
    ledger: str,
    vkey: tuple[str, ...],
    vkey_file: tuple[str, ...],
    origin: str | None,
    anchor: tuple[str, ...],
    no_recompute: bool,
    output: str | None,
) -> int:
    """Verify LEDGER and write one page: what was checked, with what key, what was not.

    Sums are of the records as they stand there. Energy is in watt-hours, carbon in grams;
    modelled and measured energy are never added up into one figure.

    \b
    example:
      carbon-ops ledger audit-report audit --vkey "$VKEY" -o audit.md

    \b
    exit status:
      as `ledger verify`
    """
    keys = read_vkeys(vkey, vkey_file)
    with progress_on_terminal(ledger) as progress:
        report = verify_ledger(
            ledger,
            vkeys=keys,
            origin=origin,
            anchor=anchor,
            recompute=not no_recompute,
            jobs=processes(ledger, None),
            progress=progress,
        )
    text = page(ledger, keys, report)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_new(output, text.encode())
    return report.exit_code


def page(ledger: str, keys: list[str], report: Report) -> str:
    """Return the report as Markdown."""
    code = f" {report.code}: {report.detail}" if report.code else ""
    out = [
        "# Audit of a carbon-ops ledger",
        "",
        f"- ledger: `{visible(str(Path(ledger).absolute()))}`",
        f"- origin: `{visible(report.origin or 'unknown')}`",
        f"- checked: {rfc3339(wall_ns())} by carbon-ops {carbon_ops.__version__}, "
        f"Python {platform.python_version()}",
        *(f"- trusted key: `{key}`" for key in keys),
        f"- verdict: **{report.verdict}**{visible(code)}",
        f"- records: {report.size}, of which {report.covered} are under the signed "
        "checkpoint",
        "",
        "## What was checked, and what was not",
        "",
        *(f"- {visible(line)}" for line in report.lines),
        "",
    ]
    if report.checkpoint:
        shown = map(visible, report.checkpoint.split("\n"))
        indented = [f"    {line}".rstrip() for line in shown]
        out += ["## The checkpoint", "", *indented, ""]
    if report.exit_code == 0:
        out += _contents(ledger, report.size)
    else:
        out += ["The records are not summed up: they are not verified.", ""]
    return "\n".join(out)


class _Table:
    """Sums of what records say, by label; a label too many goes to the others."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[float, int]] = {}
        self.without: Counter[str] = Counter()  # records that hold no figure, by type

    def add(self, kind: str, label: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.without[kind] += 1
            return
        label = _cell(label)
        if label not in self.rows and len(self.rows) >= _MOST_ROWS:
            label = "(others)"
        total, count = self.rows.get(label, (0.0, 0))
        self.rows[label] = (total + value, count + 1)

    def page(self, about: str, unit: str) -> list[str]:
        out = ["", f"| {about} | {unit} | records |", "|---|---|---|"]
        out += [f"| {k} | {v:.6g} | {n} |" for k, (v, n) in sorted(self.rows.items())]
        return out


def _contents(ledger: str, size: int) -> list[str]:
    kinds, energy, grams = _Table(), _Table(), _Table()
    first = last = ""
    for line in islice(lines(ledger), size):
        record = parsed(line) or {}
        kind = str(record.get("type"))
        kinds.add(kind, kind, 1)
        at = record.get("timestamp_end", record.get("ts"))
        if isinstance(at, str):
            first, last = min(first or at, at), max(last, at)
        if kind == "energy_metric":
            found = _within(record, "energy")
            source = _within(found, "components", "cpu").get("source", "unknown")
            mode = f"{found.get('attribution_mode')}, {source}"
            energy.add(kind, mode, found.get("energy_wh_total"))
        elif kind == "carbon_estimate":
            label = f"{record.get('signal', '?')}, {record.get('method') or 'none'}"
            grams.add(kind, label, record.get("carbon_gco2e"))
    out = ["## What the records say", "", "| type | records |", "|---|---|"]
    out += [f"| {kind} | {n} |" for kind, (_, n) in sorted(kinds.rows.items())]
    if first:
        out += ["", f"From {_cell(first)} to {_cell(last)}."]
    out += energy.page("energy, by attribution and source", "Wh")
    out += grams.page("carbon, by signal and method", "gCO2e")
    for kind, n in (energy.without + grams.without).items():
        out.append(f"\n{n} records of type {kind} hold no figure.")
    return [*out, ""]


def _cell(text: str) -> str:
    """Return what a record says, so that it stays in its place on the page."""
    return visible(text[:200]).replace("|", "\\|")


def _within(record: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Return a member of a member; empty where a stranger put something else there."""
    found: object = record
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
