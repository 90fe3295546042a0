"""``carbon-ops export``: the host's energy for the tools people already run."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import click

from carbon_ops.cli import options
from carbon_ops.cli.output import put

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

DEFAULT = "127.0.0.1:9420"


@click.group("export")
def command() -> None:
    """Give the host's energy to other tools. Needs the governor, and no root."""


@command.command("prometheus")
@click.option(
    "--listen",
    metavar="ADDRESS:PORT",
    default=DEFAULT,
    show_default=True,
    help="Where to answer GET /metrics.",
)
@click.option(
    "--textfile",
    metavar="FILE.prom",
    help="Write a file for node_exporter's textfile collector instead of listening.",
)
@click.option(
    "-i",
    "--interval",
    type=options.Seconds(1, 3600),
    metavar="SECONDS",
    help="With --textfile: write again and again. Default: once.",
)
@click.option(
    "--top",
    type=click.IntRange(0, 500),
    default=20,
    show_default=True,
    metavar="N",
    help="Most programs, and most containers, with a series of their own.",
)
@click.option("--parts", is_flag=True, help="Show core and uncore, parts of a package.")
@options.region
@click.option("--ledger", metavar="DIR", help="Show this ledger; verify it each hour.")
@click.option("--vkey", multiple=True, help="Trusted key of the ledger.")
@options.socket
@click.option(
    "--cgroup-root",
    metavar="DIR",
    default="/sys/fs/cgroup",
    show_default=True,
    help="Where the host's cgroups are; elsewhere inside a container.",
)
@click.option(
    "--pod-logs",
    metavar="DIR",
    default="/var/log/pods",
    show_default=True,
    help="Folder whose names tell the names of Kubernetes pods.",
)
def prometheus(
    listen: str,
    textfile: str | None,
    interval: float | None,
    top: int,
    parts: bool,
    region: str | None,
    ledger: str | None,
    vkey: tuple[str, ...],
    socket: str | None,
    cgroup_root: str,
    pod_logs: str,
) -> int:
    """Show the host's energy to Prometheus.

    Energy is in joules, power in watts, intensity in grams of CO2e per kWh. Counters are
    cumulative and never wrap. What has no sensor has no series; without a governor there
    is no energy at all, and carbon_ops_measurement_info says why. The counted energy is
    divided by CPU time among programs by name, and among containers; each division and
    its (rest) is the whole, so add up one of them, not both.

    \b
    examples:
      carbon-ops export prometheus
      carbon-ops export prometheus --listen '[::1]:9420' --region DE
      carbon-ops export prometheus --interval 15 \\
          --textfile /var/lib/prometheus/node-exporter/carbon-ops.prom

    \b
    exit status:
      0  ended by Ctrl-C or SIGTERM, or the file is written
      1  the file cannot be written
      2  wrong usage, the address is taken, or prometheus-client is missing
    """
    from carbon_ops import config
    from carbon_ops.export import prometheus as export
    from carbon_ops.export.host import HostView

    where = export.address(listen)
    view = HostView(
        str(config.chosen("socket", socket)),
        # One look alone divides nothing.
        top=0 if textfile is not None and interval is None else top,
        parts=parts,
        region=config.chosen("region", region),
        cgroup_root=cgroup_root,
        pod_logs=pod_logs,
    )
    views: list[export.View] = [view]
    if ledger is not None:
        from carbon_ops.export.ledger import LedgerView

        views.append(LedgerView(ledger, vkey))
    try:
        source = export.registry(*views)
        if textfile is not None:
            return _write(textfile, interval, source)
        with export.Server(where, source) as server:
            host = f"[{where[0]}]" if ":" in where[0] else where[0]
            put(f"http://{host}:{server.server_port}/metrics\n")
            ended = _until_told_to_end()
            threading.Thread(target=server.serve_forever, daemon=True).start()
            ended.wait()
            server.shutdown()
    finally:
        view.close()
    return 0


def _write(path: str, interval: float | None, source: CollectorRegistry) -> int:
    from carbon_ops.export.prometheus import write_textfile

    ended = _until_told_to_end()
    status = 0
    while True:
        try:
            write_textfile(path, source)
            status = 0
        except OSError as error:
            click.echo(f"carbon-ops: {path} not written: {error.strerror}", err=True)
            status = 1
        if interval is None or ended.wait(interval):
            return status


def _until_told_to_end() -> threading.Event:
    """Return what SIGINT and SIGTERM set."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    return ended
