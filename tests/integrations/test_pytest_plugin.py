"""The pytest plugin, in pytest runs of its own."""

from __future__ import annotations

import json
import re

import pytest

BURN = """
import time
import pytest

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
"""


def test_every_test_is_measured_on_request(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(BURN + """
def test_long(): burn(0.4)
def test_short(): pass
""")
    result = pytester.runpytest_subprocess("--energy")
    result.assert_outcomes(passed=2)
    result.stdout.re_match_lines(
        [
            r".*energy of tests.*",
            r" *[\d.e+]+ ± [\d.]+ J +[\d.]+ s +.*::test_long +\(counter simulated\)",
            r"1 of 2 tests are too short.*",
        ]
    )


def test_without_the_option_nothing_is_said(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_short(): pass")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    assert "energy" not in result.stdout.str()


def test_a_budget_fails_the_test_that_is_surely_over_it(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(BURN + """
@pytest.mark.energy_budget(joules=0.001)
def test_over(): burn(0.4)

@pytest.mark.energy_budget(joules=1e6)
def test_within(): burn(0.4)

@pytest.mark.energy_budget(0)
def test_short(): pass
""")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*energy budget of 0.001 J exceeded: * J, counter simulated*",
            "budget not judged, too short: *test_short",
        ]
    )


def test_without_energy_no_budget_is_judged(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARBON_OPS_SOCKET", str(pytester.path / "none"))
    monkeypatch.setenv("CARBON_OPS_MODEL", "off")
    monkeypatch.setenv("CARBON_OPS_POWERCAP_ROOT", str(pytester.path))
    pytester.makepyfile(BURN + """
@pytest.mark.energy_budget(joules=0)
def test_over(): burn(0.4)
""")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["budget not judged, no energy (model_off): *"])


def test_short_tests_are_repeated_on_request(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(BURN + "def test_short(): burn(0.02)")
    result = pytester.runpytest_subprocess("--energy", "--energy-repeat")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["* J *::test_short*"])
    assert "too short" not in result.stdout.str()


def test_a_failing_test_fails_for_its_own_reason(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
import pytest

@pytest.mark.energy_budget(joules=0)
def test_wrong(): assert 1 == 2
""")
    result = pytester.runpytest_subprocess("--energy")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert 1 == 2*"])


@pytest.mark.parametrize("args", ["", "joules='5'", "watts=5", "5, joules=5", "-1"])
def test_a_budget_without_joules_is_wrong_usage(
    pytester: pytest.Pytester, args: str
) -> None:
    pytester.makepyfile(f"""
import pytest

@pytest.mark.energy_budget({args})
def test_any(): pass
""")
    result = pytester.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*energy_budget needs joules*"])


def test_figures_of_all_workers_meet(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        **{f"test_{name}": BURN + "def test(): burn(0.4)" for name in "abcd"}
    )
    result = pytester.runpytest_subprocess("--energy", "-n", "2", "--junitxml=r.xml")
    result.assert_outcomes(passed=4)
    lines = [line for line in result.outlines if "counter simulated" in line]
    assert {name for line in lines for name in re.findall(r"test_\w\.py", line)} == {
        f"test_{name}.py" for name in "abcd"
    }
    assert (pytester.path / "r.xml").read_text().count('property name="energy"') == 4


def test_the_plugin_loads_little(pytester: pytest.Pytester) -> None:
    code = (
        "import pytest, sys; before = set(sys.modules);"
        "import carbon_ops.integrations.pytest_plugin, json;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    result = pytester.runpython_c(code)
    loaded = {name for name in json.loads(result.stdout.str()) if "json" not in name}
    assert {name.split(".")[0] for name in loaded} <= {"carbon_ops"}
