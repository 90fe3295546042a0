"""One writer of ``test_ledger_handover.py``: told what to do, and where to fail.

``ledger_handover_process.py FOLDER NUMBER [--key FILE] [--at POINT] [--do ACTION]
[--timeout S] [--size BYTES] [--uid UID]``: opens the ledger, prints ``open``, waits for a
line on standard input, appends record NUMBER, and prints what came of it as JSON; after
another line, whether the ledger holds what was in doubt.

A writer with ``--at`` leads: it holds the lock until somebody hands over to it. At the
point named (``looks``: before it looks for others; ``took``: it has unlinked their files;
``planned``; ``placed``: the active file is replaced; ``written``: all but telling them) it
does ACTION: ``kill`` or ``stop`` itself, or ``go`` on.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from carbon_ops.errors import LedgerError
from carbon_ops.ledger import turns
from carbon_ops.ledger.files import ACTIVE, Directory
from carbon_ops.ledger.handover import WAITING, Taken, take
from carbon_ops.ledger.note import Signer
from carbon_ops.ledger.store import Ledger, Receipt

KEY = Signer("host.example/test", bytes(range(32)))
ACTIONS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def somebody_waits(path: Path) -> None:
    """Return once a whole request lies there."""
    while True:
        for file in [*path.glob(f"{WAITING}/*")]:
            try:
                if file.read_bytes().endswith(b"\nend\n"):
                    return
            except PermissionError:  # root's
                return


def fail(point: str, action: str, path: Path) -> None:
    """Do ``action`` at ``point`` of the next append."""

    def at(name: str) -> None:
        if name == point and action in ACTIONS:
            os.kill(os.getpid(), ACTIONS[action])

    def look(*arguments: Any) -> list[Taken]:
        print("leads", flush=True)
        somebody_waits(path)
        at("looks")
        found = take(*arguments)
        at("took")
        return found

    def after(call: Callable[..., Any], name: str, only: object = None) -> Any:
        def wrapped(self: object, what: Any = None) -> Any:
            made = call(self, what) if what is not None else call(self)
            if only in (None, what):
                at(name)
            return made

        return wrapped

    def done(self: Taken) -> None:
        at("written")
        tell(self)

    tell = Taken.done
    turns.take = look  # type: ignore[attr-defined,assignment]
    Taken.plan = after(Taken.plan, "planned")  # type: ignore[method-assign]
    Taken.done = done  # type: ignore[method-assign]
    Directory.put_in_place = after(  # type: ignore[method-assign]
        Directory.put_in_place, "placed", ACTIVE
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("number", type=int)
    parser.add_argument("--key", type=Path)
    parser.add_argument("--at", default="")
    parser.add_argument("--do", default="go")
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--size", type=int, default=1)
    parser.add_argument("--uid", type=int)
    told = parser.parse_args()
    signer = None if told.key else KEY
    with Ledger.open(
        told.folder, signer=signer, key_file=told.key, lock_timeout_s=told.timeout
    ) as ledger:
        ledger.checkpoint()  # all that is imported late is imported
        if told.uid is not None:
            os.setgroups([])
            os.setresgid(told.uid, told.uid, told.uid)
            os.setresuid(told.uid, told.uid, told.uid)
        if told.at:
            fail(told.at, told.do, told.folder)
        print("open", flush=True)
        sys.stdin.readline()
        text = "x" * told.size
        record = {"type": "energy_metric", "i": told.number, "x": text}
        attempted: tuple[Receipt, ...] = ()
        try:
            answer: dict[str, object] = {"seq": ledger.append(record).seq}
        except LedgerError as error:
            attempted = getattr(error, "attempted", ())
            answer = {
                "error": type(error).__name__,
                "message": str(error),
                "attempted": attempted,
            }
        print(json.dumps(answer), flush=True)
        sys.stdin.readline()
        print(json.dumps([ledger.holds(one) for one in attempted]), flush=True)


if __name__ == "__main__":
    main()
