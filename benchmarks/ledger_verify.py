"""How fast a ledger is verified, in what memory, and how fast a record is proven.

Run: ``python benchmarks/ledger_verify.py [--records N] [--json]``. Makes a signed ledger
of N records of about 1 kB in a temporary directory (1 GB for a million) without the
writer's durability, verifies it in child processes, and prints medians of one run.
Rates depend on the machine: compare them with the SHA-256 rate printed beside them.
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
from hashlib import sha256
from pathlib import Path

from carbon_ops.ledger import subtrees
from carbon_ops.ledger.canonical import dumps
from carbon_ops.ledger.chain import ZERO_HASH
from carbon_ops.ledger.files import FRONTIER, segment_name, tree_name
from carbon_ops.ledger.merkle import Frontier, leaf_hash
from carbon_ops.ledger.note import Checkpoint, sign_note
from carbon_ops.ledger.prove import prove
from carbon_ops.testing.ledgers import ORIGIN, genesis, record, signer

STEP = 256
RECORD_BYTES = 1_024

_CHILD = """
import json, resource, sys, time
from carbon_ops.ledger.verify import verify_ledger
path, vkey, jobs, links = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "1"
if __name__ == "__main__":
    cpu, wall = time.process_time(), time.perf_counter()
    report = verify_ledger(path, vkeys=[vkey], jobs=jobs, links_only=links)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(json.dumps([report.verdict, report.size, cpu, wall, peak / 1024]))
"""


def make(path: Path, records: int) -> str:
    """Write a ledger of ``records`` records; return its vkey."""
    key = signer()
    tree, prev, lines = Frontier(), ZERO_HASH, []
    derived = subtrees.empty(STEP)
    path.mkdir()
    for seq in range(records):
        item = record(seq) if seq else genesis(ORIGIN, key.vkey, STEP)
        if seq:
            # As dense as a real metric: numbers, not text that no parser looks at.
            item["padding"] = {
                f"v{n:02d}_j": round(seq % 9973 * 0.37 + n * 1.713, 3)
                for n in range(33)
            }
        line = dumps({**item, "seq": seq, "prev_hash": prev})
        prev = sha256(line).hexdigest()
        tree.append(leaf_hash(line))
        lines.append(line + b"\n")
        if len(lines) == STEP:
            data, first = b"".join(lines), derived.base.size
            (path / segment_name(seq + 1 - STEP)).write_bytes(data)
            group = derived.add(subtrees.segment_root(data))
            if group:
                (path / tree_name(first)).write_bytes(group)
            lines = []
    (path / FRONTIER).write_bytes(derived.dump())
    (path / "active.jsonl").write_bytes(b"".join(lines))
    claim = Checkpoint(ORIGIN, records, tree.root())
    (path / "checkpoint").write_bytes(sign_note(claim.body(), key))
    return key.vkey


def run(path: Path, vkey: str, jobs: int, links: bool) -> tuple[float, float, float]:
    """Return CPU time [s], wall time [s] and peak memory of any process [MiB]."""
    script = path.parent / "child.py"
    script.write_text(_CHILD)
    arguments = [str(path), vkey, str(jobs), "1" if links else "0"]
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    verdict, size, cpu, wall, peak = json.loads(done.stdout)
    if verdict != "OK" or not size:
        raise SystemExit(f"not OK: {done.stdout}")
    return cpu, wall, peak


def prove_s(path: Path, records: int) -> float:
    """Return the median time [s] to prove a record, the ledger opened each time."""
    times = []
    for seq in range(0, records, records // 9 + 1):
        start = time.perf_counter()
        prove(path, seq)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def sha_rate() -> float:
    """Return records of this size hashed per second: the machine's own measure."""
    data, count = bytes(RECORD_BYTES), 200_000
    start = time.process_time()
    for _ in range(count):
        sha256(data).digest()
    return count / (time.process_time() - start)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/tmp")) as folder:
        path = Path(folder) / "ledger"
        vkey = make(path, given.records)
        proof_s = prove_s(path, given.records)
        rounds: dict[str, list[tuple[float, float, float]]] = {}
        for _ in range(given.rounds):
            for name, jobs, links in (
                ("full", 1, False),
                ("links_only", 1, True),
                ("full_2_processes", 2, False),
            ):
                found = run(path, vkey, jobs, links)
                rounds.setdefault(name, []).append(found)
    n = given.records
    cpu = {k: statistics.median(r[0] for r in v) for k, v in rounds.items()}
    wall = {k: statistics.median(r[1] for r in v) for k, v in rounds.items()}
    result = {
        "records": n,
        "sha256_per_s": round(sha_rate()),
        "full_per_s_cpu": round(n / cpu["full"]),
        "links_only_per_s_cpu": round(n / cpu["links_only"]),
        "full_per_s_wall": round(n / wall["full"]),
        "two_processes_ratio_wall": round(wall["full"] / wall["full_2_processes"], 2),
        "proof_ms": round(proof_s * 1e3, 2),
        "peak_mib": round(max(r[2] for v in rounds.values() for r in v), 1),
    }
    if given.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:<28}{value:>14,}")


if __name__ == "__main__":
    main()
