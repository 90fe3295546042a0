"""Processors are found under the names that /proc/cpuinfo gives them."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from carbon_ops.data.cpu import Ids, by_microarchitecture, generic, watts
from carbon_ops.data.tables import load


@pytest.mark.parametrize(
    ("model_name", "tdp_w"),
    [
        ("Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz", 95.0),
        ("11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz", 28.0),
        ("AMD Ryzen 9 5950X 16-Core Processor", 105.0),
        ("AMD EPYC 7R13 48-Core Processor", 225.0),
        ("Apple M1", 10.0),
    ],
)
def test_thermal_design_power_of_known_processors(
    model_name: str, tdp_w: float
) -> None:
    found = watts(model_name)

    assert found is not None
    assert found.match == "tdp"
    assert found.max_w == tdp_w
    assert 0 < found.idle_w < 0.2 * found.max_w
    assert found.threads is None


def test_a_server_with_the_processor_wins_over_its_design_power() -> None:
    found = watts("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz")

    assert found is not None
    assert (found.match, found.threads) == ("server", 128)
    assert found.max_w == pytest.approx(611, abs=1)  # two sockets of 300 W


@pytest.mark.parametrize("model_name", ["", "Intel(R) Xeon(R) Processor", "tdp_w", "#"])
def test_an_unknown_processor_is_not_guessed(model_name: str) -> None:
    assert watts(model_name) is None


def test_the_generic_figures_scale_with_threads() -> None:
    one, many = generic(1), generic(64)

    assert many.max_w == pytest.approx(64 * one.max_w)
    assert 0 < one.idle_w < one.max_w < 15
    assert many.match == "generic"


@pytest.mark.parametrize(
    ("ids", "name"),
    [
        (Ids("GenuineIntel", 6, 85, 4), "skylake-sp"),
        (Ids("GenuineIntel", 6, 85, 7), "cascade lake"),
        (Ids("GenuineIntel", 6, 143, 8), "sapphire rapids"),
        (Ids("AuthenticAMD", 23, 49, 0), "zen 2"),
        (Ids("AuthenticAMD", 25, 1, 1), "zen 3"),
        (Ids("AuthenticAMD", 25, 17, 1), "zen 4"),
        (Ids("AuthenticAMD", 25, 160, 2), "zen 4"),
        (Ids("0x41", 8, 0xD0C, 1), "neoverse n1"),
    ],
    ids=str,
)
def test_a_server_processor_is_known_by_its_numbers(ids: Ids, name: str) -> None:
    found = by_microarchitecture(ids)

    assert found is not None
    assert found.source.endswith(f"({name})")
    assert (found.match, found.threads, found.year) == ("microarchitecture", 1, "2026")


@pytest.mark.parametrize(
    "ids",
    [
        Ids("GenuineIntel", 6, 142, 12),  # a laptop's Whiskey Lake
        Ids("AuthenticAMD", 25, 80, 0),  # a laptop's Zen 3
        Ids("AuthenticAMD", 6, 85, 7),  # Intel's numbers, another maker
        Ids("GenuineIntel", 15, 85, 7),
        Ids("0x41", 8, 0xD08, 3),  # Cortex-A72
        Ids("", 0, 0, 0),
    ],
    ids=str,
)
def test_a_part_that_was_in_no_published_server_is_not_guessed(ids: Ids) -> None:
    assert by_microarchitecture(ids) is None


def test_each_microarchitecture_has_plausible_watts_from_several_servers() -> None:
    rows = load("cpu_microarchitectures").rows
    assert sum(int(row[0]) for row in rows.values()) == 406  # as docs/reference says
    for servers, idle, full, processors in rows.values():
        assert int(servers) >= 7
        assert 0.1 < float(idle) < float(full) / 3 < 2
        assert processors


def test_no_processor_has_two_microarchitectures() -> None:
    tables = load("cpu_microarchitectures").rows.values()
    patterns = [pattern for row in tables for pattern in row[3].split()]
    for pattern in patterns:
        vendor, family, models, *steppings = pattern.split("/")
        low, _, high = models.partition("-")
        for model in range(int(low), int(high or low) + 1):
            for stepping in range(16):
                ids = Ids(vendor, int(family), model, stepping)
                hits = sum(map(ids.match, patterns))
                assert hits == 1 if ids.match(pattern) else steppings, ids


def test_the_shipped_figures_are_those_that_the_results_give(
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = Path(__file__).parents[3] / "scripts" / "build_tables.py"
    build = runpy.run_path(str(script))["main"]

    assert build(["--check", "cpu_microarchitectures"]) == 0
    assert capsys.readouterr().out == "cpu_microarchitectures: same\n"
