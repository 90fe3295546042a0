"""Attacks on the checkpoint, on keys, and those that only an anchor elsewhere shows."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from carbon_ops.clock import rfc3339, wall_ns
from carbon_ops.errors import InvalidInputError
from carbon_ops.ledger.note import (
    Checkpoint,
    NoteError,
    Signer,
    cosign,
    parse_note,
    sign_note,
    signature_line,
    witness_key,
)
from carbon_ops.ledger.report import Report
from carbon_ops.ledger.rotation import rotation_record
from carbon_ops.ledger.verify import verify_ledger
from carbon_ops.testing.ledgers import ORIGIN, Forger, chained, genesis, record, signer

KEY = signer()
THIEF = signer(1)
NEW = signer(2)
NEWER = signer(3)
WITNESS = signer(4, "witness.example/w1")
SEEN_S = 1_700_000_000


def check(path: Path, **options: Any) -> Report:
    options.setdefault("vkeys", [KEY.vkey])
    return verify_ledger(path, **options)


def written(tmp_path: Path, note: bytes | None = None) -> Path:
    ledger = Forger(200, key=KEY)
    ledger.note = ledger.note if note is None else note
    return ledger.write(tmp_path / "ledger")


def body_of(note: bytes) -> bytes:
    return parse_note(note).body


def flip(note: bytes, at: int) -> bytes:
    """Flip one bit of the base64 text's meaning at ``at`` from its end of line."""
    old = note[at : at + 1]
    return note[:at] + (b"A" if old != b"A" else b"B") + note[at + 1 :]


def flip_root(note: bytes) -> bytes:
    return flip(note, note.index(b"\n200\n") + 8)


def flip_signature(note: bytes) -> bytes:
    return flip(note, len(note) - 20)


def other_size(note: bytes) -> bytes:
    return note.replace(b"\n200\n", b"\n199\n", 1)


def bare(note: bytes) -> bytes:
    return body_of(note)


def other_origin(_note: bytes) -> bytes:
    claim = Checkpoint("somebody.example/else", 200, Forger(200, key=KEY).root(200))
    return sign_note(claim.body(), KEY)


def renamed(note: bytes) -> bytes:
    """The same key bytes, under another name, sign for another name."""
    claim = Checkpoint("somebody.example/else", 200, Forger(200, key=KEY).root(200))
    return sign_note(claim.body(), signer(0, "somebody.example/else"))


def thief_line(note: bytes) -> bytes:
    return sign_note(body_of(note), THIEF)


def colliding(note: bytes) -> bytes:
    """The key's own name and id before a signature by other key bytes."""
    body = body_of(note)
    return body + b"\n" + signature_line(KEY.key, THIEF.sign_raw(body))


def second_line_bad(note: bytes) -> bytes:
    """A good line of the key, then a bad one by the same key."""
    return note + signature_line(KEY.key, THIEF.sign_raw(body_of(note)))


