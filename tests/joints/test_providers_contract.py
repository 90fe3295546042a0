"""Every provider keeps one contract, each against a server that behaves like its own."""

from __future__ import annotations

import itertools
import json
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("httpx")
pytest.importorskip("stamina")

from carbon_ops.errors import (
    CarbonOpsError,
    InvalidInputError,
    ProviderError,
    UnknownRegionError,
)
from carbon_ops.intensity.base import IntensityProvider, Interval, Series, Signal
from carbon_ops.intensity.cache import Cache
from carbon_ops.intensity.providers.electricity_maps import (
    ElectricityMaps,
    ElectricityMapsV3,
)
from carbon_ops.intensity.providers.energy_charts import EnergyCharts
from carbon_ops.intensity.providers.file import FileProvider
from carbon_ops.intensity.providers.live import LiveProvider
from carbon_ops.intensity.providers.uk import UkCarbonIntensity
from carbon_ops.intensity.providers.watttime import WattTime
from carbon_ops.testing.fake_grid import (
    Answer,
    FakeElectricityMaps,
    FakeEnergyCharts,
    FakeServer,
    FakeUk,
    FakeWattTime,
    truth,
)

NS, HOUR_S, DAY_S = 1_000_000_000, 3_600, 86_400
# 30 March 2025: the clocks of Europe go forward in the night.
DST_DAY_S = 1_743_292_800
SECRETS = ("k3y-of-maps", "ann-of-watt", "pa55-of-watt", "t0ken1")


class Case(NamedTuple):
    """A provider with its fake, the region asked for and what must come back."""

    make: Callable[[FakeServer, Cache], LiveProvider]
    fake: Callable[[], FakeServer]
    region: str
    zone: str
    signal: Signal
    step_s: int


def _watttime(server: FakeServer, cache: Cache) -> LiveProvider:
    return WattTime(
        user=SECRETS[1], password=SECRETS[2], base_url=server.url, cache=cache
    )


class _HastyUk(UkCarbonIntensity):
    gap_s = 0.0  # the fake asks for no pause


class _HastyCharts(EnergyCharts):
    gap_s = 0.0


CASES = {
    "electricitymaps": Case(
        lambda s, c: ElectricityMaps(key=SECRETS[0], base_url=s.url, cache=c),
        lambda: FakeElectricityMaps(SECRETS[0]),
        "DE",
        "DE",
        "average",
        3600,
    ),
    "electricitymaps-v3": Case(
        lambda s, c: ElectricityMapsV3(key=SECRETS[0], base_url=s.url, cache=c),
        lambda: FakeElectricityMaps(SECRETS[0]),
        "US-CAL-CISO",
        "US-CAL-CISO",
        "average",
        3600,
    ),
    "watttime": Case(
        _watttime,
        lambda: FakeWattTime(SECRETS[1], SECRETS[2]),
        "caiso_north",
        "CAISO_NORTH",
        "marginal",
        300,
    ),
    "uk": Case(
        lambda s, c: _HastyUk(base_url=s.url, cache=c),
        FakeUk,
        "GBR",
        "GB",
        "average",
        1800,
    ),
    "uk-region": Case(
        lambda s, c: _HastyUk(base_url=s.url, cache=c),
        FakeUk,
        "GB-13",
        "GB-13",
        "average",
        1800,
    ),
    "energy-charts": Case(
        lambda s, c: _HastyCharts(base_url=s.url, cache=c),
        FakeEnergyCharts,
        "DE",
        "DE",
        "average",
        900,
    ),
}


class Joint(NamedTuple):
    case: Case
    server: FakeServer
    provider: LiveProvider
    cache: Cache

    def series(self, start_s: float, end_s: float) -> Series:
        return self.provider.series(
            self.case.region, self.case.signal, int(start_s * NS), int(end_s * NS)
        )


