"""The governor: the only part that may need privileges. ``carbon-governor``.

Opens the counters, makes the socket, gives up what it no longer needs, then serves.
Standard library only; see ``docs/reference/protocol.md`` for what it says.
"""

from __future__ import annotations

import os
import signal
import sys
from _socket import socketpair  # see access.py
from time import sleep

from carbon_ops.errors import CarbonOpsError, SourceUnavailableError
from carbon_ops.governor import access
from carbon_ops.governor.options import (
    EXIT_FAULT,
    EXIT_ZONES_CHANGED,
    HELP,
    Options,
    parse,
)
from carbon_ops.governor.sampler import Sampler
from carbon_ops.governor.server import Server
from carbon_ops.sources.open import open_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbon_ops.model import Layout
    from carbon_ops.sources.base import Source


_SETTLE_S = 0.1  # zones come one by one, each before its files
_LOOKS = 100  # at most: a module that is loaded anew is back within seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    try:
        options = parse(sys.argv[1:] if argv is None else argv)
        if options.help:
            sys.stdout.write(HELP)
            return 0
        return _serve(options)
    except CarbonOpsError as error:
        _say(str(error))
        if error.hint:
            _say(error.hint)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the manager starts it again
        _say(f"ended by a fault of its own: {error!r}")
        return EXIT_FAULT


def _serve(options: Options) -> int:
    wakeup, wakeup_writer = socketpair()
    for end in (wakeup, wakeup_writer):
        end.setblocking(False)
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopping.append(number))
    signal.set_wakeup_fd(wakeup_writer.fileno(), warn_on_full_buffer=False)

    if options.msr_cpus is not None and options.rapl_mode != "msr":
        _say(f"--msr-cpus has no effect with --rapl-mode={options.rapl_mode}")
    listener = None
    sampler = _sampler(options)
    try:
        listener = access.listen(options.socket, _group(options))
        if not access.drop_capabilities():
            _say("could not give up its capabilities; going on with them")
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
            again = None
            if not stopping:
                _say("the counters of this machine have changed; looking at them anew")
                if access.is_managed():
                    return EXIT_ZONES_CHANGED
                again = _sampler_anew(options, stopping)
            if again is None:
                access.notify("STOPPING=1")
                return 0
            sampler = again
    finally:
        sampler.close()
        if listener is not None:
            listener.close()
        signal.set_wakeup_fd(-1)
        wakeup.close()
        wakeup_writer.close()


def _group(options: Options) -> str | None:
    """Return who may connect. What is simulated is no secret: it needs no group."""
    group = options.socket_group
    if group is None and options.rapl_mode != "simulated" and os.geteuid() == 0:
        return access.DEFAULT_GROUP
    return group


def _sampler(options: Options) -> Sampler:
    """Return a sampler that has taken its first sample."""
    sampler = Sampler(_open(options), options.poll_interval_ns)
    sampler.take()
    return sampler


def _sampler_anew(options: Options, stopping: Sequence[int]) -> Sampler | None:
    """Return a sampler once there are counters again; None when told to stop.

    Raises:
        SourceUnavailableError: there were none for ten seconds.
    """
    for look in range(_LOOKS):
        sleep(_SETTLE_S)
        if stopping:
            break
        try:
            return _sampler(options)
        except SourceUnavailableError:
            if look == _LOOKS - 1:
                raise
            if look == 0:
                _say("there are none now; waiting for them")
    return None


def _open(options: Options) -> Source:
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


if __name__ == "__main__":
    sys.exit(main())
