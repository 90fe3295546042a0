"""``carbon-ops demo``: the main job from counter to audit, on a simulated counter."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carbon_ops.cli import options
from carbon_ops.cli.demo_attacks import ATTACKS
from carbon_ops.cli.demo_governor import simulated_governor
from carbon_ops.cli.demo_work import OPERATIONS
from carbon_ops.errors import CarbonOpsError

if TYPE_CHECKING:
    from rich.console import Console

    from carbon_ops.ledger.report import Report
    from carbon_ops.meter.span import Span

ORIGIN = "carbon-ops.example/demo"


@click.command("demo")
@click.option(
    "--region",
    default="DE",
    show_default=True,
    metavar="CODE",
    help="Electricity grid whose factors are used, e.g. DE, FRA, US-CA.",
)
@options.as_json()
def command(region: str, as_json: bool) -> int:
    """Measure real work on a simulated counter, record it, verify it, then attack it.

    Needs no root and no hardware. Starts a governor of its own on a SIMULATED energy
    counter, runs a few seconds of real CPU-bound Python, and prints what each piece used:
    joules with the bounds that the counter allows, milligrams of CO2 with a 95 % interval for
    the marginal factor, and the figure for the average factor beside it. The records go to
    a signed ledger in a temporary folder; copies of it are then falsified in three ways.
    Everything it started or wrote is gone at the end.

    \b
    exit status:
      0  the ledger verified and every attack was refused
      1  it did not: please report it
      2  the demo could not run
    """
    from rich.console import Console

    talk = Console(stderr=True)
    base = os.environ.get("XDG_RUNTIME_DIR")
    usable = base if base and os.access(base, os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(prefix="carbon-ops-demo-", dir=usable) as folder:
        result = _demonstrate(Path(folder), region, talk)
    if as_json:
        click.echo(json.dumps(result.as_json(), indent=2))
    else:
        result.show(Console())
    return 0 if result.sound() else 1


class Result:
    """What the demo found out."""

    def __init__(self, spans: list[Span], genuine: Report) -> None:
        self.spans = spans
        self.genuine = genuine
        self.attacks: list[tuple[str, Report]] = []

    def sound(self) -> bool:
        return self.genuine.verdict == "OK" and all(
            report.verdict == "TAMPERED" for _, report in self.attacks
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "simulated": True,
            "spans": [
                {"metric": span.metric, "estimate": _plain(span)} for span in self.spans
            ],
            "ledger": self.genuine.to_dict(),
            "attacks": [
                {"attack": name, **report.to_dict()} for name, report in self.attacks
            ],
        }

    def show(self, console: Console) -> None:
        console.print(_table(self.spans))
        console.print(
            "SIMULATED: the work and its CPU time are real, the counter is not. "
            "[dim]Joules: the task's share by CPU time, and below it the bounds the "
            "counter's samples allow. Carbon: mean and 95 % interval.[/dim]\n"
        )
        console.print(
            f"ledger  {self.genuine.size} records, signed: "
            f"[bold green]{self.genuine.verdict}[/bold green]"
        )
        for name, report in self.attacks:
            colour = "green" if report.verdict == "TAMPERED" else "red"
            console.print(
                f"attack  {name}: [bold {colour}]{report.verdict}[/bold {colour}] "
                f"{report.code}\n        [dim]{report.detail}[/dim]",
                highlight=False,
            )


def _plain(span: Span) -> dict[str, Any] | None:
    return span.estimate.to_dict() if span.estimate else None


def _demonstrate(folder: Path, region: str, talk: Console) -> Result:
    from carbon_ops.ledger.note import Signer
    from carbon_ops.ledger.store import Ledger
    from carbon_ops.ledger.verify import verify_ledger
    from carbon_ops.meter.logger import EnergyLogger

    signer = Signer.generate(ORIGIN)
    path = folder / "ledger"
    spans = []
    with (
        simulated_governor(folder) as socket,
        Ledger.init(path, origin=ORIGIN, signer=signer) as ledger,
        EnergyLogger(
            socket=str(socket), ledger=ledger, region=region, model="off"
        ) as logger,
        talk.status("measuring") as status,
    ):
        for number, (name, work) in enumerate(OPERATIONS, start=1):
            status.update(f"measuring {number}/{len(OPERATIONS)}: {name}")
            with logger.span(name, settle=True) as span:
                work()
            spans.append(span)
    with talk.status("verifying the ledger, then attacking copies of it"):
        result = Result(spans, verify_ledger(path, vkeys=[signer.vkey], origin=ORIGIN))
        for name, attack in ATTACKS:
            copy = folder / "attacked"
            shutil.copytree(path, copy)
            attack(copy)
            result.attacks.append(
                (name, verify_ledger(copy, vkeys=[signer.vkey], origin=ORIGIN))
            )
            shutil.rmtree(copy)
    if any(span.metric is None for span in spans):
        raise CarbonOpsError("a span ended without a metric")
    return result


def _table(spans: list[Span]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(
        title="Measured through the governor (SIMULATED counter)",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 1, 0),
    )
    table.add_column("operation\n[dim]seconds[/dim]")
    table.add_column("joules\n[dim]bounds[/dim]", justify="right")
    table.add_column("mode\n[dim]source[/dim]")
    table.add_column("marginal, mg CO2\n[dim]95 %, method[/dim]", justify="right")
    table.add_column("average, mg CO2e\n[dim]95 %[/dim]", justify="right")
    for span in spans:
        if span.metric is None:
            continue
        energy = span.metric["energy"]
        joules, bounds = energy["energy_j_total"], energy["bounds_j"]
        estimate = _plain(span)
        table.add_row(
            f"{span.operation}\n[dim]{span.metric['duration_s']:.2f} s[/dim]",
            ("unknown" if joules is None else f"{joules:.2f}")
            + "\n"
            + (f"[dim]{bounds[0]:.1f} – {bounds[1]:.1f}[/dim]" if bounds else "-"),
            f"{energy['attribution_mode']}\n"
            f"[dim]{energy['components']['cpu']['source']}[/dim]",
            _milligrams(estimate, "marginal", estimate["method"] if estimate else ""),
            _milligrams(estimate, "average", ""),
        )
    return table


def _milligrams(estimate: dict[str, Any] | None, signal: str, method: str) -> str:
    if estimate is None or estimate[signal]["g"] is None:
        return "unknown"
    one = estimate[signal]
    mean, low, high = (one[key] * 1_000 for key in ("g", "ci_low", "ci_high"))
    ends = f"{low:.2f} – {high:.2f}" + (f"\n{method}" if method else "")
    return f"{mean:.2f}\n[dim]{ends}[/dim]"