@pytest.fixture(params=CASES, ids=list(CASES))
def joint(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Joint]:
    case = CASES[request.param]
    cache = Cache(str(tmp_path / "cache"))
    with case.fake() as server:
        provider = case.make(server, cache)
        yield Joint(case, server, provider, cache)
        provider.close()


def assert_covers(series: Series, start_s: float, end_s: float) -> None:
    intervals = series.intervals
    assert intervals[0].start_ns == int(start_s * NS)
    assert intervals[-1].end_ns == int(end_s * NS)
    for one, two in itertools.pairwise(intervals):
        assert one.end_ns == two.start_ns
        assert one.start_ns < one.end_ns
    assert all((i.intensity is None) == (i.reason is not None) for i in intervals)


def assert_true(intervals: tuple[Interval, ...], case: Case) -> None:
    for interval in intervals:
        assert interval.intensity is not None, interval
        begin = interval.start_ns // NS
        expected = truth(case.zone, begin - begin % case.step_s)
        assert interval.intensity.g_per_kwh == pytest.approx(expected, rel=1e-12)


# --- what is said --------------------------------------------------------------------


def test_the_past_is_covered_with_the_true_values(joint: Joint) -> None:
    start, end = DST_DAY_S + 1234.5, DST_DAY_S + 5 * HOUR_S + 0.25

    series = joint.series(start, end)

    assert_covers(series, start, end)
    assert_true(series.intervals, joint.case)


def test_the_night_the_clocks_change_has_its_24_hours(joint: Joint) -> None:
    series = joint.series(DST_DAY_S, DST_DAY_S + DAY_S)

    assert len(series.intervals) == DAY_S // joint.case.step_s
    assert_covers(series, DST_DAY_S, DST_DAY_S + DAY_S)
    assert_true(series.intervals, joint.case)


def test_a_long_span_is_asked_in_pieces_the_service_allows(joint: Joint) -> None:
    start, end = DST_DAY_S - 40 * DAY_S, DST_DAY_S

    series = joint.series(start, end)

    assert_covers(series, start, end)
    assert_true(series.intervals, joint.case)
    assert 2 <= len(joint.server.seen) <= 8


def test_every_factor_carries_its_labels(joint: Joint) -> None:
    series = joint.series(DST_DAY_S, DST_DAY_S + HOUR_S)

    labels = joint.provider.labels
    for interval in series.intervals:
        factor = interval.intensity
        assert factor is not None
        assert (factor.signal, factor.zone) == (joint.case.signal, joint.case.zone)
        assert factor.factor_basis == labels.factor_basis
        assert (factor.accounting, factor.gas) == (labels.accounting, labels.gas)
        assert factor.provider == joint.provider.name
        assert factor.version
        assert factor.licence
        assert factor.uncertainty_source
        assert factor.cv >= 0.15
        assert not factor.annual
        assert not factor.default
        assert factor.data_time.startswith("2025-03-30T")
    assert len({i.intensity.cv for i in series.intervals if i.intensity}) == 1
    assert series.signal == joint.case.signal
    assert series.raw_sha256 is not None


def test_the_future_is_a_forecast_with_more_uncertainty(joint: Joint) -> None:
    start = time.time() + 2 * HOUR_S

    series = joint.series(start, start + 3 * HOUR_S)

    assert_covers(series, start, start + 3 * HOUR_S)
    assert_true(series.intervals, joint.case)
    for interval in series.intervals:
        assert interval.intensity is not None
        assert interval.intensity.is_forecast
        assert interval.intensity.residual_cv == 0.10


def test_around_now_nothing_is_passed_off_as_measured(joint: Joint) -> None:
    now = time.time()

    series = joint.series(now - 6 * HOUR_S, now + 2 * HOUR_S)

    assert_covers(series, now - 6 * HOUR_S, now + 2 * HOUR_S)
    for interval in series.intervals:
        factor = interval.intensity
        if factor is None:
            assert interval.reason == "no_data"
            continue
        begin = interval.start_ns // NS
        expected = truth(joint.case.zone, begin - begin % joint.case.step_s)
        assert factor.g_per_kwh == pytest.approx(expected)
        if interval.start_ns / NS > now:
            assert factor.is_forecast
        if factor.is_forecast or factor.is_estimated:
            assert factor.residual_cv > 0


