"""Two users' processes under one governor: shares, the rest, and sums that fit.

The governor runs on SIMULATED counters here, whose power follows this host's real load.
Started by root, the two tasks belong to two other users, who are let in by the socket's
group; otherwise both belong to you.
"""

from __future__ import annotations

import json
import os
import sys
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection

from carbon_ops import EnergyLogger
from carbon_ops.testing.governor import GovernorProcess

SECONDS = 1.5
USERS = (("alice", 20_001, 1.0), ("bob", 20_002, 0.4))  # name, uid, share of time busy


def task(name: str, uid: int, busy: float, path: str, pipe: Connection) -> None:
    """Become another user, if allowed, and work under a logger of one's own."""
    if os.geteuid() == 0:
        os.setgroups([os.getegid()])  # stands for membership of carbon-users
        os.setuid(uid)
        os.environ["HOME"] = "/"  # root's settings are not theirs
    logger = EnergyLogger(socket=path, scope="process")
    with logger.span(name, settle=True) as span:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            until = time.monotonic() + 0.05 * busy
            while time.monotonic() < until:
                sum(i * i for i in range(1_000))
            time.sleep(0.05 * (1 - busy))
    logger.close()
    pipe.send((os.getuid(), span.metric))
    pipe.close()


def microjoules(joules: float | None) -> int:
    assert joules is not None
    return round(joules * 1e6)


def main() -> int:
    fork = get_context("fork")
    with GovernorProcess("--rapl-mode=simulated") as governor:
        governor.wait_ready().close()
        os.chmod(governor.directory, 0o750)  # the group may pass
        with EnergyLogger(socket=governor.path) as logger:
            logger.log_metrics("start")  # everything is loaded before users change
            answers = []
            with logger.span("both", settle=True) as both:
                pipes = []
                for user in USERS:
                    mine, theirs = fork.Pipe(duplex=False)
                    fork.Process(
                        target=task, args=(*user, governor.path, theirs)
                    ).start()
                    theirs.close()
                    pipes.append(mine)
                answers = [pipe.recv() for pipe in pipes]
    shares, kept = 0, True
    for (name, _, busy), (uid, metric) in zip(USERS, answers, strict=True):
        energy = metric["energy"]
        host = energy["host"]
        if energy["attribution_mode"] != "governor":
            print(json.dumps(energy), file=sys.stderr)
            return 1
        this, rest, total = [
            microjoules(host[key]) for key in ("this_task_j", "rest_j", "total_j")
        ]
        shares += this
        kept = kept and this + rest == total
        print(
            f"{name:6} uid {uid}, busy {busy:.0%}: {this / 1e6:7.3f} J + rest "
            f"{rest / 1e6:7.3f} J = host {total / 1e6:7.3f} J: {this + rest == total}"
        )
    assert both.metric is not None
    whole = microjoules(both.metric["energy"]["host"]["total_j"])
    kept = kept and shares <= whole
    print(
        f"host over the whole time {whole / 1e6:.3f} J = alice + bob {shares / 1e6:.3f} J "
        f"+ everything else {(whole - shares) / 1e6:.3f} J"
    )
    print("SIMULATED counters, real CPU time. Conserved to the microjoule:", kept)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
