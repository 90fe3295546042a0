"""A proof file: what it must hold, and that any bytes give an answer."""

from __future__ import annotations

import base64
import random

import pytest

from carbon_ops.ledger.merkle import leaf_hash, root
from carbon_ops.ledger.note import Checkpoint, sign_note
from carbon_ops.ledger.proofs import check_proof, inclusion, write_proof
from carbon_ops.testing.ledgers import ORIGIN, Forger, chained, record, signer

KEY = signer()
LEDGER = Forger(70, key=KEY)


def made(seq: int, lines: list[bytes] = LEDGER.lines) -> bytes:
    leaves = [leaf_hash(line) for line in lines]
    path = inclusion(seq, len(lines), lambda low, high: root(leaves[low:high]))
    claim = Checkpoint(ORIGIN, len(lines), root(leaves))
    return write_proof(lines[seq], seq, path, sign_note(claim.body(), KEY))


def test_a_proof_file_reads_as_the_format_says() -> None:
    lines = made(7).split(b"\n")
    assert lines[0] == b"c2sp.org/tlog-proof@v1"
    assert base64.b64decode(lines[1].removeprefix(b"extra ")) == LEDGER.lines[7]
    assert lines[2] == b"index 7"
    gap = lines.index(b"")
    assert all(len(base64.b64decode(line)) == 32 for line in lines[3:gap])
    assert lines[gap + 1 : gap + 3] == [ORIGIN.encode(), b"70"]


@pytest.mark.parametrize("seq", [0, 1, 63, 64, 69])
def test_it_holds(seq: int) -> None:
    report = check_proof(made(seq), [KEY.key])
    assert (report.holds, report.code, report.seq) == (True, None, seq)
    assert report.record == LEDGER.lines[seq]
    assert report.to_dict()["origin"] == ORIGIN


def test_a_record_that_gives_itself_another_number_is_refused() -> None:
    """Its writer signed it: the proof is right, the place is a lie."""
    lines = chained([record(seq) for seq in range(70)], seq=100)
    assert check_proof(made(7, lines), [KEY.key]).code == "E_SEQ"
    for text in (b"no record", b"[7]", b'{"seq":7.0}', b"{" * 50_000):
        lines[7] = text
        assert check_proof(made(7, lines), [KEY.key]).code == "E_SEQ"
    lines[1] = b'{"seq":true}'
    assert check_proof(made(1, lines), [KEY.key]).code == "E_SEQ"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b"@v1", b"@v2", "E_PROOF_FORMAT"),
        (b"extra ", b"other ", "E_PROOF_FORMAT"),
        (b"index 7", b"index 07", "E_PROOF_FORMAT"),
        (b"index 7", b"index -7", "E_PROOF_FORMAT"),
        (b"index 7", b"index 8", "E_PROOF"),
        (b"index 7", b"index 70", "E_PROOF"),
        (b"\n70\n", b"\n69\n", "E_CKPT_SIG"),
        (b"\n\n", b"\n" + base64.b64encode(bytes(32)) + b"\n\n", "E_PROOF"),
        (b"\n\n", b"\nAAAA\n\n", "E_PROOF"),
        (b"\n\n", b"\n!\n\n", "E_PROOF_FORMAT"),
        (b"\n\n", b"\n" + b"AAAA\n" * 50 + b"\n", "E_PROOF"),
        (b"\n\n", b"\n" + b"AAAA\n" * 64 + b"\n", "E_PROOF_FORMAT"),
    ],
    ids=range(12),
)
def test_a_changed_proof_file_is_refused(old: bytes, new: bytes, code: str) -> None:
    data = made(7)
    assert old in data
    assert check_proof(data.replace(old, new, 1), [KEY.key]).code == code


def test_only_a_trusted_key_counts() -> None:
    assert check_proof(made(7), [signer(1).key]).code == "E_KEY_UNKNOWN"
    assert check_proof(made(7), []).code == "E_ORIGIN"
    assert check_proof(made(7), [KEY.key], "other.example").code == "E_ORIGIN"


def test_any_bytes_give_an_answer() -> None:
    dice, data = random.Random(5), made(7)
    for _ in range(2000):
        at, width = dice.randrange(len(data)), dice.choice((1, 1, 5, 100))
        changed = (
            data[:at] + dice.randbytes(dice.choice((0, width))) + data[at + width :]
        )
        report = check_proof(changed, [KEY.key])
        assert not report.holds or report.record == LEDGER.lines[7]
    assert not check_proof(b"", [KEY.key]).holds
    assert not check_proof(b"x" * 10**6, [KEY.key]).holds
    long = made(7).replace(b"extra ", b"extra " + b"A" * 10**7)
    assert "longer than" in check_proof(long, [KEY.key]).detail