def test_far_beyond_any_forecast_there_is_a_gap(joint: Joint) -> None:
    start = time.time() + 30 * DAY_S

    series = joint.series(start, start + HOUR_S)

    assert {i.reason for i in series.intervals} == {"no_data"}
    assert_covers(series, start, start + HOUR_S)


@pytest.mark.parametrize("skew_s", [-1200, 1200])
def test_a_server_whose_clock_is_wrong_shifts_nothing(
    joint: Joint, skew_s: int
) -> None:
    joint.server.skew_s = skew_s
    now = time.time()

    series = joint.series(now - 4 * HOUR_S, now + HOUR_S)

    assert_covers(series, now - 4 * HOUR_S, now + HOUR_S)
    known = tuple(i for i in series.intervals if i.intensity)
    assert known
    assert_true(known, joint.case)


def test_an_empty_span_gets_the_factor_of_that_instant(joint: Joint) -> None:
    at = DST_DAY_S + 5000

    (interval,) = joint.series(at, at).intervals

    assert interval.start_ns == interval.end_ns == at * NS
    assert_true((interval,), joint.case)


def test_numbers_sent_as_text_are_understood(joint: Joint) -> None:
    joint.server.as_text = True

    assert_true(joint.series(DST_DAY_S, DST_DAY_S + HOUR_S).intervals, joint.case)


# --- what is refused -----------------------------------------------------------------


def test_nothing_is_asked_before_it_is_needed_or_when_the_question_is_wrong(
    joint: Joint,
) -> None:
    provider, case = joint.provider, joint.case
    other: Signal = "average" if case.signal == "marginal" else "marginal"

    with pytest.raises(UnknownRegionError):
        provider.series(None, case.signal, 0, NS)
    with pytest.raises(UnknownRegionError):
        provider.series("No such place!", case.signal, 0, NS)
    with pytest.raises(UnknownRegionError):
        provider.series("WORLD", case.signal, 0, NS)
    (gap,) = provider.series(case.region, other, 0, NS).intervals
    assert gap == (0, NS, None, f"no_{other}_signal")
    with pytest.raises(InvalidInputError):
        provider.series(case.region, case.signal, NS, 0)
    with pytest.raises(InvalidInputError):
        provider.series(case.region, case.signal, 0, 100 * 365 * DAY_S * NS)
    assert joint.server.seen == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html><body>Sign in</body></html>"),
        Answer(200, b'{"data": NaN}'),
        Answer(200, b"[" * 100_000),
        Answer(200, b"\xff\xfe"),
        Answer(200, []),
        Answer(200, {}),
        Answer(200, {"data": "none", "history": 3, "unix_seconds": {}}),
        Answer(200, {"data": [[1, 2]], "unix_seconds": [2, 1]}),
        Answer(400, {"error": "no", "message": "bad range"}),
        Answer(404, b"<html>not found</html>"),
        Answer(302, b"", {"location": "https://elsewhere.example/"}),
        Answer(204, b""),
    ],
    ids=lambda answer: f"{answer.status}-{str(answer.body)[:18]}",
)
def test_an_answer_that_is_none_is_an_error_and_is_not_asked_for_again(
    joint: Joint, answer: Answer
) -> None:
    joint.series(DST_DAY_S, DST_DAY_S)  # logs in where that is needed
    asked = len(joint.server.seen)
    joint.server.faults = [answer]

    with pytest.raises(ProviderError):
        joint.series(DST_DAY_S + 9 * DAY_S, DST_DAY_S + 9 * DAY_S + HOUR_S)

    assert len(joint.server.seen) == asked + 1
    # A bad answer was not kept: the next question gets the truth.
    again = joint.series(DST_DAY_S + 9 * DAY_S, DST_DAY_S + 9 * DAY_S + HOUR_S)
    assert_true(again.intervals, joint.case)


