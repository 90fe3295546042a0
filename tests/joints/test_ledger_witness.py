"""A ledger's requests to a witness, and how the witness has to answer each kind.

The answers are those that c2sp.org/tlog-witness lists for ``add-checkpoint``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from carbon_ops.errors import InvalidInputError
from carbon_ops.ledger.note import (
    Checkpoint,
    Signer,
    VerifierKey,
    cosigned_at,
    parse_note,
    sign_note,
    witness_key,
)
from carbon_ops.ledger.store import Ledger
from carbon_ops.ledger.verify import verify_ledger
from carbon_ops.ledger.witness import Request
from carbon_ops.testing.witness import Answer, answer

LOG = Signer("log.example/l", b"\1" * 32)
WITNESS = Signer("witness.example", b"\2" * 32)
AT_S = 1_790_000_000


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    with Ledger.init(tmp_path / "l", origin=LOG.name, signer=LOG) as opened:
        opened.append_many([{"type": "note", "n": n} for n in range(299)])
    return tmp_path / "l"


def grow(ledger: Path, count: int) -> None:
    with Ledger.open(ledger, signer=LOG) as opened:
        opened.append_many([{"type": "note", "n": n} for n in range(count)])


def request(ledger: Path, old: int) -> bytes:
    command = [sys.executable, "-m", "carbon_ops", "ledger", "witness-request"]
    done = subprocess.run(
        [*command, str(ledger), str(old)], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask(body: bytes, seen: dict[str, Checkpoint]) -> Answer:
    keys: dict[str, list[VerifierKey]] = {LOG.name: [LOG.key]}
    given = answer(body, keys, seen, WITNESS, AT_S)
    if given.seen is not None:
        seen[LOG.name] = given.seen
    return given


def test_a_witness_signs_what_extends_what_it_signed_before(
    ledger: Path, tmp_path: Path
) -> None:
    seen: dict[str, Checkpoint] = {}
    sizes = []
    for more in (0, 1, 212, 5):
        grow(ledger, more)
        old = seen[LOG.name].size if seen else 0
        given = ask(request(ledger, old), seen)
        assert given.status == 200
        sizes.append(seen[LOG.name].size)
    assert sizes == [300, 301, 513, 518]

    note = (ledger / "checkpoint").read_bytes() + given.body
    line = parse_note(note).by(witness_key(WITNESS))[0]
    body = parse_note(note).body
    assert cosigned_at(witness_key(WITNESS), body, line.blob) == AT_S
    (tmp_path / "anchor").write_bytes(note)
    report = verify_ledger(
        ledger,
        vkeys=[LOG.vkey, witness_key(WITNESS).text()],
        anchor=tmp_path / "anchor",
    )
    assert report.verdict == "OK", report.detail


def test_a_witness_refuses_everything_else_in_its_own_way(ledger: Path) -> None:
    seen: dict[str, Checkpoint] = {}
    assert ask(request(ledger, 0), seen).status == 200
    before = dict(seen)
    grow(ledger, 20)
    good = Request.parse(request(ledger, 300))
    new = Checkpoint.parse(parse_note(good.note).body)
    other = sign_note(Checkpoint(LOG.name, 300, b"\0" * 32).body(), LOG)
    stranger = sign_note(new._replace(origin="who.example").body(), LOG)
    forged = sign_note(new.body(), Signer(LOG.name, b"\3" * 32))

    assert ask(request(ledger, 299), seen) == (409, b"300\n", None)
    assert ask(request(ledger, 0), seen)[:2] == (409, b"300\n")
    assert ask(good._replace(path=good.path[:-1]).text(), seen).status == 422
    assert ask(good._replace(path=good.path[::-1]).text(), seen).status == 422
    assert ask(Request(300, (), other).text(), seen).status == 422  # another root
    assert ask(good._replace(note=stranger).text(), seen).status == 404
    assert ask(good._replace(note=forged).text(), seen).status == 403
    assert ask(good._replace(old=321).text(), seen).status == 400  # old above new
    assert seen == before
    assert ask(good.text(), seen).status == 200


def test_a_ledger_that_was_rolled_back_gets_no_signature(ledger: Path) -> None:
    earlier = {path: path.read_bytes() for path in ledger.iterdir() if path.is_file()}
    seen: dict[str, Checkpoint] = {}
    grow(ledger, 400)
    assert ask(request(ledger, 0), seen).status == 200
    for path in list(ledger.iterdir()):
        if path.is_file():
            path.unlink()
    for path, data in earlier.items():
        path.write_bytes(data)

    assert verify_ledger(ledger, vkeys=[LOG.vkey]).verdict == "OK"  # it shows nothing
    assert ask(request(ledger, 0), seen)[:2] == (409, b"700\n")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 1\n",
        b"old 01\n\nx\n",
        b"old -1\n\nx\n",
        b"old 1\nAAAA\n\nx\n",
        b"old 1\n!\n\nx\n",
        b"new 1\n\nx\n",
        b"old 99999999999999999\n\nx\n",
        b"old 1\n" + b"A" * 43 + b"=\n\n" + b"x" * 200_000,
        b"old 1\n" + (b"A" * 43 + b"=\n") * 64 + b"\nx\n",
    ],
    ids=range(10),
)
def test_what_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInputError):
        Request.parse(body)
    assert ask(body, {}).status == 400
