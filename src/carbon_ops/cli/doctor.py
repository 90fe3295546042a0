"""``carbon-ops doctor``: what can be measured here, why not more, and what mends it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

import click

import carbon_ops
from carbon_ops.cli import diagnosis, facts, options
from carbon_ops.cli.diagnosis import Finding
from carbon_ops.cli.output import fit

COLOURS = {
    "measured": "green",
    "available": "green",
    "modelled": "yellow",
    "unavailable": "red",
}

T = TypeVar("T")


@click.command("doctor")
@options.socket
@options.as_json()
@click.option(
    "--strict",
    is_flag=True,
    help="Exit with 1 unless CPU energy is measured and nothing is broken.",
)
@click.option(
    "--config",
    "show_config",
    is_flag=True,
    help="Show each setting and where its value comes from, and nothing else.",
)
def command(socket: str | None, as_json: bool, strict: bool, show_config: bool) -> int:
    """Say what is measured on this machine, what is modelled, and what is missing.

    "measured" comes from a counter, "modelled" from CPU load or a simulated counter,
    "unavailable" is not in any result. The rest are the parts that measuring needs.
    Nothing is changed, started or fetched.

    \b
    examples:
      carbon-ops doctor
      carbon-ops doctor --json | python -m json.tool
      carbon-ops doctor --strict && ./measure-everything.sh
      carbon-ops doctor --config

    \b
    exit status:
      0  the report was printed
      1  --strict: CPU energy is not measured, or something here is broken
      2  wrong usage; --config: a setting cannot be used
    """
    if show_config:
        _print_config(socket, as_json=as_json)
        return 0
    host = facts.host()
    findings = examine(host, socket)
    if as_json:
        click.echo(json.dumps(diagnosis.as_json(host, findings), indent=2))
    else:
        _print(host, findings)
    return 1 if strict and not diagnosis.strict_ok(findings) else 0


def examine(host: facts.Host, socket: str | None) -> dict[str, Finding]:
    """Look at every component; a look that fails is a finding too."""
    from carbon_ops import config
    from carbon_ops.meter import baseline

    if socket is None:  # a setting that cannot be used is a finding of its own below
        socket = _or(lambda: str(config.load()["socket"].value), lambda _: None)
    governor = _or(
        lambda: facts.governor(socket),
        lambda error: facts.Governor(str(socket), "protocol", str(error)),
    )
    direct = _or(
        lambda: facts.counters("sysfs"),
        lambda error: facts.Counters((), str(error), False),
    )
    group, see = facts.group(), diagnosis
    cgroup = _or(facts.cgroup, lambda _: facts.Cgroup(None, None))
    checks: dict[str, Callable[[], Finding]] = {
        see.CPU: lambda: see.cpu(
            host, governor, direct, facts.model(), cgroup.cpu_limit
        ),
        "dram energy": lambda: see.dram(governor, direct),
        "gpu energy, nvidia": lambda: see.gpu("nvidia", facts.nvidia()),
        "gpu energy, amd": lambda: see.gpu("amd", facts.amd()),
        "governor socket": lambda: see.socket(governor, group, direct),
        f"group {facts.GROUP}": lambda: see.membership(group),
        "cgroup CPU time": lambda: see.cgroup(cgroup),
        "energy filtering": lambda: see.filtering(governor),
        "msr module": lambda: see.msr(host, facts.msr()),
        "ledger signing": lambda: see.signing(facts.signing()),
        "idle baseline": lambda: see.idle(baseline.stored()),
        "settings": lambda: see.settings(facts.settings()),
        "live providers": lambda: see.live(*facts.live()),
    }
    return {name: _or(check, see.failed) for name, check in checks.items()}


def _or(look: Callable[[], T], otherwise: Callable[[Exception], T]) -> T:
    # A doctor that falls ill itself helps nobody: whatever happens becomes a finding.
    try:
        return look()
    except Exception as error:  # noqa: BLE001
        return otherwise(error)


def _print_config(socket: str | None, *, as_json: bool) -> None:
    """Print every setting with its origin; an unusable one raises ConfigError."""
    from carbon_ops import config

    settings = facts.settings()
    if socket:
        settings["socket"] = config.Setting(socket, "argument")
    if as_json:
        shown = {name: one._asdict() for name, one in settings.items()}
        document = {"schema": "carbon-ops/settings/1", "settings": shown}
        click.echo(json.dumps(document, indent=2))
        return
    for name, setting in settings.items():
        value = "-" if setting.value is None else str(setting.value)
        click.echo(f"{name:<14} {value:<28} {setting.origin}")
        click.echo(f"{'':<14} {config.KEYS[name].help}")


def _print(host: facts.Host, findings: dict[str, Finding]) -> None:
    where = [f"{host.cpu}, {host.cpus} CPUs"]
    if host.hypervisor:
        where.append(f"virtual machine ({host.hypervisor})")
    if host.container:
        where.append(f"container ({host.container})")
    click.echo(
        f"carbon-ops {carbon_ops.__version__}, Python {host.python}, {host.kernel}"
    )
    click.echo(fit(", ".join(where), 1, 0) + "\n")
    for name, finding in findings.items():
        found = fit(f"{finding.state:<12}{name}: {finding.detail}", 1, 12)
        click.echo(click.style(found[:12], fg=COLOURS[finding.state]) + found[12:])
        if finding.why:
            click.echo(fit(f"{'':12}why: {finding.why}", 1, 12))
        if finding.fix:  # whole, so that it can be copied
            click.echo(f"{'':12}fix: {finding.fix}")
