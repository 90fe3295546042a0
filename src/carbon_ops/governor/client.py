"""The measured program's end: marks and windows of energy.

After one exchange on the socket a reading is a look at shared memory: microseconds, no
system call. Nothing here starts a thread; one client serves any number of threads, and
a forked child goes on with its parent's mapping. Whatever goes wrong is a
:class:`GovernorUnavailableError` whose ``reason`` the meter writes into the record; the
next call tries again.
"""

from __future__ import annotations

import os
from _thread import RLock
from time import monotonic_ns, sleep

from carbon_ops.counters import timeline
from carbon_ops.errors import GovernorUnavailableError, OutOfWindowError
from carbon_ops.governor.links import GoneError, RingLink, connect, not_ours
from carbon_ops.governor.ring import LostError
from carbon_ops.model import DEFAULT_SOCKET, Origin, Sample

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from carbon_ops.governor.links import Link
    from carbon_ops.model import Edge, Layout, Window

_STALE_INTERVALS = 10
_STALE_NS = 1_000_000_000  # at least: a busy machine may delay any process that long
_LOOK_NS = 1_000_000_000  # between two looks at whether the socket was replaced
# Between two questions to a governor that does not answer; twice as long each time.
_HUNG_NS, _MAX_HUNG_NS = 5_000_000_000, 60_000_000_000
_STEP_NS = 500_000_000  # a smaller move of the time of day is slewing, not a step


def default_socket_path() -> str:
    """Return ``CARBON_OPS_SOCKET`` from the environment, else the system's place."""
    return os.environ.get("CARBON_OPS_SOCKET") or DEFAULT_SOCKET


class Marked(Sample):
    """A sample to start from: whose it is, and the one before it for the power then."""

    instance_id: str
    before: Sample | None


