"""Keys and checkpoints: what is accepted, and what is not."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from carbon_ops.ledger import keys
from carbon_ops.ledger.note import (
    COSIGNATURE,
    Checkpoint,
    NoteError,
    Signer,
    VerifierKey,
    cosign,
    cosigned_at,
    key_id,
    parse_note,
    sign_note,
    witness_key,
)
from carbon_ops.testing.ledgers import Forger

SEED = bytes(range(32))

NAME = "carbon-ops.example/host1"
VKEY = NAME + "+6051eb4d+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"


def test_the_key_of_the_format_document() -> None:
    """Its base64 part holds a plus sign: only the first two separate."""
    assert Signer(NAME, SEED).vkey == VKEY
    assert VerifierKey.parse(VKEY).text() == VKEY
    assert VKEY.count("+") == 3


def packed(kind: int, public: bytes) -> str:
    shown = key_id(NAME, kind, public).hex()
    return f"{NAME}+{shown}+{base64.b64encode(bytes([kind]) + public).decode()}"


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "name",
        "name+12345678",
        VKEY.replace("6051eb4d", "6051eb4e"),
        VKEY.replace("6051eb4d", "6051EB4D"),
        VKEY.replace("6051eb4d", "6051eb4"),
        VKEY[:-1],
        VKEY + "=",
        VKEY.replace("AQOh", "AQ h"),
        packed(1, SEED[:31]),
        packed(1, SEED + b"x"),
        packed(2, SEED),
        packed(0, SEED),
        "+" + VKEY.split("+", 1)[1],
        "a b+" + VKEY.split("+", 1)[1],
        "ü\ud800+" + VKEY.split("+", 1)[1],
    ],
    ids=range(16),
)
def test_a_key_of_another_form_is_refused(vkey: str) -> None:
    with pytest.raises(NoteError):
        VerifierKey.parse(vkey)


def test_a_witness_key_has_its_own_type() -> None:
    key = witness_key(Signer("witness.example/w1", SEED))
    assert VerifierKey.parse(key.text()) == key
    assert key.kind == COSIGNATURE


@pytest.mark.parametrize("text", ["", "PRIVATE+KEY+", "PRIVATE+KEY+a+b", VKEY])
def test_what_is_no_private_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(NoteError):
        Signer.parse(text)
    secret = Signer(NAME, SEED).text()
    with pytest.raises(NoteError) as caught:
        Signer.parse(secret[:-8])
    assert secret[-40:-8] not in str(caught.value)
    assert secret[-40:] not in repr(Signer.parse(secret))


def test_a_new_key_is_another_each_time() -> None:
    one, other = Signer.generate(NAME), Signer.generate(NAME)
    assert one.vkey != other.vkey
    assert Signer.parse(one.text()).vkey == one.vkey


def test_a_checkpoint_reads_back() -> None:
    claim = Checkpoint(NAME, 200, SEED)
    note = parse_note(sign_note(claim.body(), Signer(NAME, SEED)))
    assert Checkpoint.parse(note.body) == claim
    assert Checkpoint.parse(Checkpoint(NAME, 0, SEED).body()).size == 0


ROOT = base64.b64encode(SEED).decode()


@pytest.mark.parametrize(
    "body",
    [
        "",
        f"{NAME}\n200\n",
        f"{NAME}\n200\n{ROOT}",
        f"{NAME}\n200\n{ROOT}\nmore\n",
        f"\n200\n{ROOT}\n",
        f"{NAME}\n\n{ROOT}\n",
        f"{NAME}\n0200\n{ROOT}\n",
        f"{NAME}\n-1\n{ROOT}\n",
        f"{NAME}\n 1\n{ROOT}\n",
        f"{NAME}\n1.0\n{ROOT}\n",
        f"{NAME}\n²\n{ROOT}\n",
        f"{NAME}\n9007199254740992\n{ROOT}\n",
        f"{NAME}\n200\n{ROOT[:-4]}\n",
        f"{NAME}\n200\n{ROOT[:-2]}x=\n",
    ],
    ids=range(14),
)
def test_a_checkpoint_of_another_form_is_refused(body: str) -> None:
    with pytest.raises(NoteError):
        Checkpoint.parse(body.encode())


def test_a_cosignature_holds_for_its_time_and_body_alone() -> None:
    witness = Signer("witness.example/w1", SEED)
    body = Checkpoint(NAME, 200, SEED).body()
    line = cosign(body, witness, 1_679_315_147)
    (signature,) = parse_note(body + b"\n" + line).by(witness_key(witness))
    key = witness_key(witness)
    assert cosigned_at(key, body, signature.blob) == 1_679_315_147
    assert cosigned_at(key, body + b"x\n", signature.blob) is None
    assert cosigned_at(key, body, b"\xff" * 8 + signature.blob[8:]) is None
    assert cosigned_at(key, body, signature.blob[:-1]) is None


def test_a_text_without_its_line_feed_is_not_signed() -> None:
    with pytest.raises(NoteError):
        sign_note(b"text", Signer(NAME, SEED))


# --- key files


def test_a_key_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "a.key"
    before = os.umask(0)
    try:
        keys.save(Signer(NAME, SEED), path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert keys.load(path).vkey == VKEY
    with pytest.raises(keys.KeyFileError, match="exists"):
        keys.save(Signer.generate(NAME), path)
    assert keys.load(path).vkey == VKEY


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_others_may_read_is_refused(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    keys.save(Signer(NAME, SEED), path)
    path.chmod(mode)
    with pytest.raises(keys.KeyFileError, match="read by others") as caught:
        keys.load(path)
    assert f"chmod 600 {path}" in caught.value.hint


def test_a_damaged_or_missing_key_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    with pytest.raises(keys.KeyFileError, match="No such file"):
        keys.load(path)
    for text in (b"", b"\xff\xfe", b"PRIVATE+KEY+x"):
        path.write_bytes(text)
        path.chmod(0o600)
        with pytest.raises(keys.KeyFileError, match="no usable key"):
            keys.load(path)
    with pytest.raises(keys.KeyFileError, match="regular"):
        keys.load(tmp_path)


def test_where_keys_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(keys.ENV, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert keys.key_path("host/a").parent == tmp_path / "carbon-ops/keys"
    assert keys.key_path("host/a") == tmp_path / "carbon-ops/keys/host_a.key"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert keys.key_path("host/a") == Path.home() / ".config/carbon-ops/keys/host_a.key"
    monkeypatch.setenv(keys.ENV, str(tmp_path / "named"))
    assert keys.key_path("host/a") == tmp_path / "named"


WITHOUT = """
import sys
sys.modules["cryptography"] = None
from carbon_ops.errors import MissingDependencyError
from carbon_ops.ledger.store import Ledger
from carbon_ops.ledger.verify import verify_ledger
with Ledger.init(sys.argv[1], origin="host/a") as ledger:
    ledger.heartbeat()
print(verify_ledger(sys.argv[1]).verdict, verify_ledger(sys.argv[2]).code)
try:
    verify_ledger(sys.argv[2], vkeys=[sys.argv[3]])
except MissingDependencyError as error:
    print(error.hint)
"""


def test_without_cryptography_a_ledger_is_kept_and_checked_unsigned(
    tmp_path: Path,
) -> None:
    path = Forger(70, key=Signer(NAME, SEED)).write(tmp_path / "signed")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(tmp_path / "new"), str(path), VKEY],
        capture_output=True,
        text=True,
        check=True,
    )
    first, hint = done.stdout.splitlines()
    assert first == "OK E_KEY_UNKNOWN"
    assert "Install cryptography" in hint
