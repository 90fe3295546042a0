"""A verifier beside running writers, and a verifier of grams beside a liar."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from carbon_ops.estimate.estimator import CarbonEstimator
from carbon_ops.ledger.note import Signer
from carbon_ops.ledger.proofs import check_proof, consistent
from carbon_ops.ledger.prove import Prover
from carbon_ops.ledger.store import Ledger
from carbon_ops.ledger.verify import verify_ledger
from carbon_ops.testing.ledgers import Forger, record, signer

KEY = signer()
START, END = 1_700_000_000, 1_700_003_600  # s since the epoch


WRITER = """
import sys, time
from carbon_ops.ledger.store import Ledger
from carbon_ops.testing.ledgers import record, signer
made, stop_at = 0, time.monotonic() + float(sys.argv[2])
with Ledger.open(sys.argv[1], signer=signer()) as ledger:
    while time.monotonic() < stop_at:
        ledger.append_many(record(seq) for seq in range(9))
        made += 9
print(made)
"""


def test_a_ledger_being_written_is_never_called_tampered(tmp_path: Path) -> None:
    """Segments are sealed meanwhile: the smallest ones, so that it happens often."""
    path = tmp_path / "ledger"
    Ledger.init(path, origin=KEY.name, signer=KEY, segment_records=64).close()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), "3"], stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    sizes, proofs = [], 0
    while any(writer.poll() is None for writer in writers):
        report = verify_ledger(path, vkeys=[KEY.vkey])
        assert report.verdict in ("OK", "OK_PENDING"), report
        sizes.append(report.size)
        prover = Prover(path)
        proof = prover.prove(prover.size // 2)
        prover.close()
        assert check_proof(proof.file, [KEY.key]).holds
        proofs += 1
    made = [int(writer.communicate()[0]) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    report = verify_ledger(path, vkeys=[KEY.vkey])
    assert report.verdict == "OK"
    assert report.size == 1 + sum(made)
    assert sizes == sorted(sizes)
    assert proofs


@pytest.fixture
def grams(tmp_path: Path) -> Path:
    """A ledger with estimates of all kinds, signed by their writer."""
    path = tmp_path / "ledger"
    estimator = CarbonEstimator(region="DE")
    made = [
        estimator.estimate_over_span(energy_wh=5.0, start_ts=START, end_ts=END),
        estimator.estimate_over_span(energy_wh=0.0, start_ts=START, end_ts=END),
        estimator.estimate_over_span(energy_wh=None, start_ts=START, end_ts=END),
        estimator.estimate_over_span(
            energy_wh=12.5, energy_u_wh=0.5, start_ts=START, end_ts=END
        ),
        CarbonEstimator(region="GB", pue="unknown").estimate_over_span(
            energy_wh=1.0, start_ts=START, end_ts=END
        ),
        CarbonEstimator(region="DE", method="monte_carlo").estimate_over_span(
            energy_wh=1.0, start_ts=START, end_ts=END
        ),
    ]
    with Ledger.init(path, origin=KEY.name, signer=KEY) as ledger:
        ledger.append_many(
            {"type": "carbon_estimate", "span_id": "a", **estimate.to_dict()}
            for estimate in made
        )
    return path


def test_every_gram_follows_from_its_inputs(grams: Path) -> None:
    report = verify_ledger(grams, vkeys=[KEY.vkey], recompute=True)
    assert (report.verdict, report.recomputed, report.skipped) == ("OK", 6, 0)
    assert "6 estimates recomputed" in report.lines[0]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("carbon_gco2e",), 1.0),
        (("marginal", "g"), 1.0),
        (("average", "ci_low"), 0.001),
        (("energy_wh",), 4.0),
        (("sd_gco2e",), 0.5),
        (("marginal", "intensity", "g_per_kwh"), 1.0),
        (("marginal", "intensity", "intervals", 0, "g_per_kwh"), 1.0),
        (("inputs", 0, "parameters", "mean"), 4.0),
        (("inputs", 1, "parameters", "mean"), 1.0),
        (("coverage",), 0.5),
        (("inputs",), []),
        (("marginal",), None),
    ],
    ids=str,
)
def test_a_liar_who_signs_is_found_by_recomputing(
    place: tuple[str | int, ...], value: object, grams: Path
) -> None:
    lines = (grams / "active.jsonl").read_bytes().splitlines()
    liar = Forger(1, key=KEY)
    liar.lines = lines
    item: Any = json.loads(lines[1])
    inner = item
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    liar.lines[1] = json.dumps(item).encode()
    liar.rechain(1)
    path = liar.write(grams.parent / "lies", sign_anew=True)

    assert verify_ledger(path, vkeys=[KEY.vkey]).verdict == "OK"
    report = verify_ledger(path, vkeys=[KEY.vkey], recompute=True)
    assert (report.code, report.seq) == ("E_RECOMPUTE", 1), report


def test_an_estimate_of_another_schema_is_counted_not_judged(grams: Path) -> None:
    lines = (grams / "active.jsonl").read_bytes().splitlines()
    other = Forger(1, key=KEY)
    other.lines = lines
    item = json.loads(lines[1]) | {"schema": "carbon-ops/estimate/99"}
    other.lines[1] = json.dumps(item).encode()
    other.rechain(1)
    path = other.write(grams.parent / "other", sign_anew=True)
    report = verify_ledger(path, vkeys=[KEY.vkey], recompute=True)
    assert (report.verdict, report.recomputed, report.skipped) == ("OK", 5, 1)
    assert "1 NOT (another schema" in report.lines[0]


@pytest.mark.parametrize("size", [2, 64, 65, 300, 700])
def test_proofs_from_a_written_ledger_hold(size: int, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with Ledger.init(path, origin=KEY.name, signer=KEY, segment_records=64) as ledger:
        ledger.append_many(record(seq) for seq in range(size - 1))
    for derived in (True, False):
        if not derived:
            for file in [path / "frontier", *path.glob("tree-*")]:
                file.unlink(missing_ok=True)
        prover = Prover(path)
        for seq in {0, 1, 63, 64, size // 2, size - 1} & set(range(size)):
            proof = prover.prove(seq)
            report = check_proof(proof.file, [KEY.key])
            assert (report.holds, report.seq) == (True, seq), report
            assert json.loads(report.record)["seq"] == seq
            assert not check_proof(proof.file, [signer(1).key]).holds
            assert not check_proof(proof.file, [KEY.key], "other.example/x").holds
        for old in {1, 63, 64, size // 2, size - 1} & set(range(1, size)):
            assert consistent(
                old,
                size,
                prover.node(0, old),
                prover.checkpoint.root,
                prover.extends(old),
            )
        prover.close()


def test_a_key_of_another_name_signs_nothing(tmp_path: Path) -> None:
    other = Signer.generate("other.example/x")
    path = Forger(70, key=KEY).write(tmp_path / "ledger")
    assert verify_ledger(path, vkeys=[other.vkey]).code == "E_ORIGIN"
