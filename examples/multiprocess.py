"""A pool of worker processes: the parent's span pays for its children too.

The same work is measured with both scopes. "tree" (the default) counts this process and
its children, living and ended; "process" misses what the children do.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

from carbon_ops import EnergyLogger


def square_sum(n: int) -> int:
    return sum(i * i for i in range(n))


def measured(scope: str) -> float:
    with EnergyLogger(scope=scope) as logger:
        with (
            logger.span("pool", settle=True) as span,
            ProcessPoolExecutor(2) as pool,
        ):
            list(pool.map(square_sum, [1_500_000] * 4))
        assert span.metric is not None
        metric = span.metric
        energy = metric["energy"]
        print(
            f"scope {scope:8} {metric['cpu']['process_s']:.2f} s of CPU, "
            f"{energy['energy_j_total']:.2f} J of the task, source: "
            f"{energy['components']['cpu']['source']}"
        )
        return metric["cpu"]["process_s"]


if __name__ == "__main__":
    tree, alone = measured("tree"), measured("process")
    print(f"CPU time that scope 'process' does not see: {tree - alone:.2f} s")
