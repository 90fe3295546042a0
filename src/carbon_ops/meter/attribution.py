"""Who used what part of the host's energy. Integers of microjoules, no I/O.

The identities hold exactly, because one term is always the difference of the others:
``total = task + rest`` and, with a measured idle baseline, ``total = idle + dynamic``.

Policies
    ``proportional``: the task carries ``E * c / b``, its share of the idle energy too.
    ``excluded``: ``(E - idle) * c / b`` with ``idle = min(P_idle * dt, E)``; the idle
    energy stays with the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import exp, log
from typing import NamedTuple

# Relative standard uncertainty of a share by CPU time on a host that others use too:
# SMT, turbo and hybrid cores make CPU seconds unequal. Our choice, no published figure:
# nobody seems to have measured shares by CPU time. Fahad et al. 2019 (Energies 12:2204)
# find average errors of dynamic energy up to 32 % with models that read performance
# counters and up to 73 % with on-chip sensors; CPU time alone knows less than the former.
SHARE_CV = 0.35

# What 10 Hz can tell about a short span: 95th percentile of the relative error with
# linearly interpolated edges (bursty load, 20/80 W, simulated), by span length in
# units of the sampling interval.
_SHORT = (
    (0.05, 1.56),
    (0.2, 1.26),
    (0.5, 0.86),
    (1.0, 0.45),
    (3.0, 0.12),
    (10.0, 0.035),
    (50.0, 0.007),
    (300.0, 0.001),
)
_P95 = 1.96  # that percentile of a normal distribution, in standard deviations


class Split(NamedTuple):
    """The energy of one component of the host, divided [µJ]."""

    task: int  # what is left is the rest's
    idle: int | None
    task_dynamic: int | None


def ratio(task_ns: int, busy_ns: int) -> tuple[float, bool]:
    """Return the task's share of the host's busy CPU time and whether it was clamped.

    0 when nothing was busy; never above 1.

    >>> ratio(1, 4)
    (0.25, False)
    >>> ratio(5, 4)
    (1.0, True)
    """
    if busy_ns <= 0:
        return (1.0, True) if task_ns > 0 else (0.0, False)
    if task_ns > busy_ns:
        return 1.0, True
    return max(task_ns, 0) / busy_ns, False


def share(total_uj: int, part: int, whole: int) -> int:
    """Return ``total_uj * part / whole`` [µJ], rounded down; 0 when ``whole`` is 0."""
    return total_uj * part // whole if whole else 0


def divide(
    total_uj: int, used: Mapping[str, int], busy_ns: int | None
) -> dict[str, int]:
    """Return the share of each [µJ] by its CPU time; what is left is the rest's.

    Args:
        total_uj: The host's energy [µJ].
        used: CPU time of each [ns].
        busy_ns: CPU time the host was busy [ns]; less than the sum of ``used``, as its
            coarse ticks can make it, counts as the sum.

    >>> divide(100, {"a": 1, "b": 2}, 10)
    {'a': 10, 'b': 20}
    """
    whole = max(busy_ns or 0, sum(used.values()))
    return {key: share(total_uj, ns, whole) for key, ns in used.items()}


def split(
    total_uj: int,
    part: int,
    whole: int,
    *,
    excluded: bool = False,
    idle_uj: int | None = None,
) -> Split | None:
    """Divide ``total_uj`` between a task and the rest.

    Args:
        total_uj: Energy of the host [µJ], not negative.
        part: The task's part of ``whole``, in any unit; limited to ``0..whole``.
        whole: What is divided (busy CPU time, used memory); 0 means nothing was used.
        excluded: Leave the idle energy with the rest; needs ``idle_uj``.
        idle_uj: Idle power x time [µJ]; limited to ``total_uj``. None: not measured.

    Returns:
        The split, or None when ``excluded`` is asked without a baseline.
    """
    whole = max(whole, 0)
    part = min(max(part, 0), whole)
    idle = task_dynamic = None
    if idle_uj is not None:
        idle = min(idle_uj, total_uj)
        task_dynamic = share(total_uj - idle, part, whole)
    if excluded:
        if task_dynamic is None:
            return None
        task = task_dynamic
    else:
        task = share(total_uj, part, whole)
    return Split(task, idle, task_dynamic)


def share_cv(share: float, cv: float = SHARE_CV) -> float:
    """Return the relative uncertainty of a share by CPU time.

    With ``s = ck / (ck + 1 - c)``, the power ratio ``k`` of our CPU seconds to the
    others' being 1 with uncertainty ``cv``, ``u(s)/s = (1 - c) * cv``: nothing when the
    task had the host alone, all of it for a small task on a busy host.
    """
    return cv * (1.0 - share)


def short_cv(duration_ns: int, interval_ns: int) -> float:
    """Return the relative standard uncertainty of a span because samples are sparse.

    Logarithmic interpolation in the table above, constant below it, and falling with
    1/length beyond it.

    >>> round(short_cv(100_000_000, 100_000_000), 2)
    0.23
    """
    length = duration_ns / interval_ns
    if length <= _SHORT[0][0]:
        return _SHORT[0][1] / _P95
    for (x0, y0), (x1, y1) in pairwise(_SHORT):
        if length <= x1:
            step = log(length / x0) / log(x1 / x0)
            return exp(log(y0) + step * log(y1 / y0)) / _P95
    return _SHORT[-1][1] * _SHORT[-1][0] / length / _P95
