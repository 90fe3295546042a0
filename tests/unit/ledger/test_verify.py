"""What a verification says about honest ledgers, plain chains and odd arguments."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from carbon_ops.errors import InvalidInputError
from carbon_ops.ledger.report import Report
from carbon_ops.ledger.verify import verify_ledger
from carbon_ops.testing.ledgers import ORIGIN, Forger, chained, record, signer

KEY = signer()


def plain(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def test_a_plain_chain_verifies_as_far_as_a_chain_goes(tmp_path: Path) -> None:
    lines = chained([record(seq) for seq in range(300)])
    path = plain(tmp_path / "chain.jsonl", lines)

    report = verify_ledger(path)
    assert (report.verdict, report.size, report.signed) == ("OK", 300, False)
    assert "unsigned: truncation not checked" in report.lines[0]

    path.write_bytes(path.read_bytes()[:-10])
    report = verify_ledger(path)
    assert (report.verdict, report.seq, report.exit_code) == ("TORN_TAIL", 299, 3)

    lines[100] = lines[100].replace(b"312.7", b"312.8")
    report = verify_ledger(plain(path, lines))
    assert (report.verdict, report.code, report.seq) == ("TAMPERED", "E_PREV_HASH", 101)
    assert verify_ledger(plain(path, lines[1:])).code == "E_SEQ"
    assert verify_ledger(plain(path, [])).code == "E_EMPTY"


def test_a_plain_chain_with_its_checkpoint_verifies_like_a_ledger(
    tmp_path: Path,
) -> None:
    ledger = Forger(70, key=KEY)
    path = plain(tmp_path / "export.jsonl", ledger.lines)
    assert verify_ledger(path).code == "E_KEY_UNKNOWN"
    assert verify_ledger(path, vkeys=[KEY.vkey]).code == "E_CKPT_MISSING"

    (tmp_path / "export.jsonl.checkpoint").write_bytes(ledger.checkpoint())
    report = verify_ledger(path, vkeys=[KEY.vkey])
    assert (report.verdict, report.covered) == ("OK", 70)
    plain(path, ledger.lines[:-1])
    assert verify_ledger(path, vkeys=[KEY.vkey]).code == "E_TRUNCATED"


def test_a_linked_plain_file_is_refused(tmp_path: Path) -> None:
    path = plain(tmp_path / "chain.jsonl", chained([record(0)]))
    (tmp_path / "link.jsonl").symlink_to(path)
    assert verify_ledger(tmp_path / "link.jsonl").code == "E_SYMLINK"


def test_a_linked_directory_is_followed(tmp_path: Path) -> None:
    Forger(70, key=KEY).write(tmp_path / "ledger")
    (tmp_path / "link").symlink_to(tmp_path / "ledger")
    assert verify_ledger(tmp_path / "link", vkeys=[KEY.vkey]).verdict == "OK"


def test_an_unsigned_ledger_does_not_show_a_cut_tail_and_says_so(
    tmp_path: Path,
) -> None:
    ledger = Forger(200)
    del ledger.lines[195:]
    report = verify_ledger(ledger.write(tmp_path / "ledger"))
    assert (report.verdict, report.size) == ("OK", 195)
    assert "unsigned: truncation not checked" in report.lines[0]
    assert verify_ledger(tmp_path / "ledger", min_size=200).code == "E_ROLLBACK"


def test_an_empty_directory_is_an_empty_ledger(tmp_path: Path) -> None:
    assert verify_ledger(tmp_path).code == "E_EMPTY"
    assert verify_ledger(tmp_path, vkeys=[KEY.vkey]).code == "E_CKPT_MISSING"


@pytest.mark.parametrize(
    "change",
    [{"format": 2}, {"format": "1"}, {"type": "energy_metric"}, {"origin": "x"}],
)
def test_another_beginning_is_told(change: dict[str, object], tmp_path: Path) -> None:
    ledger = Forger(70, key=KEY)
    first = json.loads(ledger.lines[0]) | change
    ledger.lines[0] = chained([first])[0]
    ledger.rechain(1)
    path = ledger.write(tmp_path / "ledger", sign_anew=True)
    report = verify_ledger(path, vkeys=[KEY.vkey])
    assert report.code == ("E_ORIGIN" if "origin" in change else "E_GENESIS")
    assert report.seq == 0


@pytest.mark.parametrize(("more", "code"), [(0, None), (1, "E_LIMIT")])
def test_the_longest_record_is_one_of_65_535_bytes(
    more: int, code: str | None, tmp_path: Path
) -> None:
    """A length in two bytes: the entries of tlog-tiles have no more."""
    empty = len(chained([record(0) | {"padding": ""}])[0])
    long = record(0) | {"padding": "x" * (65_535 - empty + more)}
    report = verify_ledger(plain(tmp_path / "chain.jsonl", chained([long])))
    assert (report.code, report.size) == (code, 1 - more)


def test_links_only_says_how_little_it_checked(tmp_path: Path) -> None:
    ledger = Forger(200, key=KEY)
    ledger.lines[70] = ledger.lines[70].replace(b'"gaps":0', b'"gaps":1')
    ledger.rechain(71)
    path = ledger.write(tmp_path / "ledger")

    report = verify_ledger(path, vkeys=[KEY.vkey], links_only=True)
    assert report.verdict == "OK"  # chained anew: the links hold, the tree would not
    assert "canonical form, tree and what the checkpoint covers NOT CHECKED" in (
        report.lines[0]
    )
    assert verify_ledger(path, vkeys=[KEY.vkey]).code == "E_ROOT"
    with pytest.raises(InvalidInputError):
        verify_ledger(path, recompute=True, links_only=True)


def test_links_only_sees_a_broken_link(tmp_path: Path) -> None:
    ledger = Forger(200, key=KEY)
    ledger.lines[70] = ledger.lines[70].replace(b'"gaps":0', b'"gaps":1')
    path = ledger.write(tmp_path / "ledger")
    report = verify_ledger(path, vkeys=[KEY.vkey], links_only=True)
    assert (report.code, report.seq) == ("E_PREV_HASH", 71)


def test_several_processes_see_what_one_sees(tmp_path: Path) -> None:
    """Honest and damaged ledgers, with marks inside segments and at their seams."""
    ledger = Forger(64 * 40 + 9, key=KEY)
    anchors = [ledger.checkpoint(size) for size in (100, 1024, 1025, 2500)]
    path = ledger.write(tmp_path / "good")
    done: list[int] = []
    alone = verify_ledger(path, vkeys=[KEY.vkey], anchor=anchors)
    report = verify_ledger(
        path, vkeys=[KEY.vkey], anchor=anchors, jobs=2, progress=done.append
    )
    assert report == alone
    assert report.verdict == "OK"
    assert done == sorted(done)
    assert done[-1] == len(ledger.lines)

    for name, seq in (("inside", 1500), ("seam", 1023), ("first", 5)):
        bad = Forger(64 * 40 + 9, key=KEY)
        bad.lines[seq] = bad.lines[seq].replace(b'"gaps":0', b'"gaps":1')
        path = bad.write(tmp_path / name)
        alone = verify_ledger(path, vkeys=[KEY.vkey])
        assert verify_ledger(path, vkeys=[KEY.vkey], jobs=2) == alone
        assert (alone.code, alone.seq) == ("E_PREV_HASH", seq + 1)
    (path / f"seg-{1024:020d}.jsonl").unlink()
    report = verify_ledger(path, vkeys=[KEY.vkey], jobs=2)
    assert report == verify_ledger(path, vkeys=[KEY.vkey])


def test_progress_counts_records(tmp_path: Path) -> None:
    done: list[int] = []
    path = Forger(200, key=KEY).write(tmp_path / "ledger")
    verify_ledger(path, vkeys=[KEY.vkey], progress=done.append)
    assert done == sorted(done)
    assert done[-1] == 200


def test_a_reader_without_write_permission_suffices(tmp_path: Path) -> None:
    path = Forger(200, key=KEY).write(tmp_path / "ledger")
    for name in os.listdir(path):
        (path / name).chmod(0o444)
    path.chmod(0o555)
    try:
        assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"
    finally:
        path.chmod(0o755)


def test_the_report_is_plain_json(tmp_path: Path) -> None:
    path = Forger(200, key=KEY).write(tmp_path / "ledger")
    report = verify_ledger(path, vkeys=[KEY.vkey], anchor=Forger(200, key=KEY).note)
    fields = json.loads(json.dumps(report.to_dict()))
    assert fields["verdict"] == "OK"
    assert fields["exit_code"] == 0
    assert fields["origin"] == ORIGIN
    assert len(fields["lines"]) == 4
    assert fields["anchors"]


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (Report("OK"), 0),
        (Report("OK_PENDING"), 0),
        (Report("OK_PENDING", strict=True), 1),
        (Report("TAMPERED", "E_ROOT"), 1),
        (Report("NOT_CHECKED", "E_IO"), 2),
        (Report("TORN_TAIL", "E_TORN_TAIL"), 3),
    ],
)
def test_exit_statuses(report: Report, code: int) -> None:
    assert report.exit_code == code
