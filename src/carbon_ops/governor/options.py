"""The governor's command line. Pure: words in, options out.

By hand, because ``argparse`` would be a sixth of the governor's memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from carbon_ops.errors import InvalidInputError
from carbon_ops.model import DEFAULT_SOCKET

MODES = ("sysfs", "msr", "simulated")
# Faster would widen the side channel of CVE-2020-8694 that fixed samples narrow, slower
# would let a counter wrap unseen.
MIN_INTERVAL_S, MAX_INTERVAL_S = 0.02, 10.0
EXIT_ZONES_CHANGED = 75  # EX_TEMPFAIL of sysexits.h: start again
EXIT_FAULT = 70  # EX_SOFTWARE
_MAX_CPU = 65_535

HELP = f"""\
usage: carbon-governor [--rapl-mode MODE] [--powercap-root DIR] [--msr-cpus LIST]
                       [--socket PATH] [--socket-group GROUP]
                       [--poll-interval SECONDS]

Read the host's energy counters ten times a second and share the running totals with
the users in one group. Energy is in microjoules. The counters are read at fixed times
only, never because a client asks.

options:
  --rapl-mode MODE          sysfs: powercap files (default); msr: model-specific
                            registers; simulated: says so in every record
  --powercap-root DIR       where powercap's zones are (default: /sys/class/powercap)
  --msr-cpus LIST           CPUs to read registers on, such as 0,8-9 (default: one of
                            each package)
  --socket PATH             (default: {DEFAULT_SOCKET})
  --socket-group GROUP      name or number of the group that may connect (default:
                            carbon-users for root unless simulated, else the own group)
  --poll-interval SECONDS   time between samples, {MIN_INTERVAL_S} to {MAX_INTERVAL_S} (default: 0.1)
  -h, --help                this text

examples:
  sudo carbon-governor
  sudo carbon-governor --rapl-mode=msr --msr-cpus=0,1
  carbon-governor --rapl-mode=simulated --socket=/tmp/try.sock

exit status:
  0 after SIGTERM or SIGINT; 2 when it cannot serve, with the reason; {EXIT_FAULT} after a
  fault of its own; {EXIT_ZONES_CHANGED} under a service manager when zones appeared or vanished and it
  should be started again.
"""


class Options(NamedTuple):
    """What was asked for."""

    rapl_mode: str = "sysfs"
    powercap_root: str = "/sys/class/powercap"
    msr_cpus: tuple[int, ...] | None = None
    socket: str = DEFAULT_SOCKET
    socket_group: str | None = None
    poll_interval_ns: int = 100_000_000
    help: bool = False


def parse(words: Sequence[str]) -> Options:
    """Return the options in ``words``, as ``--name value`` or ``--name=value``.

    Raises:
        InvalidInputError: an option or value that means nothing.

    >>> parse(["--rapl-mode=msr", "--msr-cpus", "0,8-9"]).msr_cpus
    (0, 8, 9)
    """
    options = Options()
    left = list(words)
    while left:
        name, given, value = left.pop(0).partition("=")
        if name in ("-h", "--help"):
            return options._replace(help=True)
        if name not in _NAMES:
            raise _wrong(f"unknown option {name!r}")
        if not given:
            if not left:
                raise _wrong(f"{name} needs a value")
            value = left.pop(0)
        options = _set(options, name, value)
    return options


_NAMES = (
    *("--rapl-mode", "--powercap-root", "--msr-cpus"),
    *("--socket", "--socket-group", "--poll-interval"),
)


def _set(options: Options, name: str, value: str) -> Options:
    if not value:
        raise _wrong(f"{name} needs a value")
    if name == "--rapl-mode":
        if value not in MODES:
            raise _wrong(f"{name}: {value!r} is not one of {', '.join(MODES)}")
        return options._replace(rapl_mode=value)
    if name == "--powercap-root":
        return options._replace(powercap_root=value)
    if name == "--msr-cpus":
        return options._replace(msr_cpus=_cpus(value))
    if name == "--socket":
        return options._replace(socket=value)
    if name == "--socket-group":
        return options._replace(socket_group=value)
    return options._replace(poll_interval_ns=_interval_ns(value))


def _interval_ns(text: str) -> int:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not MIN_INTERVAL_S <= seconds <= MAX_INTERVAL_S:
        raise _wrong(
            f"--poll-interval: {text!r} is not between {MIN_INTERVAL_S} and "
            f"{MAX_INTERVAL_S} seconds"
        )
    return round(seconds * 1e9)


def _cpus(text: str) -> tuple[int, ...]:
    """Return the CPUs in a list such as ``0,8-9``, as the kernel writes them."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        ends = (first, last or first)
        if not all(end.isascii() and end.isdigit() and len(end) < 6 for end in ends):
            raise _wrong(f"--msr-cpus: {text!r} is not a list such as 0,8-9")
        low, high = int(ends[0]), int(ends[1])
        if not low <= high <= _MAX_CPU:
            raise _wrong(f"--msr-cpus: {part!r} is not a range of CPUs")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def _wrong(message: str) -> InvalidInputError:
    return InvalidInputError(
        message, hint="`carbon-governor --help` lists the options."
    )