@pytest.mark.parametrize("bad", ["-1", "NaN", "1e999", "6000000", "ND", True, [1]])
def test_a_value_that_is_no_intensity_is_refused(joint: Joint, bad: object) -> None:
    joint.series(DST_DAY_S, DST_DAY_S)
    start = DST_DAY_S + 9 * DAY_S
    joint.series(start, start)
    honest = joint.server.answer(joint.server.seen[-1])
    text = json.dumps(honest.body)
    document = json.loads(text)
    _first_value_becomes(document, bad)
    joint.server.faults = [Answer(200, document)]
    later = start + 11 * DAY_S  # not in the cache

    with pytest.raises(ProviderError):
        joint.series(later, later)


def _first_value_becomes(document: dict[str, object], bad: object) -> None:
    found = document.get("data") or document.get("co2eq") or document["history"]
    assert isinstance(found, list)
    if not isinstance(found[0], dict):
        found[0] = bad
        return
    row = found[0]
    if "data" in row:
        row = row["data"][0]
    if "intensity" in row:
        row["intensity"]["forecast"] = bad
        row["intensity"]["actual"] = bad
    row["value" if "value" in row else "carbonIntensity"] = bad


def test_zero_is_a_legal_intensity(joint: Joint) -> None:
    start = DST_DAY_S + 9 * DAY_S
    joint.series(start, start)
    document = json.loads(json.dumps(joint.server.answer(joint.server.seen[-1]).body))
    _first_value_becomes(document, 0)
    joint.server.faults = [Answer(200, document)]

    found = joint.provider.read(
        next(
            iter(
                joint.provider.questions(
                    joint.case.zone, start * NS, start * NS, time.time_ns()
                )
            )
        ),
        document,
    )

    assert found.points[0].g_per_kwh == 0


# --- patience and limits -------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_an_overloaded_service_is_asked_again_when_it_says_so(
    joint: Joint, status: int
) -> None:
    joint.series(DST_DAY_S, DST_DAY_S)
    asked = len(joint.server.seen)
    joint.server.faults = [
        Answer(status, b"busy", {"retry-after": "0"}),
        Answer(status, b"busy", {"retry-after": "0"}),
    ]
    start = DST_DAY_S + 12 * DAY_S

    assert_true(joint.series(start, start + HOUR_S).intervals, joint.case)
    assert len(joint.server.seen) == asked + 3


def test_a_service_that_stays_down_is_given_up(joint: Joint) -> None:
    joint.series(DST_DAY_S, DST_DAY_S)
    asked = len(joint.server.seen)
    joint.server.faults = [Answer(503, b"down", {"retry-after": "0"})] * 20

    with pytest.raises(ProviderError, match="503"):
        joint.series(DST_DAY_S + 12 * DAY_S, DST_DAY_S + 12 * DAY_S)

    assert len(joint.server.seen) == asked + 4


def test_a_service_that_is_not_there_is_an_error(joint: Joint) -> None:
    joint.server.close()

    with pytest.raises(ProviderError):
        joint.series(DST_DAY_S, DST_DAY_S)


# --- cache and replay ----------------------------------------------------------------


def test_a_question_about_the_past_is_asked_once(joint: Joint) -> None:
    first = joint.series(DST_DAY_S, DST_DAY_S + HOUR_S)
    asked = len(joint.server.seen)

    second = joint.series(DST_DAY_S, DST_DAY_S + HOUR_S)
    joint.series(DST_DAY_S + 2 * HOUR_S, DST_DAY_S + 3 * HOUR_S)  # the same day

    assert second == first
    assert len(joint.server.seen) == asked


