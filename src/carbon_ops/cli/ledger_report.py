"""``carbon-ops ledger audit-report``: one page for the auditor."""

from __future__ import annotations

import json
import platform
from collections import Counter
from math import fsum
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
from carbon_ops.clock import rfc3339, wall_ns
from carbon_ops.ledger.lines import lines
from carbon_ops.ledger.report import Report
from carbon_ops.ledger.verify import verify_ledger


@click.command("audit-report")
@click.argument("ledger", type=click.Path())
@trusted_keys
@click.option("--anchor", multiple=True, type=click.Path(), help="Kept checkpoints.")
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
    Exit status: as `ledger verify`.
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
        f"- ledger: `{Path(ledger).absolute()}`",
        f"- origin: `{report.origin or 'unknown'}`",
        f"- checked: {rfc3339(wall_ns())} by carbon-ops {carbon_ops.__version__}, "
        f"Python {platform.python_version()}",
        *(f"- trusted key: `{key}`" for key in keys),
        f"- verdict: **{report.verdict}**{code}",
        f"- records: {report.size}, of which {report.covered} are under the signed "
        "checkpoint",
        "",
        "## What was checked, and what was not",
        "",
        *(f"- {line}" for line in report.lines),
        "",
    ]
    if report.checkpoint:
        indented = [f"    {line}".rstrip() for line in report.checkpoint.splitlines()]
        out += ["## The checkpoint", "", *indented, ""]
    if report.exit_code == 0:
        out += _contents(ledger, report.size)
    else:
        out += ["The records are not summed up: they are not verified.", ""]
    return "\n".join(out)


def _contents(ledger: str, size: int) -> list[str]:
    kinds: Counter[str] = Counter()
    energy: dict[str, list[float]] = {}
    grams: dict[str, list[float]] = {}
    missing = Counter[str]()
    times: list[str] = []
    for _, line in zip(range(size), lines(ledger), strict=False):
        record: dict[str, Any] = json.loads(line)
        kind = str(record.get("type"))
        kinds[kind] += 1
        at = record.get("timestamp_end", record.get("ts"))
        if isinstance(at, str):
            times = [min([at, *times[:1]]), max([at, *times[1:]])]
        if kind == "energy_metric":
            found = record.get("energy", {})
            mode = f"{found.get('attribution_mode')}, {_source(found)}"
            _add(energy, missing, mode, found.get("energy_wh_total"), kind)
        elif kind == "carbon_estimate":
            label = f"{record.get('signal', '?')}, {record.get('method') or 'none'}"
            _add(grams, missing, label, record.get("carbon_gco2e"), kind)
    out = ["## What the records say", "", "| type | records |", "|---|---|"]
    out += [f"| {kind} | {count} |" for kind, count in sorted(kinds.items())]
    if times:
        out += ["", f"From {times[0]} to {times[-1]}."]
    out += ["", "| energy, by attribution and source | Wh | records |", "|---|---|---|"]
    out += [f"| {k} | {fsum(v):.6g} | {len(v)} |" for k, v in sorted(energy.items())]
    out += ["", "| carbon, by signal and method | gCO2e | records |", "|---|---|---|"]
    out += [f"| {k} | {fsum(v):.6g} | {len(v)} |" for k, v in sorted(grams.items())]
    out += [f"\n{n} records of type {k} hold no figure." for k, n in missing.items()]
    return [*out, ""]


def _source(energy: dict[str, Any]) -> str:
    cpu = energy.get("components", {}).get("cpu", {})
    return str(cpu.get("source", "unknown"))


def _add(
    sums: dict[str, list[float]],
    missing: Counter[str],
    label: str,
    value: object,
    kind: str,
) -> None:
    if isinstance(value, (int, float)):
        sums.setdefault(label, []).append(float(value))
    else:
        missing[kind] += 1
