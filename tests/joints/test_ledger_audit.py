"""The auditor's way through the command line, with a ledger a real writer made."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from carbon_ops.ledger.commitment import commit
from carbon_ops.ledger.store import Ledger
from carbon_ops.testing.ledgers import record

DOCS = Path(__file__).parents[2] / "docs/reference/schemas"


def run(
    *arguments: object, home: Path, **options: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "carbon_ops", "ledger", *map(str, arguments)],
        env={**os.environ, "XDG_CONFIG_HOME": str(home / "config"), "COLUMNS": "100"}
        | options.pop("env", {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    home = tmp_path_factory.mktemp("shop")
    done = run(
        "init", home / "ledger", "--origin", "host.example/a", "--json", home=home
    )
    assert done.returncode == 0, done.stderr
    vkey: str = json.loads(done.stdout)["vkey"]
    signer_file = Path(json.loads(done.stdout)["key_file"])
    assert signer_file.stat().st_mode & 0o777 == 0o600
    from carbon_ops.ledger.keys import load

    with Ledger.open(home / "ledger", signer=load(signer_file)) as ledger:
        ledger.append_many(record(seq) for seq in range(299))
        ledger.heartbeat()
    return home, vkey


@pytest.fixture
def shop(made: tuple[Path, str], tmp_path: Path) -> tuple[Path, str]:
    """A copy of it, to be damaged."""
    home, vkey = made
    subprocess.run(["cp", "-a", f"{home}/.", str(tmp_path)], check=True)
    return tmp_path, vkey


def test_verify_says_ok_with_the_key_and_asks_for_it_without(
    shop: tuple[Path, str],
) -> None:
    home, vkey = shop
    done = run("verify", home / "ledger", "--vkey", vkey, home=home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("OK\n")
    assert len(done.stdout.splitlines()) == 5

    done = run("verify", home / "ledger", home=home)
    assert done.returncode == 2
    assert "E_KEY_UNKNOWN" in done.stdout
    assert "--vkey" in done.stderr

    keys = home / "keys.txt"
    keys.write_text(f"# the shop's\n\n{vkey}\n")
    done = run("verify", home / "ledger", "--vkey-file", keys, "--json", home=home)
    assert json.loads(done.stdout)["verdict"] == "OK"


def test_verify_tells_tampered_torn_and_wrong_usage_apart(
    shop: tuple[Path, str],
) -> None:
    home, vkey = shop
    active = home / "ledger/active.jsonl"
    whole = active.read_bytes()
    active.write_bytes(whole + b'{"half')
    done = run("verify", home / "ledger", "--vkey", vkey, home=home)
    assert (done.returncode, done.stdout.split()[0]) == (3, "TORN_TAIL")
    active.write_bytes(whole[:-5])
    done = run("verify", home / "ledger", "--vkey", vkey, home=home)
    assert (done.returncode, done.stdout.split()[:2]) == (
        1,
        ["TAMPERED", "E_TRUNCATED"],
    )
    for wrong in (["--vkey", "x"], ["--max-age", "soon"], ["--anchor", "none"]):
        done = run("verify", home / "ledger", *wrong, home=home)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_a_proof_stands_alone(shop: tuple[Path, str]) -> None:
    home, vkey = shop
    file = home / "r7.tlog-proof"
    assert run("prove", home / "ledger", 7, "-o", file, home=home).returncode == 0
    subprocess.run(["rm", "-rf", str(home / "ledger")], check=True)

    done = run("check-proof", file, "--vkey", vkey, home=home)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["seq"] == 7
    assert "host.example/a" in done.stderr
    text = file.read_bytes()
    for bad in (
        text.replace(b"index 7", b"index 8"),
        text[:-8] + b"AAAA" + text[-4:],
        text.replace(b"extra eyJ", b"extra eyK"),
        b"",
        text[:100],
    ):
        file.write_bytes(bad)
        done = run("check-proof", file, "--vkey", vkey, home=home)
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
    assert run("check-proof", file, home=home).returncode == 2


def test_a_proof_made_after_a_change_of_key_names_the_trouble(
    shop: tuple[Path, str],
) -> None:
    home, vkey = shop
    done = run("rotate-key", home / "ledger", home=home)
    new = done.stdout.split("vkey")[1].split()[0]
    run("heartbeat", home / "ledger", home=home)
    run("prove", home / "ledger", 7, "-o", home / "p", home=home)
    assert run("check-proof", home / "p", "--vkey", new, home=home).returncode == 0
    done = run("check-proof", home / "p", "--vkey", vkey, home=home)
    assert (done.returncode, "changes of key" in done.stderr) == (1, True)


def test_an_anchor_that_keeps_nothing_makes_no_folder(tmp_path: Path) -> None:
    assert run("anchor", tmp_path / "no", tmp_path / "k", home=tmp_path).returncode == 2
    assert not (tmp_path / "k").exists()
    run("init", tmp_path / "l", "--unsigned", home=tmp_path)
    done = run("anchor", tmp_path / "l", "/proc/nothing/here", home=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


def test_a_private_value_is_disclosed_with_its_proof(shop: tuple[Path, str]) -> None:
    home, vkey = shop
    digest, opening = commit("info.user", "Zoë")
    key = next((home / "config/carbon-ops/keys").iterdir())
    with Ledger.open(home / "ledger", key_file=key) as ledger:
        seq = ledger.append({"type": "note", "info": {"user": digest}}).seq
    proof, opened = home / "p", home / "opening.json"
    assert run("prove", home / "ledger", seq, "-o", proof, home=home).returncode == 0

    def check(text: str) -> subprocess.CompletedProcess[str]:
        opened.write_text(text, encoding="utf-8")
        arguments = ("check-proof", proof, "--vkey", vkey, "--opening", opened)
        return run(*arguments, "--json", home=home)

    good = opening._asdict()
    done = check(json.dumps(good))
    assert (done.returncode, json.loads(done.stdout)["opened"]) == (0, [good])
    for change in (
        {"value": "Zoe"},
        {"value": float("nan")},
        {"salt": "00" * 32},
        {"salt": opening.salt[:30]},
        {"path": "info"},
        {"path": "info.user.name"},
    ):
        done = check(json.dumps(good | change))
        found = json.loads(done.stdout)
        assert (done.returncode, found["code"]) == (1, "E_COMMIT"), change
        assert (found["record"], found["opened"]) == (None, [])
    for text in ("", "[]", "{}", "[" * 9000, json.dumps(good | {"more": 1}), "7"):
        done = check(text)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    done = run(
        "check-proof", proof, "--vkey", vkey, "--opening", home / "none", home=home
    )
    assert done.returncode == 2


def test_tiles_are_a_folder(shop: tuple[Path, str]) -> None:
    home, _ = shop
    done = run("export", home / "ledger", home / "o.tiles", home=home)
    assert (done.returncode, done.stderr) == (
        0,
        f"301 records written to {home}/o.tiles\n",
    )
    assert (home / "o.tiles/tile/1/000.p/1").stat().st_size == 32
    assert run("export", home / "ledger", home / "o.tiles", home=home).returncode == 2
    done = run("export", home / "ledger", home / "x.tiles", "--type", "note", home=home)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


def test_what_is_not_covered_cannot_be_proven(shop: tuple[Path, str]) -> None:
    home, _ = shop
    done = run("prove", home / "ledger", 301, home=home)
    assert (done.returncode, done.stdout) == (2, "")
    run("init", home / "unsigned", "--unsigned", home=home)
    done = run("prove", home / "unsigned", 0, home=home)
    assert done.returncode == 2
    assert "no checkpoint" in done.stderr


def test_anchors_show_a_rollback(shop: tuple[Path, str]) -> None:
    home, vkey = shop
    ledger, kept = home / "ledger", home / "kept"
    subprocess.run(["cp", "-a", str(ledger), str(home / "older")], check=True)
    assert run("heartbeat", ledger, home=home).returncode == 0
    done = run("anchor", ledger, kept, "--vkey", vkey, "--json", home=home)
    assert json.loads(done.stdout)["saved"].endswith("302.checkpoint")
    done = run("anchor", ledger, kept, "--vkey", vkey, "--json", home=home)
    assert json.loads(done.stdout)["saved"] is None

    done = run("anchor", home / "older", kept, "--vkey", vkey, home=home)
    assert done.returncode == 1
    assert "E_ROLLBACK" in done.stdout
    assert len(list(kept.iterdir())) == 1
    assert run("verify", home / "older", "--vkey", vkey, home=home).returncode == 0


def test_a_key_is_rotated_and_old_holders_follow(shop: tuple[Path, str]) -> None:
    home, vkey = shop
    new = home / "new.key"
    done = run("rotate-key", home / "ledger", "--new-key-file", new, home=home)
    assert done.returncode == 0, done.stderr
    assert new.stat().st_mode & 0o777 == 0o600
    new_vkey = done.stdout.split("vkey")[1].split()[0]
    assert run("heartbeat", home / "ledger", home=home).returncode == 2
    env = {"CARBON_OPS_LEDGER_KEY": str(new)}
    assert run("heartbeat", home / "ledger", home=home, env=env).returncode == 0
    for key in (vkey, new_vkey):
        done = run("verify", home / "ledger", "--vkey", key, home=home)
        assert done.returncode == 0, done.stdout


def test_repair_cuts_beyond_the_checkpoint_and_says_so(shop: tuple[Path, str]) -> None:
    home, vkey = shop
    with open(home / "ledger/active.jsonl", "ab") as file:
        file.write(b'{"half')
    done = run("repair", home / "ledger", home=home)
    assert done.returncode == 0, done.stderr
    assert "6 bytes moved" in done.stdout
    assert run("verify", home / "ledger", "--vkey", vkey, home=home).returncode == 0
    assert '"recovery"' in run("show", home / "ledger", "--json", home=home).stdout
    assert "nothing" in run("repair", home / "ledger", home=home).stdout


def test_repair_refuses_committed_damage(shop: tuple[Path, str]) -> None:
    home, _ = shop
    active = home / "ledger/active.jsonl"
    active.write_bytes(active.read_bytes().replace(b'"gaps":0', b'"gaps":1', 1))
    damaged = active.read_bytes()
    done = run("repair", home / "ledger", home=home)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert active.read_bytes() == damaged


def test_exports_read_back(shop: tuple[Path, str]) -> None:
    home, vkey = shop
    assert run("export", home / "ledger", home / "o.jsonl", home=home).returncode == 0
    done = run("verify", home / "o.jsonl", "--vkey", vkey, home=home)
    assert done.returncode == 0, done.stdout

    assert run("export", home / "ledger", home / "o.csv", home=home).returncode == 0
    with open(home / "o.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 301
    assert rows[5]["energy.energy_j_total"] == repr(record(4)["energy"]["energy_j_total"])  # type: ignore[index]
    assert rows[5]["operation"] == "train/stüp"
    assert rows[5]["energy.quality.flags"] == '["a", "b"]'

    done = run("export", home / "ledger", home / "o.csv", home=home)
    assert done.returncode == 2
    assert "File exists" in done.stderr
    args = ("export", home / "ledger", home / "h.csv", "--type", "heartbeat")
    assert run(*args, home=home).returncode == 0
    assert len((home / "h.csv").read_text().splitlines()) == 2


def test_parquet_reads_back(shop: tuple[Path, str]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    home, _ = shop
    done = run("export", home / "ledger", home / "o.parquet", home=home)
    assert done.returncode == 0, done.stderr
    table = parquet.read_table(home / "o.parquet")
    assert table.num_rows == 301
    assert table.column("seq").to_pylist() == list(range(301))


def test_the_report_is_one_page(shop: tuple[Path, str]) -> None:
    home, vkey = shop
    done = run("audit-report", home / "ledger", "--vkey", vkey, home=home)
    assert done.returncode == 0, done.stderr
    for part in (
        "**OK**",
        vkey,
        "NOT CHECKED",
        "| energy_metric | 299 |",
        "checkpoint",
    ):
        assert part in done.stdout
    (home / "ledger/checkpoint").unlink()
    done = run("audit-report", home / "ledger", "--vkey", vkey, home=home)
    assert done.returncode == 1
    assert "E_CKPT_MISSING" in done.stdout
    assert "not summed up" in done.stdout


def test_show_lists_and_prints(shop: tuple[Path, str]) -> None:
    home, _ = shop
    done = run("show", home / "ledger", "--last", 3, home=home)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "298",
        "299",
        "300",
    ]
    assert json.loads(run("show", home / "ledger", 260, home=home).stdout)["seq"] == 260
    assert run("show", home / "ledger", 301, home=home).returncode == 2
    no_ledger = run("show", home, home=home)
    assert (no_ledger.returncode, "no records in" in no_ledger.stderr) == (2, True)


STRANGE = b"""\
{"carbon_gco2e":true,"energy":{"energy_j_total":"x"},"seq":[1],"type":null}
{"carbon_gco2e":1e999,"energy":[1],"operation":"\\u001b[31mred","type":"x"}
{"carbon_gco2e":%b,"timestamp_end":{},"type":"x"}
[]
%b
\xff
""" % (b"9" * 400, b"[" * 60_000)


def test_show_lists_what_makes_no_sense_as_well(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    path.write_bytes(STRANGE)
    for arguments in ((), *((seq,) for seq in range(6))):
        done = run("show", path, *arguments, home=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "\x1b" not in done.stdout


def test_the_published_schemas_are_those_of_the_code_and_hold(
    shop: tuple[Path, str],
) -> None:
    """Write them anew with `carbon-ops ledger schema KIND`; old numbers stay as they are."""
    home, _ = shop
    kinds = run("schema", home=home).stdout.split()
    schemas = {}
    for kind in kinds:
        text = run("schema", kind, home=home).stdout
        assert text == (DOCS / f"{kind}-1.json").read_text(), kind
        schemas[kind] = json.loads(text)
        jsonschema.Draft202012Validator.check_schema(schemas[kind])
    lines = run("show", home / "ledger", "--last", 301, "--json", home=home).stdout
    for line in lines.splitlines():
        item = json.loads(line)
        if item["type"] in ("genesis", "heartbeat"):
            jsonschema.validate(item, schemas[item["type"]])


def test_an_unsigned_ledger_can_be_anchored_too(shop: tuple[Path, str]) -> None:
    home, _ = shop
    run("init", home / "u", "--unsigned", "--origin", "host.example/u", home=home)
    run("heartbeat", home / "u", home=home)
    run("heartbeat", home / "u", home=home)
    done = run("anchor", home / "u", home / "kept", home=home)
    assert done.returncode == 0, done.stdout
    active = home / "u/active.jsonl"
    active.write_bytes(active.read_bytes().split(b"\n")[0] + b"\n")
    assert run("verify", home / "u", home=home).returncode == 0
    done = run("anchor", home / "u", home / "kept", home=home)
    assert (done.returncode, done.stdout.split()[1]) == (1, "E_ROLLBACK")


def test_an_existing_ledger_and_key_are_left_alone(shop: tuple[Path, str]) -> None:
    home, _ = shop
    before = (home / "ledger/checkpoint").read_bytes()
    done = run("init", home / "ledger", "--origin", "host.example/a", home=home)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert (home / "ledger/checkpoint").read_bytes() == before
    done = run("init", home / "ledger", "--origin", "host.example/b", home=home)
    assert done.returncode == 2
    assert not list((home / "config/carbon-ops/keys").glob("*b.key"))