BROKEN: list[tuple[str, Callable[[bytes], bytes], tuple[str, ...]]] = [
    ("A28 root", flip_root, ("E_CKPT_SIG",)),
    ("A29 signature", flip_signature, ("E_CKPT_SIG",)),
    ("size", other_size, ("E_CKPT_SIG",)),
    ("A32 CRLF", lambda n: n.replace(b"\n", b"\r\n"), ("E_CKPT_FORMAT",)),
    ("A34 no last line feed", lambda n: n[:-1], ("E_CKPT_FORMAT",)),
    ("B08 empty file", lambda n: b"", ("E_CKPT_FORMAT",)),
    ("NUL bytes", lambda n: bytes(len(n)), ("E_CKPT_FORMAT",)),
    ("a line feed alone", lambda n: b"\n", ("E_CKPT_FORMAT",)),
    ("not UTF-8", lambda n: b"\xff" + n, ("E_CKPT_FORMAT",)),
    (
        "four lines",
        lambda n: n.replace(b"\n\n", b"\nextension\n\n"),
        ("E_CKPT_FORMAT",),
    ),
    ("two lines", lambda n: n.replace(b"\n200\n", b"\n"), ("E_CKPT_FORMAT",)),
    ("leading zero", lambda n: n.replace(b"\n200\n", b"\n0200\n"), ("E_CKPT_FORMAT",)),
    ("plus sign", lambda n: n.replace(b"\n200\n", b"\n+200\n"), ("E_CKPT_FORMAT",)),
    ("Arabic digits", lambda n: n.replace(b"200", "٢٠٠".encode()), ("E_CKPT_FORMAT",)),
    ("huge size", lambda n: n.replace(b"200", b"9" * 400), ("E_CKPT_FORMAT",)),
    ("1 MB", lambda n: n + b"x" * 1_000_000, ("E_CKPT_FORMAT",)),
    ("hyphen for dash", lambda n: n.replace("—".encode(), b"-"), ("E_CKPT_FORMAT",)),
    ("A35 other origin", other_origin, ("E_ORIGIN",)),
    ("other origin and name", renamed, ("E_ORIGIN",)),
    ("C07 unknown signer", thief_line, ("E_KEY_UNKNOWN",)),
    ("A77 colliding key id", colliding, ("E_CKPT_SIG",)),
    ("second line bad", second_line_bad, ("E_CKPT_SIG",)),
    ("C25 signatures stripped", bare, ("E_CKPT_FORMAT", "E_KEY_UNKNOWN")),
    ("C25 with an empty line", lambda n: bare(n) + b"\n", ("E_CKPT_FORMAT",)),
]


@pytest.mark.parametrize(
    ("name", "change", "codes"), BROKEN, ids=[case[0] for case in BROKEN]
)
def test_a_changed_checkpoint_shows(
    name: str, change: Callable[[bytes], bytes], codes: tuple[str, ...], tmp_path: Path
) -> None:
    path = written(tmp_path, change(Forger(200, key=KEY).checkpoint()))

    report = check(path)

    assert (report.verdict, report.exit_code) == ("TAMPERED", 1), report
    assert report.code in codes


def test_every_changed_byte_of_a_checkpoint_shows(tmp_path: Path) -> None:
    note = Forger(200, key=KEY).checkpoint()
    path = written(tmp_path)
    for at in range(len(note)):
        (path / "checkpoint").write_bytes(
            note[:at] + bytes([note[at] ^ 1]) + note[at + 1 :]
        )
        report = check(path)
        assert report.verdict == "TAMPERED", (at, report)


@pytest.mark.parametrize("others", [1, 15, 99])
def test_lines_of_unknown_keys_do_no_harm(others: int, tmp_path: Path) -> None:
    note = Forger(200, key=KEY).checkpoint()
    body = body_of(note)
    extra = b"".join(
        signer(n, f"w{n}.example").sign(body) for n in range(5, 5 + others)
    )

    assert (
        check(written(tmp_path, body + b"\n" + extra + KEY.sign(body))).verdict == "OK"
    )


# --- rollback, fork, pending


def test_an_older_genuine_checkpoint_leaves_the_rest_pending(tmp_path: Path) -> None:
    ledger = Forger(200, key=KEY)
    newest = ledger.checkpoint()
    ledger.note = ledger.checkpoint(150)
    path = ledger.write(tmp_path / "ledger")

    report = check(path)
    assert (report.verdict, report.exit_code, report.pending) == ("OK_PENDING", 0, 50)
    assert check(path, strict=True).exit_code == 1
    assert check(path, anchor=newest).code == "E_ROLLBACK"
    assert check(path, min_size=200).code == "E_ROLLBACK"
    assert check(path, anchor=ledger.checkpoint(120)).verdict == "OK_PENDING"


def test_a_rollback_of_everything_needs_an_anchor(tmp_path: Path) -> None:
    ledger = Forger(200, key=KEY)
    kept = tmp_path / "kept"
    kept.write_bytes(ledger.checkpoint())
    del ledger.lines[150:]
    path = ledger.write(tmp_path / "ledger", sign_anew=True)

    assert check(path).verdict == "OK"
    for options in ({"anchor": kept}, {"anchor": str(kept)}, {"min_size": 200}):
        report = check(path, **options)
        assert (report.verdict, report.code) == ("TAMPERED", "E_ROLLBACK")
        assert "FAILED" in report.lines[1]
    assert check(path, min_size=150).verdict == "OK"


