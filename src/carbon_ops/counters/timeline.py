"""Energy at any instant, from samples of running totals: E(t), and how sure it is.

Between two samples the point estimate is a straight line, or two where the neighbours
show that power changed; past the last sample as much is taken to follow as preceded. The
bounds use monotony and the zone's power bound only: the counter shows, at an instant
within ``read_ns`` of the time stamp, the energy of at most one update (1 ms) earlier.
They hold if the counter is monotone, the time stamps bracket the reads and power stays
under ``Zone.bound_w``. They bound the host's counter, not a task's share of it.

A zone whose reads failed is interpolated between the good reads around the failure.
Pure: no clock is read here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter

from carbon_ops.counters.accumulator import UPDATE_NS, bound_uj
from carbon_ops.errors import OutOfWindowError
from carbon_ops.model import Edge, Sample, Window, Zone, ZoneEnergy

_instant = attrgetter("monotonic_ns")
_NOTHING = 0, 0, 0, 0


def edge(samples: Sequence[Sample], zones: Sequence[Zone], t_ns: int) -> Edge:
    """Return the counters at ``t_ns`` [ns of CLOCK_MONOTONIC].

    Args:
        samples: Of one instance, oldest first.
        zones: Of the same instance, in the order of ``Sample.totals``.
        t_ns: The instant. Past the last sample the result is extrapolated.

    Raises:
        OutOfWindowError: ``t_ns`` lies before the oldest sample, or there is none.
    """
    index = bisect_right(samples, t_ns, key=_instant)
    if index == 0:
        raise OutOfWindowError(
            f"the instant {t_ns} ns is older than every sample kept",
            hint="Measure shorter spans, or mark their start while it is recent.",
        )
    here = samples[index - 1]
    points, lows, highs, blind = [], [], [], []
    for position, zone in enumerate(zones):
        after = -1 if index == len(samples) else _fresh(samples, index, position, 1)
        point, low, high = _zone_at(samples, index, after, position, zone, t_ns)
        points.append(point)
        lows.append(low)
        highs.append(high)
        if after < 0 and not (
            here.monotonic_ns == t_ns and here.totals[position].fresh
        ):
            blind.append(position)
    return Edge(
        t_ns,
        tuple(points),
        tuple(lows),
        tuple(highs),
        _busy_at(samples, index, t_ns),
        here,
        bool(blind) and any(zones[position].counted for position in blind),
        tuple(blind),
        samples[index] if index < len(samples) else None,
    )


def _fresh(samples: Sequence[Sample], index: int, position: int, way: int) -> int:
    """Return the nearest index, ``index`` included, of a good read; -1 if none."""
    if not 0 <= index < len(samples):
        return -1
    if samples[index].totals[position].fresh:
        return index
    ends = (0, index) if way < 0 else (index, -1)
    if never_read(samples[ends[0]], samples[ends[1]], position):
        return -1  # a zone that is dead for good costs no search at every look
    while 0 <= index < len(samples):
        if samples[index].totals[position].fresh:
            return index
        index += way
    return -1


def never_read(a: Sample, b: Sample, position: int) -> bool:
    """Return whether every read of a zone failed from ``a`` to ``b``, both included."""
    before, after = a.totals[position], b.totals[position]
    failed = after.failures - before.failures
    return not before.fresh and failed == b.sequence - a.sequence


def _zone_at(
    samples: Sequence[Sample],
    index: int,
    after: int,
    position: int,
    zone: Zone,
    t_ns: int,
) -> tuple[int, int, int]:
    """Return point, low and high [µJ] of one zone, on the scale of ``total_uj``.

    Energy that a gap before this instant may hide is not in them: both ends of a
    window share it (see :func:`window`).
    """
    # ``total_uj`` is carried along through failed reads, so this holds in any case.
    previous = samples[index - 1]
    base = previous.totals[position]
    before = index - 1 if base.fresh else _fresh(samples, index - 2, position, -1)
    start_uj, bound_w = base.total_uj, zone.bound_w
    # One tick, and the update and the read during which the counter may be late.
    tick = 1 - -zone.unit[0] // zone.unit[1]

    if after < 0:
        reached = samples[index] if index < len(samples) else samples[-1]
        if before < 0:  # read before these samples, or never: at most since the boot
            known, age_ns = reached, t_ns
            ahead_ns = t_ns + max(0, known.boottime_ns - known.monotonic_ns)
        else:
            known = samples[before]
            age_ns = t_ns - known.monotonic_ns
            ahead_ns = age_ns if known is reached else age_ns + _slept(known, reached)
        late_ns = UPDATE_NS + known.read_ns
        return (
            start_uj + _again_uj(samples, before, position, age_ns),
            start_uj - bound_uj(bound_w, late_ns) - tick,
            start_uj + bound_uj(bound_w, late_ns + ahead_ns) + tick,
        )

    b = samples[after]
    b_total = b.totals[position]
    b_uj, late_ns = b_total.total_uj, UPDATE_NS + b.read_ns
    ahead_ns = b.monotonic_ns - t_ns + _slept(previous, b)
    low = b_uj - bound_uj(bound_w, late_ns + ahead_ns) - tick
    hidden = b_total.slack_uj - base.slack_uj
    high = b_uj + hidden + bound_uj(bound_w, late_ns) + tick
    if before < 0:  # never read before this instant: only what follows is known
        return b_uj, low, high
    a = samples[before]
    late_ns = UPDATE_NS + a.read_ns
    low = max(low, start_uj - bound_uj(bound_w, late_ns) - tick)
    since_ns = t_ns - a.monotonic_ns + _slept(a, b)
    high = min(high, start_uj + bound_uj(bound_w, late_ns + since_ns) + tick)
    if after == before + 1 and before > 0 and after + 1 < len(samples):
        around = samples[before - 1], a, b, samples[after + 1]
        return _between(around, position, t_ns), low, high
    return _line(a, b, position, t_ns), low, high


def _slept(a: Sample, b: Sample) -> int:
    """Return how long the machine slept from ``a`` to ``b`` [ns]: time in which energy
    is spent and CLOCK_MONOTONIC stands still."""
    asleep_ns = b.boottime_ns - b.monotonic_ns - (a.boottime_ns - a.monotonic_ns)
    return max(0, asleep_ns)


def _line(a: Sample, b: Sample, position: int, t_ns: int) -> int:
    """Return the energy [µJ] at ``t_ns`` if power was the same from ``a`` to ``b``."""
    start, stop = a.totals[position].total_uj, b.totals[position].total_uj
    span_ns = b.monotonic_ns - a.monotonic_ns
    return start + (stop - start) * (t_ns - a.monotonic_ns) // span_ns


def _between(
    around: tuple[Sample, Sample, Sample, Sample], position: int, t_ns: int
) -> int:
    """Return the energy [µJ] between the two inner of four neighbouring samples.

    Where the power between them lies between the powers before and after, it changed
    from one to the other: the two straight lines meet where the energy fits. That is
    exact for a load that starts or ends (subcell resolution, A. Harten, J. Comput.
    Phys. 83 (1989) 148) and as good as one straight line for a ramp. Otherwise: one
    straight line.
    """
    first, a, b, last = around
    totals = [sample.totals[position] for sample in around]
    straight = _line(a, b, position, t_ns)
    if not (totals[0].fresh and totals[3].fresh):
        return straight
    if totals[0].slack_uj != totals[3].slack_uj:
        return straight
    zero, start, stop, end = [total.total_uj for total in totals]
    early = (start - zero) / (a.monotonic_ns - first.monotonic_ns)
    mean = (stop - start) / (b.monotonic_ns - a.monotonic_ns)
    late = (end - stop) / (last.monotonic_ns - b.monotonic_ns)
    if not min(early, late) < mean < max(early, late):
        return straight
    from_start = start + int(early * (t_ns - a.monotonic_ns))
    from_stop = stop - int(late * (b.monotonic_ns - t_ns))
    if early < late:
        return max(from_start, from_stop)
    return min(from_start, from_stop)


def _again_uj(
    samples: Sequence[Sample], before: int, position: int, age_ns: int
) -> int:
    """Return the energy [µJ] of the ``age_ns`` before the last reading: what passes for
    that of as long after it. 0 if no power was seen yet.

    Where less than that is known, its mean power goes on.
    """
    if before < 0:
        return 0
    last = samples[before]
    later, index = last, _fresh(samples, before - 1, position, -1)
    while index >= 0 and last.monotonic_ns - samples[index].monotonic_ns < age_ns:
        later, index = samples[index], _fresh(samples, index - 1, position, -1)
    total_uj = last.totals[position].total_uj
    if index >= 0:
        then_ns = last.monotonic_ns - age_ns
        return total_uj - _line(samples[index], later, position, then_ns)
    if later is last:
        return 0
    known_ns = last.monotonic_ns - later.monotonic_ns
    return (total_uj - later.totals[position].total_uj) * age_ns // known_ns


def _busy_at(samples: Sequence[Sample], index: int, t_ns: int) -> int:
    """Return the host's busy CPU time [ns] at ``t_ns``."""
    if index == len(samples):  # go on at the last rate
        if index == 1:
            return samples[0].host_busy_ns
        index -= 1
    a, b = samples[index - 1], samples[index]
    rise = b.host_busy_ns - a.host_busy_ns
    span_ns = b.monotonic_ns - a.monotonic_ns
    return a.host_busy_ns + rise * (t_ns - a.monotonic_ns) // span_ns


