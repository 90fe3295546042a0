"""Energy of tests: ``pytest --energy``, and budgets that fail a test.

::

    @pytest.mark.energy_budget(joules=5)
    def test_parser(): ...

With ``--energy`` every test is measured and the largest are listed; tests with a budget
are measured always. A budget fails a test when its joules, less their standard
uncertainty, are above it. Only the call is measured, without fixtures.

Under pytest-xdist each worker measures its own tests; the figures travel as
``user_properties`` of the reports, and with them into JUnit XML.

What this cannot know
    A test shorter than 0.3 s is too short for counters that are sampled at 10 Hz: it is
    reported as such and its budget is not judged. ``--energy-repeat`` repeats the call
    until the time is long enough and divides; that suits tests only that can run again
    with the same fixtures. Tests in parallel on one host share its idle power, so the
    same test costs less beside others. Work that a test leaves to a daemon is not its.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from carbon_ops.integrations.figures import SHORT_S, origin, spoken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from carbon_ops.meter.logger import EnergyLogger

PROPERTY = "energy"
LISTED = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("energy", "energy of tests (carbon-ops)")
    group.addoption(
        "--energy", action="store_true", help="measure every test, list the largest"
    )
    group.addoption(
        "--energy-repeat",
        action="store_true",
        help=f"repeat the call of measured tests shorter than {SHORT_S} s, and divide",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "energy_budget(joules): fail when the test used more energy than this",
    )
    config.pluginmanager.register(Energy(config), "carbon-ops-energy")


def budget_of(item: pytest.Item) -> float | None:
    """Return the test's budget [J], None if it has none.

    Raises:
        pytest.UsageError: the marker names no number of joules.
    """
    marker = item.get_closest_marker("energy_budget")
    if marker is None:
        return None
    given = marker.kwargs.get("joules", *marker.args[:1])
    if set(marker.kwargs) - {"joules"} or len(marker.args) + len(marker.kwargs) != 1:
        given = None
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not given >= 0:
        raise pytest.UsageError(
            f"{item.nodeid}: energy_budget needs joules, for example "
            "@pytest.mark.energy_budget(joules=5)"
        )
    return float(given)


class Energy:
    """Measures the calls of tests in this process, lists those of all."""

    def __init__(self, config: pytest.Config) -> None:
        self._all = bool(config.getoption("--energy"))
        self._repeat = bool(config.getoption("--energy-repeat"))
        self._logger: EnergyLogger | None = None
        self._seen: list[tuple[str, dict[str, Any]]] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            budget_of(item)  # a marker that says nothing is an error at once

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        budget = budget_of(item)
        if budget is None and not self._all:
            return (yield)
        if self._logger is None:
            from carbon_ops.meter.logger import EnergyLogger

            self._logger = EnergyLogger(ledger=False)
        calls = 1
        with self._logger.span(item.nodeid) as span:
            began = time.monotonic()
            result = yield
            while self._repeat and time.monotonic() - began < SHORT_S:
                item.runtest()
                calls += 1
        metric = span.metric
        if metric is None:  # the span has ended: it has one
            return result
        energy = metric["energy"]
        joules, u = energy["energy_j_total"], energy["uncertainty_j"]
        short = metric["duration_s"] < SHORT_S
        found: dict[str, Any] = {
            "joules": None if joules is None or short else joules / calls,
            "uncertainty_j": None if u is None or short else u / calls,
            "seconds": metric["duration_s"] / calls,
            "calls": calls,
            "budget_j": budget,
            "origin": "too short" if short else origin(metric),
        }
        item.user_properties.append((PROPERTY, found))
        if budget is not None and found["joules"] is not None:
            surely = found["joules"] - (found["uncertainty_j"] or 0.0)
            if surely > budget:
                pytest.fail(
                    f"energy budget of {budget:g} J exceeded: "
                    f"{spoken(found['joules'], found['uncertainty_j'])}, "
                    f"{found['origin']}",
                    pytrace=False,
                )
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self._seen += [
                (report.nodeid, value)
                for name, value in report.user_properties
                if name == PROPERTY and isinstance(value, dict)
            ]

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        unjudged = [
            (test, found)
            for test, found in self._seen
            if found["budget_j"] is not None and found["joules"] is None
        ]
        if not self._seen or not (self._all or unjudged):
            return
        terminalreporter.section("energy of tests")
        known = [entry for entry in self._seen if entry[1]["joules"] is not None]
        known.sort(key=lambda entry: -entry[1]["joules"])
        for test, found in known[:LISTED] if self._all else ():
            energy = spoken(found["joules"], found["uncertainty_j"])
            terminalreporter.line(
                f"{energy:>16}  {found['seconds']:.2f} s  {test}  ({found['origin']})"
            )
        short = sum(found["origin"] == "too short" for _, found in self._seen)
        if self._all and short:
            terminalreporter.line(
                f"{short} of {len(self._seen)} tests are too short to be measured one by one"
            )
        for test, found in unjudged:
            terminalreporter.line(f"budget not judged, {found['origin']}: {test}")

    def pytest_unconfigure(self) -> None:
        if self._logger is not None:
            self._logger.close()