@pytest.mark.parametrize("size", [100, 128, 192, 200])
def test_another_history_by_the_key_holder_needs_an_anchor(
    size: int, tmp_path: Path
) -> None:
    kept = Forger(200, key=KEY).checkpoint(size)
    other = Forger(200, key=KEY, make=lambda seq: record(seq) | {"grams": 1.5})
    path = other.write(tmp_path / "ledger")

    assert check(path).verdict == "OK"
    report = check(path, anchor=kept)
    assert (report.verdict, report.code) == ("TAMPERED", "E_FORK")


def test_a_ledger_made_again_is_a_fork(tmp_path: Path) -> None:
    kept = Forger(200, key=KEY).checkpoint(1)
    again = Forger(300, key=KEY)
    again.lines = chained(
        [genesis(vkey=KEY.vkey, step=128), *(record(seq) for seq in range(1, 300))]
    )
    path = again.write(tmp_path / "ledger", sign_anew=True)

    assert check(path).verdict == "OK"
    assert check(path, anchor=kept).code == "E_FORK"


def test_many_anchors_are_all_compared(tmp_path: Path) -> None:
    ledger = Forger(200, key=KEY)
    path = ledger.write(tmp_path / "ledger")
    kept = [ledger.checkpoint(size) for size in (1, 64, 65, 199, 200)]

    report = check(path, anchor=kept)
    assert report.verdict == "OK"
    assert report.lines[1].startswith("anchor:       checked")
    bad = Checkpoint(ORIGIN, 77, bytes(32)).body()
    assert check(path, anchor=[*kept, bad]).code == "E_FORK"


def test_an_anchor_shows_the_missing_end_of_an_unsigned_ledger(tmp_path: Path) -> None:
    ledger = Forger(200)
    kept = Checkpoint(ORIGIN, 200, ledger.root(200)).body()
    del ledger.lines[195:]
    path = ledger.write(tmp_path / "ledger")

    assert verify_ledger(path).verdict == "OK"
    assert "truncation not checked" in verify_ledger(path).lines[0]
    assert verify_ledger(path, anchor=kept).code == "E_ROLLBACK"


def test_an_anchor_that_is_none_is_the_callers_mistake(tmp_path: Path) -> None:
    path = written(tmp_path)
    claim = Checkpoint("other.example/x", 10, bytes(32))
    with pytest.raises(NoteError):
        check(path, anchor=b"nonsense")
    with pytest.raises(InvalidInputError, match="No such file"):
        check(path, anchor=tmp_path / "missing")
    with pytest.raises(InvalidInputError, match=r"other\.example/x"):
        check(path, anchor=sign_note(claim.body(), KEY))
    with pytest.raises(InvalidInputError, match="does not fit"):
        check(path, anchor=flip_signature(Forger(200, key=KEY).checkpoint()))


# --- beyond the checkpoint


def test_half_a_line_beyond_the_checkpoint_is_a_torn_tail(tmp_path: Path) -> None:
    path = written(tmp_path)
    with open(path / "active.jsonl", "ab") as file:
        file.write(b'{"a":"half a li')

    report = check(path)
    assert (report.verdict, report.exit_code, report.seq) == ("TORN_TAIL", 3, 200)


def test_zeros_beyond_the_checkpoint_are_a_torn_tail(tmp_path: Path) -> None:
    """A block that was never written reads as NUL bytes after a power cut."""
    ledger = Forger(204, key=KEY)
    ledger.note = ledger.checkpoint(200)
    path = ledger.write(tmp_path / "ledger")
    whole = (path / "active.jsonl").read_bytes()
    start = whole.index(b'"seq":201')
    for damaged in (
        whole[:start] + bytes(len(whole) - start),
        whole[:start] + bytes(64) + whole[start + 64 :],
        whole + bytes(4096),
        whole + bytes(100_000),
    ):
        (path / "active.jsonl").write_bytes(damaged)
        report = check(path)
        assert (report.verdict, report.exit_code) == ("TORN_TAIL", 3), report


