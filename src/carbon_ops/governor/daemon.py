"""The governor: the only part that may need privileges. ``carbon-governor``.

Opens the counters, makes the socket, gives up what it no longer needs, then serves.
Standard library only; see ``docs/reference/protocol.md`` for what it says.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys

from carbon_ops.errors import CarbonOpsError, SourceUnavailableError
from carbon_ops.governor import access
from carbon_ops.governor.sampler import INTERVAL_NS, Sampler
from carbon_ops.governor.server import Server
from carbon_ops.sources.open import open_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbon_ops.model import Layout
    from carbon_ops.sources.base import Source

DEFAULT_SOCKET = "/var/run/carbon-ops.sock"
# Faster would widen the side channel of CVE-2020-8694 that fixed samples narrow, slower
# would let a counter wrap unseen.
MIN_INTERVAL_S, MAX_INTERVAL_S = 0.02, 10.0
EXIT_ZONES_CHANGED = 75  # EX_TEMPFAIL of sysexits.h: start again


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    options = _parser().parse_args(argv)
    try:
        return _serve(options)
    except CarbonOpsError as error:
        _say(str(error))
        if error.hint:
            _say(error.hint)
        return error.exit_code


def _serve(options: argparse.Namespace) -> int:
    wakeup, wakeup_writer = socket.socketpair()
    for end in (wakeup, wakeup_writer):
        end.setblocking(False)
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopping.append(number))
    signal.set_wakeup_fd(wakeup_writer.fileno(), warn_on_full_buffer=False)

    listener = None
    sampler = _sampler(options)
    try:
        listener = access.listen(options.socket, _group(options))
        access.drop_capabilities()
        while True:
            server = Server(
                listener,
                sampler,
                wakeup=wakeup,
                watchdog_ns=access.watchdog_interval_ns(),
                stopping=stopping,
            )
            _announce(sampler.layout, listener.path)
            try:
                server.run()
            finally:
                server.close()
            if stopping:
                access.notify("STOPPING=1")
                return 0
            _say("the counters of this machine have changed; looking at them anew")
            if access.is_managed():
                return EXIT_ZONES_CHANGED
            sampler = _sampler(options)
    finally:
        sampler.close()
        if listener is not None:
            listener.close()
        signal.set_wakeup_fd(-1)
        wakeup.close()
        wakeup_writer.close()


def _group(options: argparse.Namespace) -> str | None:
    """Return who may connect. What is simulated is no secret: it needs no group."""
    group: str | None = options.socket_group
    if group is None and options.rapl_mode != "simulated" and os.geteuid() == 0:
        return access.DEFAULT_GROUP
    return group


def _sampler(options: argparse.Namespace) -> Sampler:
    """Return a sampler that has taken its first sample."""
    sampler = Sampler(_open(options), options.poll_interval)
    sampler.take()
    return sampler


def _open(options: argparse.Namespace) -> Source:
    source = open_source(
        options.rapl_mode,
        powercap_root=options.powercap_root,
        msr_cpus=options.msr_cpus,
    )
    if not any(zone.counted for zone in source.zones):
        names = ", ".join(zone.key for zone in source.zones) or "none"
        source.close()
        raise SourceUnavailableError(
            f"no zone that counts towards the host's energy (found: {names})",
            hint="A package zone is needed; see `carbon-ops doctor`.",
        )
    return source


def _announce(layout: Layout, path: str) -> None:
    counted = sum(zone.counted for zone in layout.zones)
    _say(
        f"serving {counted} of {len(layout.zones)} zones from "
        f"{layout.source} every {layout.interval_ns / 1e9:g} s on {path}"
    )
    access.notify(f"READY=1\nSTATUS={layout.source}, {len(layout.zones)} zones")


def _say(text: str) -> None:
    sys.stderr.write(f"carbon-governor: {text}\n")
    sys.stderr.flush()


def _interval(text: str) -> int:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not MIN_INTERVAL_S <= seconds <= MAX_INTERVAL_S:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not between {MIN_INTERVAL_S} and {MAX_INTERVAL_S} seconds"
        )
    return round(seconds * 1e9)


def _cpus(text: str) -> list[int]:
    """Return the CPUs in a list such as ``0,8-9``, as the kernel writes them."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not (first.isascii() and first.isdigit() and (not last or last.isdigit())):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 0,8-9")
        found += range(int(first), int(last or first) + 1)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="carbon-governor",
        description="Read the host's energy counters ten times a second and share the "
        "running totals with the users in one group. Energy is in microjoules; the "
        "counters are read at fixed times only, never because a client asks.",
        epilog="exit status: 0 after SIGTERM or SIGINT; 2 when it cannot serve, with "
        f"the reason; {EXIT_ZONES_CHANGED} under a service manager when zones appeared "
        "or vanished and it should be started again.",
    )
    parser.add_argument(
        "--rapl-mode",
        choices=("sysfs", "msr", "simulated"),
        default="sysfs",
        help="powercap files (default), model-specific registers, or a simulation that "
        "says so in every record",
    )
    parser.add_argument(
        "--powercap-root",
        default="/sys/class/powercap",
        metavar="DIR",
        help="%(default)s",
    )
    parser.add_argument(
        "--msr-cpus",
        type=_cpus,
        metavar="LIST",
        help="CPUs to read registers on, such as 0,8 (default: one of each package)",
    )
    parser.add_argument(
        "--socket", default=DEFAULT_SOCKET, metavar="PATH", help="%(default)s"
    )
    parser.add_argument(
        "--socket-group",
        metavar="GROUP",
        help="name or number of the group that may connect (default: carbon-users for "
        "root unless simulated, else the own group)",
    )
    parser.add_argument(
        "--poll-interval",
        type=_interval,
        default=INTERVAL_NS,
        metavar="SECONDS",
        help=f"time between samples, {MIN_INTERVAL_S} to {MAX_INTERVAL_S} (default: 0.1)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
