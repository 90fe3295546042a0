"""A private value can be shown to fit its record, or be forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from carbon_ops.errors import InvalidInputError
from carbon_ops.ledger.commitment import Opening, commit, opens
from carbon_ops.ledger.verify import verify_ledger
from carbon_ops.testing.ledgers import Forger, signer

SALT = bytes(range(32)).hex()


def test_an_opening_fits_its_record_alone() -> None:
    digest, opening = commit("additional_info.user", "Zoë")
    record = {"additional_info": {"user": digest, "team": digest}}

    assert opens(record, opening)
    assert not opens(record, opening._replace(value="Zoe"))
    assert not opens(record, opening._replace(salt=SALT))
    assert not opens(record, opening._replace(path="additional_info.team"))
    assert not opens(record, opening._replace(path="additional_info.user.name"))
    assert not opens(record, opening._replace(salt=opening.salt[:30]))
    assert not opens(record, opening._replace(salt=opening.salt.upper() + "A"))
    assert not opens({"additional_info": {"user": digest[:-1] + "x"}}, opening)
    assert not opens({}, opening)


def test_equal_values_cannot_be_told_by_their_commitments() -> None:
    assert len({commit("user", "same")[0] for _ in range(100)}) == 100


@pytest.mark.parametrize("salt", ["", "00" * 15, "zz" * 16, "AB" * 16, "0" * 33])
def test_a_salt_that_could_be_tried_out_is_refused(salt: str) -> None:
    with pytest.raises(InvalidInputError):
        Opening("user", salt, "x").commitment()


def test_a_value_without_json_form_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        commit("user", float("nan"))


@pytest.mark.parametrize(
    ("at", "rechained", "shows"),
    [(70, False, ("E_PREV_HASH", 71)), (99, False, ("E_ROOT", None))]
    + [(at, True, ("E_ROOT", None)) for at in (70, 99)],
)
def test_a_commitment_that_is_replaced_shows_though_its_opening_fits(
    tmp_path: Path, at: int, rechained: bool, shows: tuple[str, int | None]
) -> None:
    """Whoever lost an opening, or dislikes it, cannot commit to something else."""
    first, second = commit("user", "Zoë"), commit("user", "Max")
    key = signer()
    make: dict[str, object] = {"type": "energy_metric", "user": first[0]}
    ledger = Forger(100, key=key, make=lambda seq: make)
    ledger.lines[at] = ledger.lines[at].replace(first[0].encode(), second[0].encode())
    if rechained:
        ledger.rechain(at)
    assert opens(json.loads(ledger.lines[at]), second[1])

    report = verify_ledger(ledger.write(tmp_path / "l"), vkeys=[key.vkey])
    assert (report.code, report.seq) == shows
