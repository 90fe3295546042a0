"""What somebody who owns the disk does beside changing lines: files, names, sizes, time.

The verdict is told, nothing is written, no memory is filled, and no terminal obeys.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from carbon_ops.ledger.note import parse_note, sign_note
from carbon_ops.ledger.store import Ledger
from carbon_ops.ledger.verify import verify_ledger
from carbon_ops.model import ESTIMATE_SCHEMA
from carbon_ops.testing.ledgers import ORIGIN, Forger, record, signer

KEY = signer()
CLI = (sys.executable, "-m", "carbon_ops", "ledger")
HUGE = 1 << 34  # 16 GiB, nearly all of it a hole


def seg(first: int) -> str:
    return f"seg-{first:020d}.jsonl"


def other(size: int = 200) -> Forger:
    """Another genuine ledger by the same key, under the same name."""
    return Forger(size, key=KEY, make=lambda seq: record(seq) | {"grams": 1.5})


def from_other(name: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        donor = other().write(path.parent / "other")
        (path / name).unlink()
        (donor / name).rename(path / name)

    return spoil


def append_hole(name: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        (path / name).chmod(0o644)
        os.truncate(path / name, HUGE)

    return spoil


def hole(name: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        (path / name).unlink()
        (path / name).touch()
        os.truncate(path / name, HUGE)

    return spoil


def become(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        (path / name).unlink()
        make(path / name)

    return spoil


def grow_line(path: Path) -> None:
    with open(path / "active.jsonl", "ab") as file:
        file.write(b'{"a":"' + b"x" * (40 << 20))


def add(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda path: void((path / name).write_bytes(data))


def void(_: object) -> None:
    """Let a result go."""


def look_alike(path: Path) -> None:
    """The digits of another script: for people the segment is there."""
    arabic = "".join(chr(0x660 + int(d)) for d in f"{64:020d}")
    (path / seg(64)).rename(path / f"seg-{arabic}.jsonl")


def older_active(path: Path) -> None:
    """Records and segments as they once were, under the newest checkpoint."""
    older = Forger(190, key=KEY).write(path.parent / "older")
    (path / "active.jsonl").unlink()
    (path / seg(128)).unlink()
    (older / "active.jsonl").rename(path / "active.jsonl")


def cyrillic_origin(path: Path) -> None:
    claim = parse_note(Forger(200, key=KEY).checkpoint()).body
    looks = claim.replace(ORIGIN.encode(), ORIGIN.replace("a", "\u0430").encode())
    (path / "checkpoint").write_bytes(sign_note(looks, KEY))


def a_megabyte_of_lines(path: Path) -> None:
    note = (path / "checkpoint").read_bytes()
    (path / "checkpoint").write_bytes(note + note.split(b"\n\n")[1] * 9000)


def a_thousand_signers(path: Path) -> None:
    note = (path / "checkpoint").read_bytes()
    (path / "checkpoint").write_bytes(note + note.split(b"\n\n")[1] * 100)


ATTACKS = [
    ("a segment of another ledger of the key", from_other(seg(64)), "E_PREV_HASH"),
    ("the active file of another one", from_other("active.jsonl"), "E_PREV_HASH"),
    ("the checkpoint of another one", from_other("checkpoint"), "E_ROOT"),
    ("an older state under a newer checkpoint", older_active, "E_TRUNCATED"),
    ("a segment's name in other digits", look_alike, "E_SEGMENT_MISSING"),
    ("an origin in look-alike letters", cyrillic_origin, "E_ORIGIN"),
    ("a segment far ahead", add(seg(2**60), b""), "E_SEGMENT_MISSING"),
    ("a segment no number counts", add(f"seg-{'9' * 20}.jsonl", b""), "E_SEGMENT_MISSING"),
    ("16 GiB of hole for a segment", hole(seg(64)), "E_LIMIT"),
    ("16 GiB of hole behind a segment", append_hole(seg(64)), "E_LIMIT"),
    ("16 GiB of hole for the active file", hole("active.jsonl"), "E_LIMIT"),
    ("16 GiB of hole for a checkpoint", hole("checkpoint"), "E_CKPT_FORMAT"),
    ("a line of 40 MB without end", grow_line, "E_LIMIT"),
    ("a pipe for the active file", become("active.jsonl", os.mkfifo), "E_SYMLINK"),
    ("a pipe for the checkpoint", become("checkpoint", os.mkfifo), "E_SYMLINK"),
    ("a folder for the checkpoint", become("checkpoint", os.mkdir), "E_SYMLINK"),
    ("a link to nothing", become(seg(0), lambda p: p.symlink_to("/nowhere")), "E_SYMLINK"),
    ("a link to an endless device", become(seg(0), lambda p: p.symlink_to("/dev/zero")), "E_SYMLINK"),
    ("1 MB of signature lines", a_megabyte_of_lines, "E_CKPT_FORMAT"),
    ("101 signature lines", a_thousand_signers, "E_CKPT_FORMAT"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "spoil", "code"), ATTACKS, ids=[case[0] for case in ATTACKS]
)
def test_the_owner_of_the_disk_is_found_out_in_little_memory(
    name: str, spoil: Callable[[Path], None], code: str, tmp_path: Path
) -> None:
    path = Forger(200, key=KEY).write(tmp_path / "ledger")
    spoil(path)
    before = {n: os.lstat(path / n).st_mtime_ns for n in os.listdir(path)}
    verify_ledger(Forger(1, key=KEY).write(tmp_path / "first"), vkeys=[KEY.vkey])

    tracemalloc.start()
    report = verify_ledger(path, vkeys=[KEY.vkey])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert (report.verdict, report.code) == ("TAMPERED", code), report
    assert peak < 8 << 20, f"{peak} bytes"
    assert {n: os.lstat(path / n).st_mtime_ns for n in os.listdir(path)} == before
    if spoil is not cyrillic_origin:  # by one link after the other it shows no less
        quick = verify_ledger(path, vkeys=[KEY.vkey], links_only=True)
        assert quick.verdict == "TAMPERED" or code in ("E_ROOT", "E_LIMIT")


def test_names_that_are_none_of_the_ledgers_do_not_matter(tmp_path: Path) -> None:
    path = Forger(200, key=KEY).write(tmp_path / "ledger")
    for name in (b"seg-\xff", b"seg-64.jsonl", b"\xe2\x80\xae", b"a\nb", b"x.jsonl.gz"):
        with open(os.fsencode(path) + b"/" + name, "wb") as file:
            file.write(bytes(100))
    os.mkfifo(path / "frontier")
    (path / f"tree-{0:020d}").symlink_to("/dev/zero")
    (path / "quarantine-1-1").mkdir()
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"


@pytest.mark.parametrize("first", [1, 65, 127, 190])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_segment_beside_the_others_shows_since_some_programs_would_read_it(
    tmp_path: Path, first: int, jobs: int
) -> None:
    path = Forger(1_200, key=KEY).write(tmp_path / "ledger")
    (path / seg(first)).write_bytes((path / seg(64)).read_bytes())
    report = verify_ledger(path, vkeys=[KEY.vkey], jobs=jobs)
    assert (report.verdict, report.code, report.seq) == ("TAMPERED", "E_SEQ", first)


def test_files_that_change_under_the_verifier_give_a_verdict(tmp_path: Path) -> None:
    """Deleted, emptied, replaced by folders and put back, while it looks 200 times."""
    path = Forger(200, key=KEY).write(tmp_path / "ledger")
    kept = {n: (path / n).read_bytes() for n in os.listdir(path)}
    names = (seg(0), seg(128), "active.jsonl", "checkpoint")
    stop = threading.Event()

    def disturb() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            target = path / names[turn % len(names)]
            target.unlink()
            if turn % 3 == 0:
                target.mkdir()
                target.rmdir()
            target.write_bytes(kept[target.name][: turn * 977 % 60_000])
            target.unlink()
            target.write_bytes(kept[target.name])

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for number in range(200):
            report = verify_ledger(
                path,
                vkeys=[KEY.vkey],
                links_only=number % 2 == 0,
                anchor=kept["checkpoint"] if number % 2 else None,
            )
            assert report.verdict in ("OK", "TAMPERED", "TORN_TAIL", "NOT_CHECKED")
            assert report.verdict != "OK" or report.size == 200
    finally:
        stop.set()
        thread.join()
    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"


NASTY = "\x1b]0;owned\x07\x1b[2J\u202e\u009b\n| x | y |\n- verdict: **OK**"


@pytest.mark.parametrize(
    "command",
    ["show", "show 1", "show 2", "verify", "verify --recompute", "audit-report"],
)
def test_no_record_speaks_to_the_terminal_or_forges_the_report(
    command: str, tmp_path: Path
) -> None:
    """All of it is signed: who holds the key may still be a stranger."""
    path = tmp_path / "ledger"
    with Ledger.init(path, signer=KEY) as ledger:
        ledger.append(
            {"type": NASTY, "operation": NASTY, "ts": NASTY, NASTY: 1, "energy": 7}
        )
        ledger.append(
            {
                "type": "energy_metric",
                "energy": {
                    "attribution_mode": NASTY,
                    "components": [],
                    "energy_wh_total": 1,
                },
            }
        )
        ledger.append({"type": "energy_metric", "energy": []})
        ledger.append(
            {"type": "carbon_estimate", "signal": NASTY, "carbon_gco2e": 1e308}
        )
        ledger.append(
            {
                "type": "carbon_estimate",
                "schema": ESTIMATE_SCHEMA,
                "signal": NASTY,
                "carbon_gco2e": 1e308,
            }
        )
    name, *more = command.split()
    trust = [] if name == "show" else ["--vkey", KEY.vkey]
    done = subprocess.run(
        [*CLI, name, str(path), *more, *trust],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == (
        1 if "--recompute" in more or name == "audit-report" else 0
    )
    said = done.stdout + done.stderr
    assert all(c.isprintable() or c == "\n" for c in said)
    assert "\n- verdict: **OK**" not in said
    if name == "audit-report":
        done = subprocess.run(
            [*CLI, name, str(path), "--no-recompute", *trust],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert all(c.isprintable() or c == "\n" for c in done.stdout)
        assert done.stdout.count("\n- verdict: **OK**") == 1
        assert "\n| x | y |" not in done.stdout


def test_names_no_terminal_can_show_are_no_trouble(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/l\xff"
    Forger(70, key=KEY).write(Path(os.fsdecode(folder)))
    kept = os.fsencode(tmp_path) + b"/k\xff"
    commands: tuple[list[str | bytes], ...] = (
        ["verify", folder],
        ["verify", folder, "--json"],
        ["anchor", folder, kept],
        ["anchor", folder, kept],
        ["verify", folder, "--anchor", kept + b"/%020d.checkpoint" % 70],
        ["audit-report", folder],
        ["audit-report", folder, "-o", os.fsencode(tmp_path) + b"/page\xff"],
        ["prove", folder, "3", "-o", os.fsencode(tmp_path) + b"/proof\xff"],
        ["check-proof", os.fsencode(tmp_path) + b"/proof\xff"],
    )
    for command in commands:
        keys = [] if command[0] == "prove" else ["--vkey", KEY.vkey]
        done = subprocess.run(
            [*CLI, *command, *keys], capture_output=True, timeout=60, check=False
        )
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
        if "--json" in command:
            assert json.loads(done.stdout)["verdict"] == "OK"
