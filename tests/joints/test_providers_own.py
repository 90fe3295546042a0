"""What each provider's own service does that the others' do not."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("httpx")
pytest.importorskip("stamina")

from carbon_ops.errors import (
    ConfigError,
    InvalidInputError,
    ProviderError,
    UnknownRegionError,
)
from carbon_ops.intensity.cache import Cache
from carbon_ops.intensity.providers import open_provider
from carbon_ops.intensity.providers.electricity_maps import KEY, ElectricityMaps
from carbon_ops.intensity.providers.energy_charts import EnergyCharts
from carbon_ops.intensity.providers.uk import UkCarbonIntensity
from carbon_ops.intensity.providers.watttime import WattTime
from carbon_ops.testing.fake_grid import (
    Answer,
    FakeElectricityMaps,
    FakeEnergyCharts,
    FakeUk,
    FakeWattTime,
    truth,
)

NS, HOUR_S, DAY_S = 1_000_000_000, 3_600, 86_400
START_S = 1_743_292_800


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(str(tmp_path / "cache"))


# --- WattTime ------------------------------------------------------------------------


def test_a_token_that_expires_in_the_middle_of_a_run_is_renewed_once(
    cache: Cache,
) -> None:
    with FakeWattTime("u", "p") as server:
        assert isinstance(server, FakeWattTime)
        server.token_life = 2
        provider = WattTime(user="u", password="p", base_url=server.url, cache=cache)

        series = provider.series(
            "DE", "marginal", START_S * NS, (START_S + 100 * DAY_S) * NS
        )
        provider.close()

        assert all(interval.intensity for interval in series.intervals)
        assert server.logins == 2
        # 4 pieces, 2 logins, 1 request refused
        assert len(server.seen) == 7


def test_a_wrong_password_is_told_at_once_and_not_tried_for_ever(cache: Cache) -> None:
    with FakeWattTime("u", "p") as server:
        provider = WattTime(
            user="u", password="wrong", base_url=server.url, cache=cache
        )

        with pytest.raises(ProviderError, match="log in"):
            provider.series("DE", "marginal", START_S * NS, START_S * NS)
        provider.close()

        assert len(server.seen) == 1


def test_an_account_that_is_locked_out_in_mid_run_ends_the_run(cache: Cache) -> None:
    with FakeWattTime("u", "p") as server:
        assert isinstance(server, FakeWattTime)
        server.token_life = 0
        provider = WattTime(user="u", password="p", base_url=server.url, cache=cache)

        with pytest.raises(ProviderError, match="401"):
            provider.series("DE", "marginal", START_S * NS, START_S * NS)
        provider.close()

        assert len(server.seen) == 4


@pytest.mark.parametrize("units", ["percentile", "", "kg_co2_per_mwh", None, 7])
def test_a_percentile_or_any_other_unit_is_refused(
    cache: Cache, units: str | None
) -> None:
    with FakeWattTime("u", "p") as server:
        assert isinstance(server, FakeWattTime)
        server.units = units  # type: ignore[assignment]
        provider = WattTime(user="u", password="p", base_url=server.url, cache=cache)

        with pytest.raises(ProviderError) as error:
            provider.series("DE", "marginal", START_S * NS, START_S * NS)
        provider.close()

        assert "lbs_co2_per_mwh" in str(error.value)


def test_another_signal_than_was_asked_for_is_refused(cache: Cache) -> None:
    with FakeWattTime("u", "p") as server:
        assert isinstance(server, FakeWattTime)
        server.signal_told = "co2_aoer"
        provider = WattTime(user="u", password="p", base_url=server.url, cache=cache)
        with closing(provider), pytest.raises(ProviderError, match="co2_moer"):
            provider.series("DE", "marginal", START_S * NS, START_S * NS)


@pytest.mark.parametrize(
    "told", [{"temporalGranularity": "daily"}, {"emissionFactorType": "direct"}]
)
def test_a_reply_on_another_basis_or_grid_of_time_is_refused(
    cache: Cache, told: dict[str, str]
) -> None:
    row = {"zone": "DE", "carbonIntensity": 1, "datetime": "2025-03-30T00:00:00.000Z"}
    with FakeElectricityMaps("k") as server:
        server.faults = [Answer(200, {"data": [row | told]} | told)]
        provider = ElectricityMaps(key="k", base_url=server.url, cache=cache)
        with closing(provider), pytest.raises(ProviderError):
            provider.series("DE", "average", START_S * NS, START_S * NS)


@pytest.mark.parametrize(
    ("times", "values"),
    [
        ([0, 60], [1, 2]),  # minutes
        ([0, 900], [1]),  # a value is missing
        ([900, 0], [1, 2]),
        ([0, 0], [1, 2]),
        (["0", "900"], [1, 2]),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    cache: Cache, times: list[object], values: list[object]
) -> None:
    with FakeEnergyCharts() as server:
        server.faults = [Answer(200, {"unix_seconds": times, "co2eq": values})]
        provider = EnergyCharts(base_url=server.url, cache=cache)
        with closing(provider), pytest.raises(ProviderError):
            provider.series("DE", "average", START_S * NS, START_S * NS)


def test_a_slot_that_is_no_half_hour_is_refused(cache: Cache) -> None:
    slot = {
        "from": "2025-03-30T00:00Z",
        "to": "2025-03-30T12:00Z",
        "intensity": {"forecast": 1, "actual": 1},
    }
    with FakeUk() as server:
        server.faults = [Answer(200, {"data": [slot]})]
        provider = UkCarbonIntensity(base_url=server.url, cache=cache)
        with closing(provider), pytest.raises(ProviderError):
            provider.series("GB", "average", START_S * NS, START_S * NS)


def test_pounds_per_megawatt_hour_become_grams_per_kilowatt_hour(cache: Cache) -> None:
    with FakeWattTime("u", "p") as server:
        server.faults = [
            Answer(200, {"token": "t"}),
            Answer(
                200,
                {
                    "data": [
                        {"point_time": "2025-03-30T00:00:00+00:00", "value": 1000}
                    ],
                    "meta": {
                        "data_point_period_seconds": 300,
                        "region": "DE",
                        "signal_type": "co2_moer",
                        "units": "lbs_co2_per_mwh",
                        "warnings": [{"type": "W", "message": "late data"}],
                        "model": {"date": "2022-10-01"},
                    },
                },
            ),
        ]
        provider = WattTime(user="u", password="p", base_url=server.url, cache=cache)
        (interval,) = provider.series(
            "DE", "marginal", START_S * NS, (START_S + 300) * NS
        ).intervals
        provider.close()

    assert interval.intensity is not None
    assert interval.intensity.g_per_kwh == pytest.approx(453.59237)
    assert interval.intensity.flags == ("provider_warning",)
    assert "2022-10-01" in interval.intensity.version


def test_many_threads_share_one_login(cache: Cache) -> None:
    with FakeWattTime("u", "p") as server:
        assert isinstance(server, FakeWattTime)
        provider = WattTime(user="u", password="p", base_url=server.url, cache=cache)
        problems: list[Exception] = []

        def ask(day: int) -> None:
            at = (START_S + day * DAY_S) * NS
            try:
                provider.series("DE", "marginal", at, at)
            except ProviderError as error:
                problems.append(error)

        threads = [threading.Thread(target=ask, args=(day,)) for day in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        provider.close()

        assert problems == []
        assert server.logins == 1


# --- a reply for another zone --------------------------------------------------------


def test_a_zone_guessed_from_the_caller_s_address_is_refused(cache: Cache) -> None:
    with FakeElectricityMaps("k") as server:
        assert isinstance(server, FakeElectricityMaps)
        server.lies = True
        provider = ElectricityMaps(key="k", base_url=server.url, cache=cache)
        for start in (START_S, int(time.time()) - HOUR_S):
            with pytest.raises(ProviderError, match="FR"):
                provider.series("DE", "average", start * NS, start * NS)
        provider.close()

        assert all(s.params["disableCallerLookup"] == "true" for s in server.seen)


def test_a_marginal_reply_for_another_region_is_refused(cache: Cache) -> None:
    with FakeWattTime("u", "p") as server:
        assert isinstance(server, FakeWattTime)
        server.region_told = "CAISO_NORTH"
        provider = WattTime(user="u", password="p", base_url=server.url, cache=cache)
        with pytest.raises(ProviderError, match="CAISO_NORTH"):
            provider.series("DE", "marginal", START_S * NS, START_S * NS)
        provider.close()


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_region_of_great_britain_comes_in_two_envelopes(
    cache: Cache, wrapped: bool
) -> None:
    with FakeUk() as server:
        assert isinstance(server, FakeUk)
        server.wrapped = wrapped
        provider = UkCarbonIntensity(base_url=server.url, cache=cache)
        (interval,) = provider.series(
            "GB-13", "average", START_S * NS, (START_S + 1800) * NS
        ).intervals
        assert interval.intensity is not None
        assert interval.intensity.g_per_kwh == truth("GB-13", START_S)
        assert interval.intensity.is_forecast  # regions have nothing else
        server.region_told = 12
        with pytest.raises(ProviderError, match="GB-12"):
            provider.series("GB-13", "average", 0, 0)
        provider.close()


@pytest.mark.parametrize("region", ["FR", "GB-0", "GB-18", "GB-x", "US-CA", "UK-"])
def test_only_great_britain_is_great_britain(cache: Cache, region: str) -> None:
    with pytest.raises(UnknownRegionError):
        UkCarbonIntensity(cache=cache).series(region, "average", 0, 0)


def test_an_inclusive_range_gives_no_half_hour_twice(cache: Cache) -> None:
    with FakeUk() as server:
        provider = UkCarbonIntensity(base_url=server.url, cache=cache)
        end_s = START_S + 14 * DAY_S  # two requests that share a slot
        series = provider.series("GB", "average", START_S * NS, end_s * NS)
        provider.close()

    assert len(series.intervals) == 14 * 48
    assert all(a.end_ns == b.start_ns for a, b in itertools.pairwise(series.intervals))


def test_the_null_tail_is_filled_with_the_forecast_or_left_empty(cache: Cache) -> None:
    now = int(time.time())
    with FakeEnergyCharts() as server:
        provider = EnergyCharts(base_url=server.url, cache=cache)
        series = provider.series(
            "DE", "average", (now - 5 * HOUR_S) * NS, (now + 4 * DAY_S) * NS
        )
        provider.close()

    kinds = [
        None if i.intensity is None else i.intensity.is_forecast
        for i in series.intervals
    ]
    assert [kind for kind, _ in itertools.groupby(kinds)] == [False, True, None]
    assert series.intervals[-1].reason == "no_data"


def test_the_zone_s_refusal_names_what_the_service_said(cache: Cache) -> None:
    with FakeElectricityMaps("k") as server:
        provider = ElectricityMaps(key="k", base_url=server.url, cache=cache)
        with pytest.raises(ProviderError, match="No recent data"):
            provider.series("IT", "average", START_S * NS, START_S * NS)
        provider.close()
        stranger = ElectricityMaps(key="other", base_url=server.url, cache=cache)
        with closing(stranger), pytest.raises(ProviderError, match="401"):
            stranger.series("DE", "average", START_S * NS, START_S * NS)


# --- chains --------------------------------------------------------------------------


def test_a_chain_falls_back_only_to_the_same_kind_and_says_so(
    tmp_path: Path, cache: Cache
) -> None:
    from carbon_ops.intensity.providers.chain import Chain
    from carbon_ops.intensity.static import StaticProvider

    with FakeElectricityMaps("k") as server:
        live = ElectricityMaps(key="k", base_url=server.url, cache=cache)
        chain = Chain([live, StaticProvider()])
        whole = chain.series("DE", "average", START_S * NS, (START_S + HOUR_S) * NS)
        server.faults = [Answer(404, {"error": "gone"})]
        filled = chain.series("DE", "average", 0, HOUR_S * NS)
        live.close()
    (one,) = whole.intervals
    (two,) = filled.intervals

    assert one.intensity is not None
    assert (one.intensity.provider, one.intensity.flags) == ("electricitymaps", ())
    assert two.intensity is not None
    assert two.intensity.provider == "static"
    assert "fallback:static" in two.intensity.flags


def test_a_chain_never_mixes_what_is_counted_differently(cache: Cache) -> None:
    from carbon_ops.intensity.providers.chain import Chain
    from carbon_ops.intensity.static import StaticProvider

    with FakeUk() as server:
        server.faults = [Answer(404, {"error": "gone"})]
        live = UkCarbonIntensity(base_url=server.url, cache=cache)
        series = Chain([live, StaticProvider()]).series(
            "GB", "average", START_S * NS, (START_S + HOUR_S) * NS
        )
        live.close()

    # Direct CO2 was asked for; the shipped average is life-cycle CO2e.
    assert [i.reason for i in series.intervals] == ["basis_mismatch"]


def test_a_chain_of_silence_tells_the_first_one_s_trouble(cache: Cache) -> None:
    from carbon_ops.intensity.providers.chain import Chain

    with FakeUk() as server:
        server.faults = [Answer(404, {}), Answer(400, {})]
        one = UkCarbonIntensity(base_url=server.url, cache=cache)
        two = UkCarbonIntensity(base_url=server.url, cache=cache)
        with pytest.raises(ProviderError, match="404"):
            Chain([one, two]).series("GB", "average", START_S * NS, START_S * NS)
        one.close()
        two.close()


def test_grams_come_from_the_factors_that_were_sent_and_can_be_replayed(
    cache: Cache,
) -> None:
    from carbon_ops.estimate.estimator import CarbonEstimator
    from carbon_ops.intensity.providers.chain import Chain
    from carbon_ops.intensity.static import StaticProvider

    end = START_S + 2 * HOUR_S
    with FakeWattTime("u", "p") as server:
        live = WattTime(user="u", password="p", base_url=server.url, cache=cache)
        with closing(live):
            chain = Chain([live, StaticProvider()])
            online = CarbonEstimator("DE", intensity=chain).estimate_over_span(
                START_S, end, 1000.0
            )
    replay = WattTime(base_url=server.url, cache=Cache(cache.folder, offline=True))
    chain = Chain([replay, StaticProvider()])
    offline = CarbonEstimator("DE", intensity=chain).estimate_over_span(
        START_S, end, 1000.0
    )
    record = online.to_dict()

    mean = sum(truth("DE", at) for at in range(START_S, end, 300)) / 24
    assert record["marginal"]["g"] == pytest.approx(mean)
    assert record["marginal"]["intensity"]["provider"] == "watttime"
    assert record["average"]["intensity"]["provider"] == "static"
    assert record["raw_sha256"]["marginal"]
    assert offline.to_dict() == record


# --- names and keys ------------------------------------------------------------------


def test_names_open_providers_and_unknown_names_are_refused(cache: Cache) -> None:
    for name in ("static", "electricitymaps", "watttime", "uk-carbon-intensity"):
        assert open_provider(name, cache=cache).name == name
    assert open_provider("energy-charts, static", cache=cache).name == "chain"
    with pytest.raises(InvalidInputError) as error:
        open_provider("electricity-map")
    assert "watttime" in error.value.hint


def test_a_provider_of_another_package_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path / "gridplugin-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: gridplugin\nVersion: 1\n"
    )
    (about / "entry_points.txt").write_text(
        "[carbon_ops.intensity]\nmygrid = gridplugin:Grid\nbroken = gridplugin:broken\n"
    )
    (tmp_path / "gridplugin.py").write_text(
        "from carbon_ops.intensity.static import StaticProvider\n"
        "class Grid(StaticProvider):\n    name = 'mygrid'\n"
        "def broken():\n    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    provider = open_provider("mygrid")

    assert provider.name == "mygrid"
    assert provider.series("DE", "average", 0, 0).intervals[0].intensity is not None
    with pytest.raises(InvalidInputError):
        open_provider("broken")


def test_keys_come_from_the_environment_or_a_file_nobody_else_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Cache
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(KEY, raising=False)
    start = START_S * NS
    with FakeElectricityMaps("from-file") as server:
        with pytest.raises(ConfigError, match=KEY):
            ElectricityMaps(base_url=server.url, cache=cache).series(
                "DE", "average", start, start
            )
        path = tmp_path / "carbon-ops" / "credentials"
        path.parent.mkdir()
        path.write_bytes(f"# mine \xfc\n{KEY} = from-file\n".encode("latin-1"))
        path.chmod(0o644)
        with pytest.raises(ConfigError) as error:
            ElectricityMaps(base_url=server.url, cache=cache).series(
                "DE", "average", start, start
            )
        assert "from-file" not in str(error.value) + error.value.hint
        path.chmod(0o600)
        provider = ElectricityMaps(base_url=server.url, cache=cache)
        provider.series("DE", "average", start, start)
        provider.close()
        monkeypatch.setenv(KEY, "from-environment")
        provider = ElectricityMaps(base_url=server.url, cache=cache)
        with closing(provider), pytest.raises(ProviderError, match="401"):
            provider.series("FR", "average", start, start)
        monkeypatch.setenv(KEY, "line\nbreak")
        with pytest.raises(ConfigError):
            ElectricityMaps(base_url=server.url, cache=cache).series(
                "FR", "average", start, start
            )


def test_what_is_recent_is_asked_again_when_it_may_have_changed(
    tmp_path: Path,
) -> None:
    class Impatient(ElectricityMaps):
        publish_s = 0.0

    now = int(time.time())
    folder = str(tmp_path / "cache")
    with FakeElectricityMaps("k") as server:
        for kind, times in ((Impatient, 2), (ElectricityMaps, 0)):
            before = len(server.seen)
            provider = kind(key="k", base_url=server.url, cache=Cache(folder))
            for _ in range(2):
                provider.series("DE", "average", (now - HOUR_S) * NS, now * NS)
            provider.close()
            assert len(server.seen) == before + times


def test_values_that_may_still_be_revised_are_not_kept_for_good(
    tmp_path: Path,
) -> None:
    class Impatient(UkCarbonIntensity):
        publish_s = 0.0
        gap_s = 0.0

    yesterday = int(time.time()) - DAY_S
    with FakeUk() as server:
        provider = Impatient(base_url=server.url, cache=Cache(str(tmp_path / "c")))
        for at in (yesterday, yesterday, START_S, START_S):
            provider.series("GB", "average", at * NS, at * NS)
        provider.close()

        assert len(server.seen) == 3


def test_offline_a_reply_is_used_however_old_it_is(tmp_path: Path) -> None:
    class Impatient(ElectricityMaps):
        publish_s = 0.0

    now = int(time.time())
    folder = str(tmp_path / "cache")
    with FakeElectricityMaps("k") as server:
        found = []
        for cache in (Cache(folder), Cache(folder, offline=True)):
            provider = Impatient(key="k", base_url=server.url, cache=cache)
            with closing(provider):
                found.append(provider.series("DE", "average", now * NS, now * NS))

        assert found[0] == found[1]
        assert len(server.seen) == 1


def test_the_newest_hours_are_estimated_and_say_so(cache: Cache) -> None:
    now = int(time.time())
    with FakeElectricityMaps("k") as server:
        provider = ElectricityMaps(key="k", base_url=server.url, cache=cache)
        with closing(provider):
            series = provider.series("DE", "average", (now - 8 * HOUR_S) * NS, now * NS)

    estimated = [i.intensity.is_estimated for i in series.intervals if i.intensity]
    assert len(estimated) == len(series.intervals)
    assert not any(estimated[:6])
    assert estimated[-1]


def test_the_cache_names_no_secret_and_belongs_to_its_owner(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with FakeElectricityMaps("s3cret") as server:
        provider = ElectricityMaps(
            key="s3cret", base_url=server.url, cache=Cache(str(folder))
        )
        provider.series("DE", "average", START_S * NS, START_S * NS)
        provider.close()
    (path,) = folder.rglob("*.json")

    assert "s3cret" not in path.read_text()
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["settled"] is True
