"""A key is exchanged while other programs write: they take it up, or say that they cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from carbon_ops.errors import LedgerError
from carbon_ops.ledger import keys
from carbon_ops.ledger.note import Signer
from carbon_ops.ledger.store import KeyNotInForceError, Ledger
from carbon_ops.ledger.verify import verify_ledger

CLI = (sys.executable, "-m", "carbon_ops", "ledger")
NAME = "host.example/rotating"

# One line in, one record out; the ledger stays open all the while.
WRITER = """
import sys
from pathlib import Path
from carbon_ops.ledger.keys import load
from carbon_ops.ledger.store import Ledger, LedgerError
signer = load(Path(sys.argv[2])) if len(sys.argv) > 2 else None
ledger = Ledger.open(sys.argv[1], signer=signer)
print("open", flush=True)
for line in sys.stdin:
    try:
        print(ledger.append({"type": "note", "text": line.strip()}).seq, flush=True)
    except LedgerError as error:
        print(type(error).__name__, error, flush=True)
"""


class Shop:
    """A folder with a signed ledger, its keys and programs that write to it."""

    def __init__(self, home: Path) -> None:
        self.env = {**os.environ, "XDG_CONFIG_HOME": str(home / "config")}
        self.env.pop(keys.ENV, None)
        self.ledger = home / "ledger"
        self.key = home / "config/carbon-ops/keys" / (NAME.replace("/", "_") + ".key")
        self.vkeys = [self.vkey_of(self.cli("init", "--origin", NAME))]

    def cli(self, command: str, *more: object) -> str:
        done = subprocess.run(
            [*CLI, command, str(self.ledger), *map(str, more)],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @staticmethod
    def vkey_of(printed: str) -> str:
        return printed.split("vkey")[1].split()[0]

    def rotate(self, *more: object) -> str:
        printed = self.cli("rotate-key", *more)
        self.vkeys.append(self.vkey_of(printed))
        return printed

    def verdicts(self) -> list[str]:
        """Return the verdict with the first key alone, the last alone, and all."""
        asked = [self.vkeys[:1], self.vkeys[-1:], self.vkeys]
        return [verify_ledger(self.ledger, vkeys=vkeys).verdict for vkeys in asked]


class Program:
    """A writer that runs while keys change."""

    def __init__(self, shop: Shop, *key: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(shop.ledger), *map(str, key)],
            env=shop.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._told() == "open"

    def _told(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()

    def write(self) -> str:
        """Have it write a record; return the record's number, or what it says."""
        assert self._process.stdin
        self._process.stdin.write("text\n")
        self._process.stdin.flush()
        return self._told()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)
        assert self._process.returncode == 0


@pytest.fixture(name="shop")
def _shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_a_running_writer_takes_the_new_key_up(shop: Shop) -> None:
    with Program(shop) as writer, Program(shop) as idle:
        assert writer.write() == "1"
        printed = shop.rotate()
        assert [writer.write(), writer.write(), idle.write()] == ["3", "4", "5"]
        shop.rotate()
        assert [idle.write(), writer.write()] == ["7", "8"]
    assert shop.verdicts() == ["OK", "OK", "OK"]
    assert keys.load(shop.key).vkey == shop.vkeys[-1]

    first = Path(printed.split("old key")[1].split()[0])
    assert first == shop.key.with_name(
        f"{shop.key.name}.retired-{shop.vkeys[0].split('+')[1]}"
    )
    assert keys.load(first).vkey == shop.vkeys[0]
    assert {p.stat().st_mode & 0o777 for p in shop.key.parent.iterdir()} == {0o600}
    with pytest.raises(KeyNotInForceError, match="replaced by"):
        Ledger.open(shop.ledger, signer=keys.load(first))


def test_a_writer_that_was_given_its_key_is_refused_clearly(shop: Shop) -> None:
    with Program(shop, shop.key) as writer:
        assert writer.write() == "1"
        shop.rotate()
        told = writer.write()
        assert "KeyNotInForceError" in told
        assert "replaced by record 2" in told
        assert "nothing was written" in told
        assert "KeyNotInForceError" in writer.write()
    assert shop.verdicts() == ["OK", "OK", "OK"]
    assert verify_ledger(shop.ledger, vkeys=shop.vkeys).size == 3


def test_many_records_later_a_writer_still_finds_the_key(shop: Shop) -> None:
    """The record of the change lies in a segment that the writer never read."""
    with Program(shop) as writer:
        assert writer.write() == "1"
        shop.rotate()
        with Ledger.open(shop.ledger, key_file=shop.key) as other:
            other.append_many({"type": "note"} for _ in range(600))
        assert writer.write() == "603"
    assert shop.verdicts() == ["OK", "OK", "OK"]


def test_an_interrupted_change_is_finished(shop: Shop) -> None:
    """Killed with the record written and the key not yet in its place."""
    new = Signer.generate(NAME)
    with Program(shop) as writer:
        keys.save(new, keys.successor(shop.key))
        with Ledger.open(shop.ledger, key_file=shop.key) as ledger:
            ledger.rotate_key(new)
        assert writer.write() == "2"  # programs go on meanwhile
        assert shop.cli("heartbeat")
        assert "finished" in shop.cli("rotate-key")
        assert writer.write() == "4"
    assert keys.load(shop.key).vkey == new.vkey
    assert not keys.successor(shop.key).exists()
    shop.vkeys.append(new.vkey)
    assert shop.verdicts() == ["OK", "OK", "OK"]


def test_a_change_that_was_not_begun_is_begun_again_with_the_same_key(
    shop: Shop,
) -> None:
    """Killed after the new key was made, before the record was written."""
    new = Signer.generate(NAME)
    keys.save(new, keys.successor(shop.key))
    assert shop.vkey_of(shop.rotate()) == new.vkey
    assert shop.verdicts() == ["OK", "OK", "OK"]


def test_a_key_kept_elsewhere_stays_there(shop: Shop, tmp_path: Path) -> None:
    """The writers' own place is left alone; they are told which key is missing."""
    elsewhere = tmp_path / "elsewhere.key"
    old = shop.key.read_bytes()
    shop.rotate("--new-key-file", elsewhere)
    assert (shop.key.read_bytes(), len(list(shop.key.parent.iterdir()))) == (old, 1)
    with pytest.raises(LedgerError, match="replaced by record 1"):
        Ledger.open(shop.ledger, key_file=shop.key)
    shop.env[keys.ENV] = str(elsewhere)
    assert shop.cli("heartbeat")
    assert shop.rotate()  # and from there as anywhere: into the file the variable names
    assert keys.load(elsewhere).vkey == shop.vkeys[-1]
    assert shop.verdicts() == ["OK", "OK", "OK"]


def test_a_linked_key_is_replaced_in_its_own_folder(shop: Shop, tmp_path: Path) -> None:
    real = tmp_path / "vault" / "real.key"
    real.parent.mkdir(mode=0o700)
    shop.key.rename(real)
    shop.key.symlink_to(real)
    shop.rotate()
    assert shop.key.is_symlink()
    assert keys.load(real).vkey == shop.vkeys[-1]
    assert shop.verdicts() == ["OK", "OK", "OK"]
