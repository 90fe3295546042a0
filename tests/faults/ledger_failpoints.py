"""Run one scenario with a failure at its every system call; print what went wrong.

Started by ``test_ledger_failpoints.py`` with ``failpoint.c`` preloaded:
``ledger_failpoints.py LIBRARY SCENARIO FAILURE FOLDER``. For each n a fresh ledger is
made, a child arms the n-th call and runs the scenario, and the parent looks at the disk.
The last line is JSON: the number of points, and the list of complaints.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from carbon_ops.errors import LedgerError
from carbon_ops.ledger.chain import draft
from carbon_ops.ledger.files import Directory
from carbon_ops.ledger.handover import Handover
from carbon_ops.ledger.note import Signer
from carbon_ops.ledger.store import CheckpointDelayed, Ledger, LedgerWriteError, Receipt
from carbon_ops.ledger.verify import verify_ledger

KEY = Signer("host.example/test", bytes(range(32)))
FAILURES = {
    "EIO": errno.EIO,
    "ENOSPC": errno.ENOSPC,
    "EROFS": errno.EROFS,
    "KILL": 0,
    "KILL_AFTER": -1,
}
NEW = [{"type": "energy_metric", "new": i} for i in range(3)]
GIVEN = {"type": "energy_metric", "new": 9}  # handed over by a writer that waits


def fill(path: Path, key: Signer | None, records: int) -> None:
    with Ledger.init(path, signer=key, origin=KEY.name, segment_records=64) as ledger:
        ledger.append_many({"type": "energy_metric", "i": i} for i in range(records))


def prepare_append(path: Path) -> None:
    fill(path, KEY, 5)


def prepare_unsigned(path: Path) -> None:
    fill(path, None, 5)


def prepare_seal(path: Path) -> None:
    fill(path, KEY, 62)  # the new ones do not fit into the segment


def prepare_pending(path: Path) -> None:
    fill(path, KEY, 5)
    old = (path / "checkpoint").read_bytes()
    with Ledger.open(path, signer=KEY) as ledger:
        ledger.append({"type": "energy_metric", "i": 5})
    (path / "checkpoint").write_bytes(old)


def prepare_torn(path: Path) -> None:
    fill(path, KEY, 5)
    with (path / "active.jsonl").open("ab") as file:
        file.write(b'{"torn')


SCENARIOS: dict[str, tuple[Callable[[Path], None], Signer | None, bool]] = {
    # how to prepare, the key, and whether opening is part of what may fail
    "append": (prepare_append, KEY, False),
    "unsigned": (prepare_unsigned, None, False),
    "seal": (prepare_seal, KEY, False),
    "hand_over": (prepare_seal, KEY, False),
    "open_and_append": (prepare_append, KEY, True),
    "open_pending": (prepare_pending, KEY, True),
    "open_torn": (prepare_torn, KEY, True),
}


def child(
    shim: ctypes.CDLL, path: Path, key: Signer | None, opens: bool, at: int, code: int
) -> dict[str, object]:
    """Run the scenario with call number ``at`` failing; tell how it ended."""
    told: dict[str, object] = {}
    ledger: Ledger | None = None
    attempted: tuple[Receipt, ...] = ()
    try:
        if not opens:
            ledger = Ledger.open(path, signer=key)
        shim.fail_arm(ctypes.c_long(at), code)
        if ledger is None:
            ledger = Ledger.open(path, signer=key)
        told["acked"] = [receipt.seq for receipt in ledger.append_many(NEW)]
    except LedgerWriteError as error:
        told["durable"] = [receipt.seq for receipt in error.durable]
        attempted = error.attempted
        told["unsure"] = error.unsure
        told["delayed"] = isinstance(error, CheckpointDelayed)
    except LedgerError as error:
        told["refused"] = str(error)
    except BaseException as error:  # noqa: BLE001 - a traceback is a finding
        told["escaped"] = repr(error)
    told["reached"] = shim.fail_disarm() >= at
    if ledger is not None:  # the same object goes on, whatever happened
        try:
            told["then"] = ledger.append({"type": "energy_metric", "then": True}).seq
            told["held"] = [one.seq for one in attempted if ledger.holds(one)]
        except BaseException as error:  # noqa: BLE001
            told["escaped"] = f"afterwards: {error!r}"
    return told


def stored(path: Path, given: bool = False) -> list[int]:
    """Return the seqs of the new records on the disk, or of those handed over."""
    files = [*sorted(path.glob("seg-*")), path / "active.jsonl"]
    lines = [
        json.loads(line)
        for file in files
        if file.exists()
        for line in file.read_bytes().split(b"\n")
        if line.startswith(b"{") and line.endswith(b"}")
    ]
    return [
        line["seq"]
        for line in lines
        if "new" in line and (line["new"] == GIVEN["new"]) == given
    ]


def complaints(
    path: Path, key: Signer | None, told: dict[str, object], torn: bool
) -> list[str]:
    """Compare what the child was told with what is on the disk; then go on writing."""
    found = []
    on_disk = stored(path)
    killed = "reached" not in told
    if "escaped" in told:
        found.append(f"escaped: {told['escaped']}")
    for name in ("acked", "durable", "held"):
        missing = [seq for seq in told.get(name, []) if seq not in on_disk]  # type: ignore[attr-defined]
        if missing:
            found.append(f"{name} {missing} lost")
    if "durable" in told and not told["unsure"] and on_disk != told["durable"]:
        found.append(f"told {told['durable']}, on the disk {on_disk}")
    if "refused" in told and on_disk:
        found.append(f"refused, but on the disk {on_disk}")
    temporary = [name for name in os.listdir(path) if ".tmp." in name]
    if temporary and not killed:
        found.append(f"left behind {temporary}")
    vkeys = [key.vkey] if key is not None else []
    report = verify_ledger(path, vkeys=vkeys)
    fine = ("OK", "OK_PENDING", "TORN_TAIL") if torn else ("OK", "OK_PENDING")
    if report.verdict not in fine:
        found.append(f"verify: {report.verdict} {report.code} {report.detail}")
    with Ledger.open(path, signer=key) as ledger:
        ledger.append({"type": "energy_metric", "after": True})
    report = verify_ledger(path, vkeys=vkeys)
    if report.verdict != "OK":
        found.append(f"verify afterwards: {report.verdict} {report.code}")
    if stored(path) != on_disk:
        found.append(f"recovery changed {on_disk} to {stored(path)}")
    if any(".tmp." in name for name in os.listdir(path)):
        found.append("recovery left temporary files")
    return found


def settled(path: Path, handover: Handover) -> list[str]:
    """Let the writer that waited look what became of its record."""
    drafts = [draft(GIVEN)]
    done = handover.done()
    before = stored(path, given=True)
    if done and before != [receipt.seq for receipt in handover.receipts]:
        return [f"said to be done, but on the disk {before}"]
    if not done:
        with Ledger.open(path, signer=KEY) as ledger, ledger._turns.alone():
            written = ledger._turns._write(drafts, handover)
        after = stored(path, given=True)
        if [receipt.seq for receipt in written.receipts] != after or len(after) != 1:
            return [f"handed over, {before} on the disk, then {after}, not one"]
    return []


def main(library: str, scenario: str, failure: str, folder: str) -> None:
    shim = ctypes.CDLL(library)
    prepare, key, opens = SCENARIOS[scenario]
    template, path = Path(folder) / "template", Path(folder) / "ledger"
    prepare(template)
    found: list[str] = []
    at = 0
    while True:
        at += 1
        shutil.copytree(template, path)
        directory = Directory(str(path))
        handover = Handover(directory, KEY.vkey, [draft(GIVEN)])
        if scenario == "hand_over":
            handover.done()
        read, write = os.pipe()
        process = os.fork()
        if process == 0:
            told = child(shim, path, key, opens, at, FAILURES[failure])
            os.write(write, json.dumps(told).encode())
            os._exit(0)
        os.close(write)
        with open(read, "rb") as pipe:
            told = json.loads(pipe.read() or b"{}")
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
            found.append(f"call {at}: died of signal {os.WTERMSIG(status)}")
        if scenario == "hand_over":
            for complaint in settled(path, handover):
                found.append(f"call {at}: {complaint} {told}")
        handover.__exit__()
        directory.close()
        for complaint in complaints(path, key, told, scenario == "open_torn"):
            found.append(f"call {at}: {complaint} {told}")
        shutil.rmtree(path)
        if told.get("reached") is False:
            break
    print(json.dumps({"points": at - 1, "found": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
