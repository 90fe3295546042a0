"""A region name means one place, or is refused with a suggestion."""

from __future__ import annotations

import pytest

from carbon_ops.errors import InvalidInputError, UnknownRegionError
from carbon_ops.intensity.region import resolve


@pytest.mark.parametrize("name", ["DE", "de", "DEU", "deu", "Germany", " germany "])
def test_codes_and_names_of_a_country_mean_the_same(name: str) -> None:
    place = resolve(name)

    assert (place.code, place.country, place.given) == ("DE", "DE", True)


def test_states_of_the_us() -> None:
    assert resolve("us-ca") == ("US-CA", "California", "US", "US-CA", True)


def test_no_region_is_the_world_and_says_that_nobody_chose_it() -> None:
    assert resolve(None).code == "WORLD"
    assert not resolve(None).given
    assert resolve("world").given


def test_the_united_kingdom_under_its_everyday_code() -> None:
    assert resolve("UK").code == "GB"


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("GERMNY", "DE"),
        ("Frence", "FR"),
        ("US-CX", "US-"),
        ("Califrnia", "US-CA"),
        ("GER", "DE"),
    ],
)
def test_a_typo_is_refused_with_the_nearest_name(typo: str, meant: str) -> None:
    with pytest.raises(UnknownRegionError) as error:
        resolve(typo)

    assert repr(typo) in str(error.value)
    assert meant in error.value.hint.split("?")[0]


@pytest.mark.parametrize("far", ["XX", "zzz", "Atlantis", "Deutschland"])
def test_nothing_far_fetched_is_suggested(far: str) -> None:
    with pytest.raises(UnknownRegionError) as error:
        resolve(far)

    assert error.value.hint.startswith("Use an ISO 3166 code")


@pytest.mark.parametrize("bad", ["", "  ", "XX", "DE-XX", "🌍", "a" * 10_000, 5, b"DE"])
def test_nonsense_is_refused_and_never_guessed(bad: object) -> None:
    with pytest.raises(InvalidInputError):
        resolve(bad)  # type: ignore[arg-type]