def test_a_whole_record_beyond_the_checkpoint_is_pending(tmp_path: Path) -> None:
    ledger = Forger(201, key=KEY)
    ledger.note = ledger.checkpoint(200)

    report = check(ledger.write(tmp_path / "ledger"))
    assert (report.verdict, report.pending, report.size) == ("OK_PENDING", 1, 201)
    assert "1 pending" in report.lines[0]


def test_an_edit_beyond_the_checkpoint_shows_while_a_record_follows(
    tmp_path: Path,
) -> None:
    ledger = Forger(204, key=KEY)
    ledger.note = ledger.checkpoint(200)
    ledger.lines[202] = ledger.lines[202].replace(b'"gaps":0', b'"gaps":1')
    report = check(ledger.write(tmp_path / "ledger"))
    assert (report.code, report.seq) == ("E_PREV_HASH", 203)


# --- keys


def rotated(*changes: tuple[int, Signer, Signer], size: int = 200) -> Forger:
    """A ledger with key_rotate records at the given places."""
    ledger = Forger(size, key=KEY)
    items: list[dict[str, object]] = [genesis(vkey=KEY.vkey)]
    hand_over = {seq: (old, new) for seq, old, new in changes}
    for seq in range(1, size):
        if seq in hand_over:
            items.append(dict(rotation_record(ORIGIN, seq, *hand_over[seq])))
        else:
            items.append(record(seq))
    ledger.lines = chained(items)
    return ledger


def signed_by(ledger: Forger, size: int, *keys: Signer) -> Forger:
    ledger.note = ledger.checkpoint(size, *keys)
    return ledger


@pytest.mark.parametrize(
    ("size", "keys", "trusted", "code"),
    [
        (200, [NEW], [KEY], None),
        (200, [NEW], [NEW], None),
        (200, [NEW], [KEY, NEW], None),
        (101, [KEY, NEW], [KEY], None),
        (101, [NEW], [KEY], None),
        (100, [KEY], [KEY], None),
        (50, [KEY], [KEY], None),
        (200, [KEY], [KEY], "E_KEY_RETIRED"),
        (101, [KEY], [KEY], "E_KEY_RETIRED"),
        (100, [NEW], [KEY], "E_KEY_NOT_YET"),
        (50, [NEW], [KEY, NEW], "E_KEY_NOT_YET"),
        (200, [THIEF], [KEY, NEW], "E_KEY_UNKNOWN"),
        (200, [NEW], [THIEF], "E_KEY_UNKNOWN"),
    ],
)
def test_a_checkpoint_needs_the_key_in_force(
    size: int,
    keys: list[Signer],
    trusted: list[Signer],
    code: str | None,
    tmp_path: Path,
) -> None:
    ledger = signed_by(rotated((100, KEY, NEW)), size, *keys)
    path = ledger.write(tmp_path / "ledger")

    vkeys = [key.vkey for key in trusted]
    report = verify_ledger(path, vkeys=vkeys)

    assert report.code == code, report
    assert verify_ledger(path, vkeys=vkeys, links_only=True).code == code
    if code is None:
        assert report.verdict == ("OK" if size == 200 else "OK_PENDING")
        assert report.signer == (NEW if size > 100 else KEY).key.short()


def test_keys_can_change_more_than_once(tmp_path: Path) -> None:
    ledger = rotated((100, KEY, NEW), (150, NEW, NEWER))
    path = signed_by(ledger, 200, NEWER).write(tmp_path / "ledger")
    assert check(path).signer == NEWER.key.short()
    signed_by(ledger, 200, NEW).write(tmp_path / "retired")
    assert check(tmp_path / "retired").code == "E_KEY_RETIRED"