def window(start: Edge, end: Edge, zones: Sequence[Zone]) -> Window:
    """Return what the counters say about the time between two edges of one instance.

    ``wraps``, ``gaps``, ``resets`` and ``failures`` count events of the counted zones
    between the samples at the edges, so that adjoining windows share none. ``flags``
    look at every step that touches the window:

    ``gap``, ``reset``   some energy is an interval: the truth is within the bounds, the
                         point is their certain part only
    ``read_failed``      a read of a counted zone failed; good neighbours bridge it
    ``extrapolated``     an edge lies past the last good reading of a counted zone
    ``unread``           a counted zone gave no new reading since ``start``, or never one:
                         its part is unknown, whatever the point says

    Raises:
        ValueError: ``end`` lies before ``start``.
    """
    if end.at_ns < start.at_ns:
        raise ValueError(
            f"the window ends {start.at_ns - end.at_ns} ns before it starts"
        )
    energies = []
    first, last = start.sample, end.sample
    reached = _reached(end)
    length_ns = end.at_ns - start.at_ns
    if first is not reached:
        length_ns += _slept(first, reached)
    for zone, before, after, p0, p1, low0, low1, high0, high1 in zip(
        *(zones, first.totals, last.totals, start.point_uj, end.point_uj),
        *(start.low_uj, end.low_uj, start.high_uj, end.high_uj),
        strict=True,
    ):
        low = max(low1 - high0, 0)
        hidden = after.slack_uj - before.slack_uj
        high = min(high1 - low0 + hidden, bound_uj(zone.bound_w, length_ns))
        high = max(low, high)
        energies.append(ZoneEnergy(zone, min(max(p1 - p0, low), high), low, high))
    counted = [i for i, zone in enumerate(zones) if zone.counted]
    within = _events(first, last, counted)
    touching = within if reached is last else _events(first, reached, counted)
    flags: list[str] = []
    if touching != _NOTHING:
        named = zip(touching[1:], ("gap", "reset", "read_failed"), strict=True)
        flags = [flag for number, flag in named if number]
    if start.extrapolated or end.extrapolated:
        flags.append("extrapolated")
    if end.blind and any(_unread(start, end, i) for i in counted):
        flags.append("unread")
    return Window(
        start.at_ns,
        end.at_ns,
        tuple(energies),
        max(0, end.busy_ns - start.busy_ns),
        last.sequence - first.sequence,
        *within,
        tuple(flags),
    )


def _events(
    first: Sample, last: Sample, counted: Sequence[int]
) -> tuple[int, int, int, int]:
    """Return wraps, gaps, resets and failures of the counted zones in between."""
    if first is last:
        return _NOTHING
    wraps = gaps = resets = failures = 0
    for position in counted:
        before, after = first.totals[position], last.totals[position]
        wraps += after.wraps - before.wraps
        gaps += after.gaps - before.gaps
        resets += after.resets - before.resets
        failures += after.failures - before.failures
    return wraps, gaps, resets, failures


def _reached(end: Edge) -> Sample:
    """Return the sample that closes the step in which a window ends."""
    if end.after is not None and end.at_ns > end.sample.monotonic_ns:
        return end.after
    return end.sample


def _unread(start: Edge, end: Edge, position: int) -> bool:
    """Return whether the reads of a zone failed from ``start`` to the last sample."""
    first, last = start.sample.totals[position], end.sample.totals[position]
    return (
        position in end.blind
        and not last.fresh
        and (first.total_uj, first.slack_uj) == (last.total_uj, last.slack_uj)
    )