def test_offline_the_same_series_is_replayed_without_server(joint: Joint) -> None:
    online = joint.series(DST_DAY_S, DST_DAY_S + HOUR_S)
    asked = len(joint.server.seen)
    offline = joint.case.make(joint.server, Cache(joint.cache.folder, offline=True))

    replayed = offline.series(
        joint.case.region, joint.case.signal, DST_DAY_S * NS, (DST_DAY_S + HOUR_S) * NS
    )

    assert replayed == online
    with pytest.raises(ProviderError, match="offline"):
        offline.series(joint.case.region, joint.case.signal, 0, NS)
    assert len(joint.server.seen) == asked


def test_a_damaged_cache_is_a_cache_without_that_reply(joint: Joint) -> None:
    good = joint.series(DST_DAY_S, DST_DAY_S + HOUR_S)
    for path in Path(joint.cache.folder).rglob("*.json"):
        path.write_bytes(path.read_bytes()[:-20])

    assert joint.series(DST_DAY_S, DST_DAY_S + HOUR_S) == good


def test_a_cache_that_cannot_be_written_breaks_nothing(
    joint: Joint, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    provider = joint.case.make(joint.server, Cache(str(in_the_way)))

    series = provider.series(
        joint.case.region, joint.case.signal, DST_DAY_S * NS, DST_DAY_S * NS
    )

    assert_true(series.intervals, joint.case)
    provider.close()


# --- secrets -------------------------------------------------------------------------


def test_keys_show_nowhere(
    joint: Joint, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    joint.series(DST_DAY_S, DST_DAY_S + HOUR_S)
    for fault in (
        Answer(401, {"error": f"bad token {SECRETS[0]} {SECRETS[3]}"}),
        Answer(403, {"message": " ".join(SECRETS)}),
        Answer(503, b"", {"retry-after": "0"}),
        Answer(200, b"<html>"),
    ):
        joint.server.faults = [fault] * 9
        with pytest.raises(CarbonOpsError) as error:
            joint.series(DST_DAY_S + 15 * DAY_S, DST_DAY_S + 15 * DAY_S)
        told += [str(error.value), repr(error.value), error.value.hint]
        told += traceback.format_exception(error.value)
    told += [record.getMessage() for record in caplog.records]
    told += [repr(joint.provider), repr(vars(joint.provider))]
    for path in Path(joint.cache.folder).rglob("*"):
        told.append(str(path))
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0
            told.append(path.read_text())

    own = [s for s in SECRETS if _sent(joint, s)]
    for secret in own:
        assert not [text for text in told if secret in text], secret


def _sent(joint: Joint, secret: str) -> bool:
    return any(secret in str(seen.headers) for seen in joint.server.seen)


# --- the same contract without network -----------------------------------------------


def test_the_contract_is_that_of_the_protocol(joint: Joint) -> None:
    provider: IntensityProvider = joint.provider
    assert provider.name


def test_a_file_keeps_the_contract_too(tmp_path: Path) -> None:
    rows = "".join(
        f"{_text(at)},{_text(at + HOUR_S)},{truth('DE', at)}\n"
        for at in range(DST_DAY_S, DST_DAY_S + DAY_S, HOUR_S)
    )
    path = tmp_path / "mine.csv"
    path.write_text(
        "# signal: average\n# factor_basis: lifecycle\n# accounting: consumption\n"
        "# gas: CO2e\n# zone: DE\n# u_rel: 0.1\nstart,end,g_per_kwh\n" + rows
    )
    case = CASES["electricitymaps"]
    start, end = DST_DAY_S + 600, DST_DAY_S + DAY_S + HOUR_S

    series = FileProvider(str(path)).series("de", "average", start * NS, end * NS)

    assert_covers(series, start, end)
    assert_true(series.intervals[:-1], case)
    assert series.intervals[-1].reason == "no_data"


def _text(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