def bad_rotation(**changed: str) -> Forger:
    ledger = rotated((100, KEY, NEW))
    item = rotation_record(ORIGIN, 100, KEY, NEW) | changed
    records: list[dict[str, object]] = [genesis(vkey=KEY.vkey)]
    records += [record(seq) for seq in range(1, 100)] + [dict(item)]
    records += [record(seq) for seq in range(101, 200)]
    ledger.lines = chained(records)
    return ledger


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    "changed",
    [
        {"new_sig": b64(bytes(64))},
        {"old_sig": b64(bytes(64))},
        {"new_sig": "?"},
        {"old_sig": "ü"},
        {"new_vkey": THIEF.vkey},
        {"new_vkey": KEY.vkey},
        {"new_vkey": "nonsense"},
        rotation_record(ORIGIN, 101, KEY, NEW),
        rotation_record("other.example/x", 100, KEY, NEW),
        rotation_record(ORIGIN, 100, THIEF, NEW),
        rotation_record(ORIGIN, 100, KEY, NEW)
        | {"new_sig": rotation_record(ORIGIN, 100, KEY, NEW)["old_sig"]},
    ],
    ids=range(11),
)
@pytest.mark.parametrize("keys", [(NEW,), (KEY,), (KEY, NEW)], ids=len)
def test_a_rotation_needs_both_signatures(
    changed: dict[str, str], keys: Sequence[Signer], tmp_path: Path
) -> None:
    path = signed_by(bad_rotation(**changed), 200, *keys).write(tmp_path / "ledger")
    report = check(path)
    assert (report.code, report.verdict) == ("E_ROTATION", "TAMPERED"), report
    assert report.seq == 100


def test_one_key_hands_over_once(tmp_path: Path) -> None:
    ledger = rotated((100, KEY, NEW), (150, KEY, THIEF))
    path = signed_by(ledger, 200, THIEF).write(tmp_path / "ledger")
    report = check(path)
    assert (report.code, report.seq) == ("E_ROTATION", 150)


def test_an_unsigned_ledger_has_no_keys_to_rotate(tmp_path: Path) -> None:
    ledger = rotated((100, KEY, NEW))
    ledger.lines[0] = chained([genesis()])[0]
    ledger.rechain(1)
    ledger.note = None
    assert verify_ledger(ledger.write(tmp_path / "l")).code == "E_ROTATION"


# --- witnesses


def cosigned(ledger: Forger, at_s: int = SEEN_S) -> bytes:
    note = ledger.checkpoint()
    return note + cosign(body_of(note), WITNESS, at_s)


def test_a_witness_counts_as_an_anchor(tmp_path: Path) -> None:
    path = written(tmp_path, cosigned(Forger(200, key=KEY)))
    both = [KEY.vkey, witness_key(WITNESS).text()]

    report = check(path, vkeys=both)
    assert report.verdict == "OK"
    assert f"cosigned by {witness_key(WITNESS).short()}" in report.lines[1]
    assert check(path).verdict == "OK"


def test_a_witness_counts_on_a_kept_checkpoint_too(tmp_path: Path) -> None:
    path = Forger(200, key=KEY).write(tmp_path / "ledger")
    note = (path / "checkpoint").read_bytes()
    body = parse_note(note).body
    witness = witness_key(WITNESS)
    vkeys = [KEY.vkey, witness.text()]
    seen = note + cosign(body, WITNESS, 1_700_000_000)
    report = verify_ledger(path, vkeys=vkeys, anchor=seen)
    assert report.anchors == (
        f"agrees with anchor of 200 records, cosigned by {witness.short()}",
    )
    assert report.unseen == ()
    report = verify_ledger(path, vkeys=vkeys, anchor=note)
    assert report.unseen == (witness.short(),)
    assert f"NOT cosigned by {witness.short()}" in report.lines[1]
    forged = note + cosign(body + b"more\n", WITNESS, 1_700_000_000)
    with pytest.raises(InvalidInputError, match="cosignature"):
        verify_ledger(path, vkeys=vkeys, anchor=forged)


def test_quick_checks_claim_no_agreement(tmp_path: Path) -> None:
    """The links of another history by the key's holder hold as well."""
    honest = Forger(200, key=KEY)
    other = Forger(200, key=KEY, make=lambda seq: record(seq) | {"grams": 1})
    path = other.write(tmp_path / "ledger")
    with (path / "checkpoint").open("ab") as file:
        file.write(cosign(parse_note(other.note or b"").body, WITNESS, 1_700_000_000))
    vkeys = [KEY.vkey, witness_key(WITNESS).text()]
    with pytest.raises(InvalidInputError, match="links_only"):
        verify_ledger(path, vkeys=vkeys, anchor=honest.note, links_only=True)
    report = verify_ledger(path, vkeys=vkeys, links_only=True)
    assert report.verdict == "OK"
    assert report.anchors == ()
    assert "NOT CHECKED" in report.lines[0]
    assert "NOT CHECKED" in report.lines[1]


