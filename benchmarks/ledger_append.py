"""What does writing a ledger cost, compared with what this very disk can do?

Everything that is compared runs in turns, and medians count, so that a busy neighbour
disturbs both sides alike. ``fdatasync`` appends 1,025 bytes to a plain file and makes
them durable: the least that any durable append can cost. All ledgers are signed; every
append waits for its record and for the checkpoint that covers it.

  single    one durable append of a 1 kB record, as a share of the fdatasync rate
  groups    records per second in groups of 32
  writers   8 processes that append single records, as a multiple of one process
  growth    an append at a million records, as a multiple of one at a thousand
  opening   a ledger of a million records [ms]

exit status: 0 if all goals are met, else 1. ``--records`` makes the large ledger smaller,
``--folder`` chooses the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from carbon_ops.ledger.chain import draft
from carbon_ops.ledger.note import Signer
from carbon_ops.ledger.store import Ledger

KEY = Signer("host.example/benchmark", bytes(range(32)))
SEGMENT = 256
RECORD: dict[str, object] = {
    "type": "energy_metric",
    "operation": "training_step",
    "energy": {"j": 12.625, "components": {f"zone-{i}": i * 1.375 for i in range(20)}},
    "host": "x" * 330,
}
SMALL: dict[str, object] = {"type": "energy_metric", "operation": "step", "j": 0.5}


class Goal(NamedTuple):
    name: str
    value: float
    limit: float
    at_least: bool
    detail: str

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that ``call`` takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def against_the_disk(folder: Path, rounds: int) -> list[Goal]:
    """Measure single and grouped appends in turns with fdatasync on the same disk."""
    bare, single, group = [], [], []
    plain = os.open(folder / "plain", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def sync() -> None:
        os.write(plain, b"x" * 1025)
        os.fdatasync(plain)

    with (
        Ledger.init(folder / "single", signer=KEY) as one,
        Ledger.init(folder / "groups", signer=KEY) as many,
    ):
        size = len(draft(RECORD).line(0, "0" * 64))
        for _ in range(rounds):  # one segment in each round: every fill, one seal
            bare += [timed(sync) for _ in range(SEGMENT)]
            single += [timed(lambda: one.append(RECORD)) for _ in range(SEGMENT)]
            group += [timed(lambda: many.append_many([RECORD] * 32)) for _ in range(64)]
    os.close(plain)
    disk, alone = 1 / statistics.median(bare), 1 / statistics.median(single)
    rate = 32 / statistics.median(group)
    return [
        Goal(
            "single",
            alone / disk,
            0.15,
            True,
            f"{alone:,.0f}/s of {size} bytes, the disk {disk:,.0f} fdatasync/s",
        ),
        Goal("groups", rate, 6_000, True, "records/s in groups of 32"),
    ]


def writers(folder: Path, rounds: int, seconds: float) -> Goal:
    """Let one process and eight processes append single records, in turns."""
    path = folder / "writers"
    Ledger.init(path, signer=KEY).close()

    def together(count: int) -> float:
        command = [sys.executable, __file__, "--write-to", str(path), str(seconds)]
        running = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(count)
        ]
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()  # it has opened the ledger
        for process in running:
            assert process.stdin is not None
            process.stdin.close()
        done = 0
        for process in running:
            assert process.stdout is not None
            done += int(process.stdout.read())
            process.wait()
        return done / seconds

    pairs = [(together(1), together(8)) for _ in range(rounds)]
    ratio = statistics.median(eight / one for one, eight in pairs)
    one = statistics.median(one for one, _ in pairs)
    eight = statistics.median(eight for _, eight in pairs)
    return Goal("writers", ratio, 1.0, True, f"8: {eight:,.0f}/s, 1: {one:,.0f}/s")


def write_to(path: str, seconds: float) -> None:
    """Be one of the writers: append for some seconds, print how many."""
    with Ledger.open(path, signer=KEY, lock_timeout_s=60) as ledger:
        print("ready", flush=True)
        sys.stdin.read()
        end, done = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            ledger.append(RECORD)
            done += 1
    print(done)


def fill(path: Path, records: int) -> None:
    """Make a ledger of ``records``, a multiple of the segment's length."""
    with Ledger.init(path, signer=KEY) as ledger:
        same = draft(SMALL)
        while (missing := records - ledger.size) > 0:
            ledger._turns.run([same] * min(missing, 25_600))


def growth(folder: Path, records: int, rounds: int) -> list[Goal]:
    """Compare a long ledger with a short one, and open the long one."""
    long, short = folder / "long", folder / "short"
    whole = records // SEGMENT * SEGMENT
    fill(short, 1_024)
    fill(long, whole)

    def open_it() -> None:
        Ledger.open(long, signer=KEY).close()

    opening = statistics.median(timed(open_it) for _ in range(11))
    times: dict[Path, list[float]] = {long: [], short: []}
    with (
        Ledger.open(long, signer=KEY) as one,
        Ledger.open(short, signer=KEY) as other,
    ):
        for _ in range(rounds):
            times[long] += [timed(lambda: one.append(SMALL)) for _ in range(SEGMENT)]
            times[short] += [timed(lambda: other.append(SMALL)) for _ in range(SEGMENT)]
    at_long, at_short = (statistics.median(times[path]) for path in (long, short))
    return [
        Goal(
            "growth",
            at_long / at_short,
            1.2,
            False,
            f"{at_long * 1e6:,.0f} µs at {whole:,}, {at_short * 1e6:,.0f} µs at 1,024",
        ),
        Goal("opening", opening * 1e3, 50, False, f"ms for {whole:,} records"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--folder", help="where to write; default: the temporary folder"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--write-to", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write_to:
        write_to(options.write_to[0], float(options.write_to[1]))
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        goals = against_the_disk(folder, options.rounds)
        goals.append(writers(folder, options.rounds, 1.0))
        goals += growth(folder, options.records, options.rounds)
    if options.json:
        print(
            json.dumps(
                {goal.name: goal._asdict() | {"met": goal.met} for goal in goals}
            )
        )
    else:
        for goal in goals:
            sign, word = "≥" if goal.at_least else "≤", "met" if goal.met else "MISSED"
            wanted = f"{sign} {goal.limit:g}"
            print(f"{goal.name:8} {goal.value:9.3f}  {wanted:8} {word:6} {goal.detail}")
    return 0 if all(goal.met for goal in goals) else 1


if __name__ == "__main__":
    raise SystemExit(main())
