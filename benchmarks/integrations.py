"""What the framework integrations add to the work that they measure.

    .venvs/integrations/bin/python benchmarks/integrations.py [--calls 20000] [--json]

CPU time. Each case runs with and without the integration, in turns of short blocks, so
that noise meets both; the figure is the difference of their medians. The governor is simulated, in
a process of its own. The middleware is called directly, with 1 and with 100 requests in
flight; the windows that it closes once a second are in ``mean``. The training callback's
hooks are called as the Trainer calls them, around steps of no work (groups of steps) and
around steps that are each measured alone. No framework has to be installed.

exit status: 0 if a request costs at most 30 µs and a step at most 200 µs, else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from carbon_ops import EnergyLogger
from carbon_ops.integrations import asgi, wsgi
from carbon_ops.integrations.huggingface import EnergyHooks
from carbon_ops.integrations.shares import Shares
from carbon_ops.testing.governor import GovernorProcess

BLOCK = 500
LIMIT_REQUEST_US, LIMIT_STEP_US = 30.0, 200.0


def compare(
    plain: Callable[[int], object], measured: Callable[[int], object], calls: int
) -> dict[str, float]:
    """Return what ``measured`` takes more than ``plain`` for one call [µs]."""
    times: dict[Callable[[int], object], list[float]] = {plain: [], measured: []}
    for _ in range(max(4, calls // BLOCK)):
        for run, found in times.items():
            began = time.process_time_ns()
            run(BLOCK)
            found.append((time.process_time_ns() - began) / BLOCK / 1e3)
    return {
        "median_us": statistics.median(times[measured])
        - statistics.median(times[plain]),
        "mean_us": statistics.mean(times[measured]) - statistics.mean(times[plain]),
    }


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def _send(message: Any) -> None:
    return None


def asgi_run(app: Any, together: int) -> Callable[[int], None]:
    """Return a function that makes a number of requests, so many at a time."""

    async def some(count: int) -> None:
        for _ in range(count):
            await app({"type": "http", "method": "GET"}, None, _send)

    async def gathered(count: int) -> None:
        await asyncio.gather(*[some(count // together) for _ in range(together)])

    loop = asyncio.new_event_loop()
    return lambda count: loop.run_until_complete(gathered(count))


def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"ok"]


def wsgi_run(app: Any) -> Callable[[int], None]:
    def run(count: int) -> None:
        for _ in range(count):
            body = app({"REQUEST_METHOD": "GET"}, lambda *_: None)
            for _part in body:
                pass
            if hasattr(body, "close"):
                body.close()

    return run


def steps_run(hooks: EnergyHooks, *, alone: bool) -> Callable[[int], None]:
    """Return a function that calls the hooks of a number of steps."""
    args = SimpleNamespace(
        train_batch_size=8, gradient_accumulation_steps=1, world_size=1
    )
    state = SimpleNamespace(epoch=0.0, global_step=0, log_history=[])
    # A step before an evaluation ends its group, so that each is a span of its own.
    control = SimpleNamespace(should_evaluate=alone, should_save=False)
    hooks.on_train_begin(args, state, control)
    hooks.on_epoch_begin(args, state, control)

    def run(count: int) -> None:
        for _ in range(count):
            hooks.on_step_begin(args, state, control)
            hooks.on_step_end(args, state, control)

    return run


def nothing(count: int) -> None:
    for _ in range(count):
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result: dict[str, dict[str, float]] = {}
    with GovernorProcess() as governor:
        governor.wait_ready().close()

        def shares() -> Shares:
            return Shares("http", EnergyLogger(socket=governor.path, scope="process"))

        for together in (1, 100):
            result[f"ASGI request, {together} in flight"] = compare(
                asgi_run(asgi_app, together),
                asgi_run(asgi.EnergyMiddleware(asgi_app, shares()), together),
                given.calls,
            )
        result["WSGI request"] = compare(
            wsgi_run(wsgi_app),
            wsgi_run(wsgi.EnergyMiddleware(wsgi_app, shares())),
            given.calls,
        )
        logger = EnergyLogger(socket=governor.path)
        hooks = EnergyHooks(logger)
        result["training step, in groups"] = compare(
            nothing, steps_run(hooks, alone=False), given.calls
        )
        hooks.training.end()
        hooks = EnergyHooks(logger)
        result["training step, each alone"] = compare(
            nothing, steps_run(hooks, alone=True), given.calls // 4
        )
        hooks.training.end()
    if given.json:
        print(json.dumps(result))
    else:
        for name, found in result.items():
            print(
                f"{found['median_us']:8.1f} µs median {found['mean_us']:8.1f} µs mean  {name}"
            )
    limits = {"training": LIMIT_STEP_US}
    return int(
        any(
            found["median_us"] > limits.get(name.split()[0], LIMIT_REQUEST_US)
            for name, found in result.items()
        )
    )


if __name__ == "__main__":
    sys.exit(main())