def test_a_cosignature_of_another_time_or_checkpoint_shows(tmp_path: Path) -> None:
    both = [KEY.vkey, witness_key(WITNESS).text()]
    ledger = Forger(200, key=KEY)
    note = ledger.checkpoint()
    line = cosign(body_of(note), WITNESS, SEEN_S)
    raw = base64.b64decode(line.split(b" ")[2])
    later = raw[:4] + (SEEN_S + 1).to_bytes(8, "big") + raw[12:]
    moved = signature_line(witness_key(WITNESS), later[4:])
    other = Forger(200, key=KEY, make=lambda seq: record(seq) | {"grams": 1.5})
    elsewhere = cosign(body_of(other.checkpoint()), WITNESS, SEEN_S)
    for n, bad in enumerate(
        (moved, elsewhere, signature_line(witness_key(WITNESS), b"x"))
    ):
        ledger.note = note + bad
        path = ledger.write(tmp_path / str(n))
        assert check(path, vkeys=both).code == "E_COSIG"
        assert check(path).verdict == "OK"


# --- age


def test_a_silent_ledger_is_stale(tmp_path: Path) -> None:
    now_ns = wall_ns()
    for n, (age_s, limit_s, code) in enumerate(
        [(10, 3600, None), (7200, 3600, "E_STALE"), (-86_400, 3600, "E_STALE")]
    ):
        at = rfc3339(now_ns - age_s * 10**9)
        ledger = Forger(70, key=KEY, make=lambda seq, at=at: record(seq) | {"timestamp_end": at})  # type: ignore[misc]
        path = ledger.write(tmp_path / str(n))
        assert check(path, max_age=limit_s).code == code


def test_a_covered_record_counts_for_the_age_a_pending_one_does_not(
    tmp_path: Path,
) -> None:
    old, new = rfc3339(wall_ns() - 7200 * 10**9), rfc3339(wall_ns())
    ledger = Forger(
        70,
        key=KEY,
        make=lambda seq: record(seq) | {"timestamp_end": new if seq == 69 else old},
    )
    ledger.note = ledger.checkpoint(69)
    path = ledger.write(tmp_path / "ledger")
    assert check(path, max_age=3600).code == "E_STALE"


def test_a_witness_who_saw_it_lately_makes_it_fresh(tmp_path: Path) -> None:
    path = written(tmp_path, cosigned(Forger(200, key=KEY), int(time.time())))
    both = [KEY.vkey, witness_key(WITNESS).text()]
    assert check(path, vkeys=both, max_age=3600).verdict == "OK"
    assert check(path, max_age=3600).code == "E_STALE"


def test_times_that_are_none_do_not_make_it_fresh(tmp_path: Path) -> None:
    for n, at in enumerate(("tomorrow", "2026-01-01T00:00:00", "", "9999" * 20)):
        ledger = Forger(3, key=KEY, make=lambda seq, at=at: {"type": "x", "ts": at})  # type: ignore[misc]
        path = ledger.write(tmp_path / str(n))
        assert check(path, max_age=10**9).code == "E_STALE"


# --- arguments and files


def test_a_wrong_key_is_the_callers_mistake(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(NoteError):
        check(path, vkeys=["nonsense"])
    with pytest.raises(InvalidInputError):
        check(path, jobs=0)
    assert verify_ledger(path, vkeys=KEY.vkey).verdict == "OK"


def test_the_origin_can_be_named(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert check(path, origin=ORIGIN).verdict == "OK"
    assert check(path, origin="other.example/x").code == "E_ORIGIN"


def test_what_cannot_be_read_gives_no_verdict(tmp_path: Path) -> None:
    for report in (check(tmp_path / "nowhere"), verify_ledger(tmp_path / "nowhere")):
        assert (report.verdict, report.code) == ("NOT_CHECKED", "E_IO")
        assert report.exit_code == 2
    if os.geteuid() != 0:
        path = written(tmp_path)
        (path / "active.jsonl").chmod(0)
        assert check(path).code == "E_IO"
