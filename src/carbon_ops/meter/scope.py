"""Whose CPU time counts: what a ``scope`` argument means."""

from __future__ import annotations

from carbon_ops.errors import InvalidInputError
from carbon_ops.meter import loading, process_tree
from carbon_ops.meter.lanes import Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.meter.process_tree import CpuClock


def leader_of(clock_: CpuClock) -> int | None:
    """Return the process whose CPU affinity is the scope's, None if it has none."""
    leader: int | None = getattr(clock_, "leader", None)
    return leader


_pools: dict[str, Pool] = {}  # of this process, for all loggers together


def pool_of(clock_: CpuClock) -> Pool | None:
    """Return the pool that spans of this scope share; None: spans don't share."""
    if not isinstance(clock_, (process_tree.OwnTree, process_tree.OwnProcess)):
        return None
    pool = _pools.get(clock_.name)
    if pool is None:
        pool = _pools.setdefault(clock_.name, Pool(clock_.read))
    return pool


def clock_of(scope: str | int | CpuClock) -> CpuClock:
    """Return the clock that a ``scope`` argument means.

    Raises:
        InvalidInputError: no such scope, or no such process.
    """
    if isinstance(scope, str) and scope.isdecimal() and len(scope) < 20:
        scope = int(scope)  # from the environment, where everything is text
    if isinstance(scope, str):
        if scope == "tree":
            return process_tree.OwnTree()
        if scope == "children":
            return process_tree.OwnTree(with_self=False)
        if scope == "process":
            return process_tree.OwnProcess()
        if scope == "thread":
            return process_tree.OwnThread()
        kind, _, path = scope.partition(":")
        if kind == "cgroup":
            with loading.lock:
                from carbon_ops.sources import cgroup

            return cgroup.CgroupClock(path or cgroup.own_path())
    elif isinstance(scope, int):
        try:
            return process_tree.TreeClock(scope)
        except OSError as error:
            raise InvalidInputError(f"there is no process {scope}") from error
    elif hasattr(scope, "read"):
        return scope
    raise InvalidInputError(
        f"unknown scope {scope!r}",
        hint="Use tree, children, process, thread, cgroup, cgroup:PATH or a "
        "process number.",
    )
