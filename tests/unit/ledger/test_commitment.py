"""A private value can be shown to fit its record, or be forgotten."""

from __future__ import annotations

import pytest

from carbon_ops.errors import InvalidInputError
from carbon_ops.ledger.commitment import Opening, commit, opens

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