class GovernorClient:
    """A :class:`carbon_ops.model.EnergySource` that asks the governor.

    Connects when first used, and anew after a failure.

    Args:
        path: The socket; default :func:`default_socket_path`.
        timeout_s: Longest wait for one answer [s].
    """

    def __init__(self, path: str | None = None, *, timeout_s: float = 0.5) -> None:
        self.path = path or default_socket_path()
        self._timeout_s = timeout_s
        self._link: Link | None = None
        self._inode: tuple[int, int] | None = None  # of the socket the link came from
        self._origin: tuple[Link, Origin] | None = None
        self._look_ns = 0  # when to look at the socket's inode again
        self._ended: tuple[Link, int, int, Edge] | None = None
        self._marked: tuple[Sample, Marked] | None = None
        self._tail: tuple[Sample, Sequence[Sample]] | None = None  # newest, neighbours
        self._hung_ns = 0  # until when not to ask a governor that did not answer,
        self._pause_ns = _HUNG_NS  # and for how long after the next time
        self._started()

    def _started(self) -> None:
        self._pid = os.getpid()
        self._lock = RLock()  # a signal handler may measure while its thread connects

    # --- EnergySource ---------------------------------------------------------------

    @property
    def origin(self) -> Origin:
        """Who serves: instance, boot, and the user who created the socket.

        ``uid`` is -1 where this user namespace has no number for that user.

        Raises:
            GovernorUnavailableError: nobody does.
        """
        link = self._connected()
        known = self._origin
        if known is None or known[0] is not link:
            layout = link.layout
            origin = Origin(layout.instance_id, layout.boot_id, link.uid, layout.source)
            self._origin = known = link, origin
        return known[1]

    @property
    def layout(self) -> Layout:
        """The zones, and what else stays the same during one run of the governor.

        Raises:
            GovernorUnavailableError: there is no governor.
        """
        return self._connected().layout

    def latest(self) -> Sample:
        """Return the newest sample.

        Raises:
            GovernorUnavailableError: there is none, or only one that is too old.
        """
        return self._newest()[1]

    def mark(self) -> Marked:
        """Return the newest sample, to start a window from.

        Raises:
            GovernorUnavailableError: as :meth:`latest`.
        """
        link, last = self._newest()
        known = self._marked
        if known is None or known[0] is not last:
            marked = Marked._make(last)
            marked.instance_id = link.layout.instance_id
            marked.before = link.previous(last)
            self._marked = known = last, marked
        return known[1]

    def window(
        self, mark: Sample, t0_ns: int, t1_ns: int, *, settle: bool = False
    ) -> Window:
        """Return the energy between two instants of CLOCK_MONOTONIC.

        Args:
            mark: What :meth:`mark` returned at ``t0_ns``; serves as the start where
                the samples of that time are no longer kept.
            t0_ns: Start [ns].
            t1_ns: End [ns], not in the future.
            settle: Wait, at most one interval, for the sample that follows ``t1_ns``.

        The flags are those of :func:`carbon_ops.counters.timeline.window`, and
        ``clock_step``: the time of day moved by more than half a second in between.

        Raises:
            GovernorUnavailableError: ``restarted``: the governor of the mark is gone;
                ``stale``: no sample is recent enough; others as :meth:`latest`.
        """
        link, last = self._newest(t1_ns)
        instance = getattr(mark, "instance_id", link.layout.instance_id)
        if (
            instance != link.layout.instance_id
            or len(mark.totals) != len(last.totals)
            or mark.sequence > last.sequence
        ):
            raise GovernorUnavailableError(
                "restarted", f"the governor at {self.path} was restarted meanwhile"
            )
        try:
            if settle:
                last = _settled(link, last, t1_ns)
            # A window that begins where the last one ended, with no sample since.
            known = self._ended
            if known and known[0] is link and known[1:3] == (last.sequence, t0_ns):
                start = known[3]
            else:
                start = _edge(link, t0_ns, mark)
            if t1_ns < last.monotonic_ns:
                end = _edge(link, t1_ns, None)
            else:  # as long as no sample has come, the neighbours are the same
                tail = self._tail
                if tail is None or tail[0] is not last:
                    self._tail = tail = last, link.around(t1_ns)
                end = timeline.edge(tail[1], link.layout.zones, t1_ns)
            if end.sample is last:
                self._ended = link, last.sequence, t1_ns, end
        except GoneError as error:
            self._leave(link)
            raise _lost(self.path, error) from None
        except (LostError, OutOfWindowError) as error:
            raise GovernorUnavailableError(
                "gap", f"the samples needed are not kept: {error}"
            ) from None
        except ZeroDivisionError:
            raise not_ours("two samples of one instant") from None
        result = timeline.window(start, end, link.layout.zones)
        if _stepped(mark, last):
            result = result._replace(flags=(*result.flags, "clock_step"))
        return result

    def since(self, mark: Sample) -> Sequence[Sample]:
        """Return the samples from ``mark`` on, as far as they are kept.

        Raises:
            GovernorUnavailableError: as :meth:`latest`.
        """
        link, _ = self._newest()
        try:
            return link.since(mark)
        except GoneError as error:
            self._leave(link)
            raise _lost(self.path, error) from None

    def close(self) -> None:
        """Let go of the governor; the next call connects anew."""
        link = self._link
        if link is not None:
            self._leave(link)

    # --- connection -----------------------------------------------------------------

    def _newest(self, need_ns: int | None = None) -> tuple[Link, Sample]:
        """Return the newest sample, from a new connection if the old one is no good.

        A sample is good if it is recent, or lies after ``need_ns``.
        """
        link = self._connected()
        try:
            last = link.latest()
        except GoneError:
            self._leave(link)
            link = self._connected()
            last = _first(self.path, link)
        now = monotonic_ns()
        if need_ns is not None and last.monotonic_ns >= need_ns:
            return link, last
        if link.ended or _too_old(link, last, now):
            link = self._again(link)
            last = _first(self.path, link)
            if _too_old(link, last, monotonic_ns()):
                raise GovernorUnavailableError(
                    "stale",
                    f"the governor's newest sample is {(now - last.monotonic_ns) / 1e9:.1f}"
                    " s old",
                    hint="`carbon-ops doctor` tells whether it still runs.",
                )
        elif now >= self._look_ns:
            link = self._looked(link, now)
            last = _first(self.path, link)
        return link, last

    def _connected(self) -> Link:
        if self._pid != os.getpid():  # forked: no thread of ours holds the new lock
            self._started()
            if not isinstance(self._link, RingLink):
                self._link = None  # answers would go to parent and child at random
        link = self._link
        if link is None:
            with self._lock:
                link = self._link
                if link is None:
                    link = self._connect()
                    self._link = link
        return link

    def _connect(self) -> Link:
        now = monotonic_ns()
        inode = self._socket_inode()
        if now < self._hung_ns and inode == self._inode:
            raise GovernorUnavailableError(
                "stale", "the governor did not answer a moment ago"
            )
        self._inode = inode
        self._look_ns = now + _LOOK_NS
        try:
            link = connect(self.path, self._timeout_s)
        except GovernorUnavailableError as error:
            if error.reason == "stale":
                self._hung_ns = monotonic_ns() + self._pause_ns
                self._pause_ns = min(2 * self._pause_ns, _MAX_HUNG_NS)
            raise
        self._hung_ns, self._pause_ns = 0, _HUNG_NS
        if not any(zone.counted for zone in link.layout.zones):
            link.close()
            raise GovernorUnavailableError(
                "no_zones", f"the governor at {self.path} has no zone that counts"
            )
        return link

    def _leave(self, link: Link) -> None:
        with self._lock:
            if self._link is link:
                self._link = self._ended = self._marked = self._tail = None
        link.close()

    def _again(self, old: Link) -> Link:
        """Return a new link in place of one that ended or stands still.

        The old one stays until then: a stopped governor may go on.
        """
        with self._lock:
            if self._link is not old and self._link is not None:
                return self._link  # another thread was faster
            self._link = self._connect()
            return self._link

    def _looked(self, link: Link, now_ns: int) -> Link:
        """Return a new link if another governor took over the socket's place."""
        self._look_ns = now_ns + _LOOK_NS
        inode = self._socket_inode()
        if inode is None or inode == self._inode:
            return link
        try:
            return self._again(link)
        except GovernorUnavailableError:
            return link  # it still samples: better than nothing

    def _socket_inode(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except (OSError, ValueError):
            return None
        return found.st_dev, found.st_ino


def _first(path: str, link: Link) -> Sample:
    try:
        return link.latest()
    except GoneError as error:
        raise _lost(path, error) from None


def _lost(path: str, error: GoneError) -> GovernorUnavailableError:
    return GovernorUnavailableError("refused", f"the governor at {path}: {error}")


def _too_old(link: Link, last: Sample, now_ns: int) -> bool:
    patience = max(_STALE_NS, _STALE_INTERVALS * link.layout.interval_ns)
    return now_ns - last.monotonic_ns > patience


def _settled(link: Link, last: Sample, t1_ns: int) -> Sample:
    """Wait at most one interval for a sample after ``t1_ns``; return the newest."""
    interval = link.layout.interval_ns
    until = monotonic_ns() + interval
    while last.monotonic_ns < t1_ns:
        now = monotonic_ns()
        if now >= until:
            break
        expected = last.monotonic_ns + interval - now
        sleep(min(max(expected, 1_000_000), until - now) / 1e9)
        last = link.latest()
    return last


def _edge(link: Link, t_ns: int, mark: Sample | None) -> Edge:
    zones = link.layout.zones
    try:
        samples = link.around(t_ns)
    except LostError:
        if mark is None:
            raise
        before: Sample | None = getattr(mark, "before", None)
        samples = (mark,) if before is None else (before, mark)
        first = samples[0].monotonic_ns
        if first - link.layout.interval_ns < t_ns < first:
            t_ns = first  # marked while the very first sample was being taken
    return timeline.edge(samples, zones, t_ns)


def _stepped(mark: Sample, last: Sample) -> bool:
    """Return whether the time of day moved otherwise than the boot clock did."""
    moved = (last.wall_ns - mark.wall_ns) - (last.boottime_ns - mark.boottime_ns)
    return abs(moved) > _STEP_NS
