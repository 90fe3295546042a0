"""A real Prometheus scrapes us and node_exporter, both on the same counters that wrap.

Debian has both: ``apt-get install prometheus prometheus-node-exporter``.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from carbon_ops import EnergyLogger
from carbon_ops.counters.wrap import REGISTER_TICKS
from carbon_ops.export import table
from carbon_ops.export.host import HostView
from carbon_ops.export.ledger import LedgerView
from carbon_ops.export.prometheus import Collector
from carbon_ops.export.tasks import Tasks
from carbon_ops.ledger.store import Ledger
from carbon_ops.testing.governor import GovernorProcess
from carbon_ops.testing.powercap import FakePowercap, server

MISSING = [
    name
    for name in ("prometheus", "promtool", "prometheus-node-exporter")
    if shutil.which(name) is None
]
needs_prometheus = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed here: {', '.join(MISSING)}"
)
CLI = (sys.executable, "-m", "carbon_ops", "export", "prometheus")
DEADLINE_S = 60.0

UNIT_NJ = 1_000  # 4,295 J a turn
WATTS = 500
ACTIVE_S = 60.0
IDLE_S = 3.0  # before and after, so that no scrape falls on a moving counter's edge
ZONES = ("intel-rapl:0", "intel-rapl:1")

# What the linter says of names that follow OpenTelemetry's; nothing else may be said.
LINT = {
    "carbon_ops_counter_resets_total metric name should not include type 'counter'",
    "carbon_ops_counter_wraps_total metric name should not include type 'counter'",
    "carbon_ops_grid_intensity_grams_per_kWh metric names should be written in "
    "'snake_case' not 'camelCase'",
}


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.05)
    return found


def fetch(url: str, accept: str = "") -> str:
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as reply:
        return str(reply.read().decode())


class Exporter:
    """The command as a process; :attr:`url` is where it said it listens."""

    def __init__(self, socket_path: str, *args: str) -> None:
        self.running = subprocess.Popen(
            [*CLI, "--listen", "127.0.0.1:0", "--socket", socket_path, *args],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.running.stdout is not None
        self.url = self.running.stdout.readline().strip()

    def scrape(self, accept: str = "") -> str:
        return fetch(self.url, accept)

    def __enter__(self) -> Exporter:
        return self

    def __exit__(self, *_: object) -> None:
        if self.running.poll() is None:
            self.running.kill()
        self.running.communicate()


def series(text: str) -> dict[str, float]:
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if not line.startswith("#")
    }


@pytest.fixture(name="governor", scope="module")
def _governor() -> Iterator[GovernorProcess]:
    with GovernorProcess() as process:
        process.wait_ready().close()
        yield process


def test_every_division_is_the_whole_of_what_was_counted(
    governor: GovernorProcess,
) -> None:
    divisions = (
        "carbon_ops_process_energy_joules_total",
        "carbon_ops_container_energy_joules_total",
    )
    grown = dict.fromkeys(("hw_energy_joules_total", *divisions), 0.0)
    with Exporter(governor.path) as exporter:
        before = series(exporter.scrape())

        def look() -> bool:
            nonlocal before
            after = series(exporter.scrape())
            for key, value in after.items():
                name = key.partition("{")[0]
                if name in grown and value > before.get(key, 0.0):
                    grown[name] += value - before.get(key, 0.0)
            before = after
            return grown["hw_energy_joules_total"] > 60

        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            until(look, "energy")
        finally:
            busy.kill()
            busy.wait()
    for name in divisions:
        assert grown[name] == pytest.approx(grown["hw_energy_joules_total"])


def test_parts_are_left_out_or_name_what_they_are_part_of(tmp_path: Path) -> None:
    tree = server(str(tmp_path / "sys"))  # two sockets, psys, and mmio repeating one
    with GovernorProcess("--powercap-root", tree.root) as governor:
        governor.wait_ready().close()
        for args, zones in (((), 4), (("--parts",), 6)):
            with Exporter(governor.path, *args, "--top", "0") as exporter:
                found = series(exporter.scrape())
            energy = [key for key in found if key.startswith("hw_energy_joules_total")]
            assert len(energy) == zones
            assert not [key for key in energy if "mmio" in key]
            parts = [key for key in energy if 'zone="core"' in key]
            assert all('hw_parent="intel-rapl/package-' in key for key in parts)
            assert sum("hw_parent" in key for key in energy) == len(parts) == zones - 4
            assert 'hw_host_energy_joules_total{source="psys"}' in found
            assert not [key for key in found if "process_energy" in key]


def test_a_counter_that_cannot_be_read_has_no_series(tmp_path: Path) -> None:
    tree = server(str(tmp_path / "sys"))
    tree.tear("intel-rapl:0:1")
    name = "intel-rapl/package-0/dram"
    with GovernorProcess("--powercap-root", tree.root) as governor:
        governor.wait_ready().close()
        with Exporter(governor.path, "--top", "0") as exporter:

            def counted() -> list[str]:
                found = series(exporter.scrape())
                return [key for key in found if key.startswith("hw_energy_joules")]

            assert len(counted()) == 3
            assert not [key for key in counted() if name in key]
            tree.advance("intel-rapl:0:1", 1_000)
            until(lambda: len(counted()) == 4, "energy of a counter that is mended")
            assert [key for key in counted() if name in key]


def test_every_row_of_the_table_is_exported_with_all_its_labels(tmp_path: Path) -> None:
    """Dashboard and docs are checked against the table; this is what holds the table."""
    tree = server(str(tmp_path / "sys"))
    uid, ident = "0dc5b5c6-3a5f-4f2b-9c1e-0123456789ab", 32 * "ab"
    container = tmp_path / "cgroup" / "kubepods" / f"pod{uid}" / ident
    container.mkdir(parents=True)
    (tmp_path / "logs" / f"shop_cart-7f_{uid}").mkdir(parents=True)
    Ledger.init(str(tmp_path / "ledger")).close()
    tasks, used = Tasks(), count(1_000, 1_000)
    with GovernorProcess("--powercap-root", tree.root) as governor:
        governor.wait_ready().close()
        view = HostView(
            governor.path,
            parts=True,
            region="DE",
            cgroup_root=str(tmp_path / "cgroup"),
            pod_logs=str(tmp_path / "logs"),
        )
        with EnergyLogger(socket=governor.path, region="DE", ledger=False) as logger:
            with logger.span("work", settle=True) as span:
                for zone in tree.ticks:
                    tree.advance(zone, 10_000)
        assert span.metric is not None
        tasks.add(span.metric, span.estimate)
        collector = Collector(view, tasks, LedgerView(str(tmp_path / "ledger")))
        found: dict[str, dict[str, set[str]]] = {}

        def lacking() -> set[tuple[str, str]]:
            (container / "cpu.stat").write_text(f"usage_usec {next(used)}\n")
            for metric in collector.collect():
                for sample in metric.samples:
                    name = metric.name if metric.type == "histogram" else sample.name
                    labels = found.setdefault(name, {"": set()})
                    for label, value in sample.labels.items():
                        labels.setdefault(label, set()).add(value)
            return {
                (row.native, label)
                for row in table.TABLE
                for label in ("", *row.labels)
                if label not in found.get(row.native, ())
            }

        # The reason is why there is no energy; here there is.
        reason = {("carbon_ops_measurement_info", "fallback_reason")}
        until(lambda: lacking() == reason, "series of each row")
        view.close()
    of_container = found["carbon_ops_container_energy_joules_total"]
    assert ident in of_container["container_id"]
    assert (of_container["pod"], of_container["namespace"]) == ({"cart-7f"}, {"shop"})
    assert found["hw_energy_joules_total"]["carbon_ops_source"] == {"rapl_sysfs"}
    assert found["hw_energy_joules_total"]["hw_type"] == {"cpu", "memory"}


def test_without_a_governor_there_is_no_energy_but_the_reason(tmp_path: Path) -> None:
    with Exporter(str(tmp_path / "nobody.sock"), "--region", "FR") as exporter:
        text = exporter.scrape()
    assert "joules" not in text
    assert "watts" not in text
    assert 'fallback_reason="no_socket"' in text
    assert 'kind="marginal"' in text


def test_a_governor_that_comes_back_makes_no_counter_fall() -> None:
    with GovernorProcess() as governor:
        governor.wait_ready().close()
        with Exporter(governor.path) as exporter:
            until(lambda: "hw_power_watts{" in exporter.scrape(), "power")
            before = series(exporter.scrape())
            governor.kill()
            until(lambda: "joules" not in exporter.scrape(), "end of the energy")
            governor.start()
            until(lambda: "hw_energy_joules_total{" in exporter.scrape(), "energy")
            after = series(exporter.scrape())
            exporter.running.send_signal(signal.SIGTERM)
            assert exporter.running.wait(DEADLINE_S) == 0
    compared = [key for key in before if "_total" in key and key in after]
    assert any(key.startswith("hw_energy") for key in compared)
    assert {k: (before[k], after[k]) for k in compared if after[k] < before[k]} == {}


@pytest.mark.skipif("promtool" in MISSING, reason="promtool is not installed here")
def test_promtool_takes_both_formats_and_the_textfile(
    governor: GovernorProcess, tmp_path: Path
) -> None:
    target = tmp_path / "carbon-ops.prom"
    done = subprocess.run(
        [*CLI, "--socket", governor.path, "--textfile", str(target)], check=False
    )
    assert done.returncode == 0
    assert target.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    with Exporter(governor.path, "--parts", "--region", "DE") as exporter:
        texts = [target.read_text(), exporter.scrape()]
        openmetrics = exporter.scrape("application/openmetrics-text; version=1.0.0")
    for text in texts:
        checked = subprocess.run(
            ["promtool", "check", "metrics"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert set(checked.stderr.splitlines()) <= LINT
    assert openmetrics.endswith("# EOF\n")
    assert "# TYPE hw_energy_joules counter" in openmetrics


# --- the same counters, two exporters, one Prometheus ----------------------------------


class Machine(threading.Thread):
    """Two packages that draw :data:`WATTS` each for a while, and then nothing."""

    def __init__(self, base: Path) -> None:
        super().__init__(daemon=True)
        self.tree = FakePowercap(str(base))
        for index, zone in enumerate(ZONES):
            top = REGISTER_TICKS - 1_000_000 - 9_000_000 * index
            self.tree.add(zone, f"package-{index}", unit_nj=UNIT_NJ, ticks=top)
        self.used = 0  # ticks of each

    def run(self) -> None:
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < ACTIVE_S:
            due = int(elapsed * WATTS * 1e9 / UNIT_NJ)
            for zone in ZONES:
                self.tree.advance(zone, due - self.used)
            self.used = due
            time.sleep(0.02)

    def joules(self) -> float:
        return len(ZONES) * self.used * UNIT_NJ / 1e9


class Prometheus:
    """A server with one scrape a second; :meth:`ask` runs an instant query."""

    def __init__(self, stack: ExitStack, folder: Path, targets: dict[str, str]) -> None:
        jobs = [
            {"job_name": name, "static_configs": [{"targets": [address]}]}
            for name, address in targets.items()
        ]
        config = folder / "prometheus.json"  # JSON is YAML
        config.write_text(
            json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs})
        )
        self.address = f"127.0.0.1:{free_port()}"
        start(
            stack,
            folder / "prometheus.log",
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={self.address}",
        )

    def ask(self, query: str, at: float | None = None) -> list[Any]:
        words = {"query": query} | ({} if at is None else {"time": f"{at:.3f}"})
        url = f"http://{self.address}/api/v1/query?{urllib.parse.urlencode(words)}"
        try:
            return list(json.loads(fetch(url))["data"]["result"])
        except OSError:
            return []  # not up yet

    def increase(self, name: str, since: float) -> float:
        """Return ``sum(increase(name))`` between the first scrape after ``since`` and
        the last one, so that nothing is extrapolated."""
        found = 0.0
        seconds = round(time.time() - since) + 1
        for one in self.ask(f"{name}[{seconds}s]"):
            times = [at for at, _ in one["values"] if at >= since]
            labels = one["metric"]
            labels.pop("__name__")
            chosen = ",".join(f"{key}={json.dumps(v)}" for key, v in labels.items())
            window = round((times[-1] - times[0]) * 1e3)
            query = f"increase({name}{{{chosen}}}[{window}ms])"
            (answer,) = self.ask(query, times[-1])
            found += float(answer["value"][1])
        return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def start(stack: ExitStack, log: Path, *words: str) -> None:
    with log.open("wb") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out)

    def end() -> None:
        process.kill()
        process.wait()

    stack.callback(end)


@needs_prometheus
@pytest.mark.timeout(300)
def test_increase_over_ours_is_the_truth_and_over_raw_counters_is_not(
    tmp_path: Path,
) -> None:
    machine = Machine(tmp_path / "sys")
    with ExitStack() as stack:
        governor = stack.enter_context(
            GovernorProcess("--powercap-root", machine.tree.root)
        )
        governor.wait_ready().close()
        exporter = stack.enter_context(Exporter(governor.path))
        theirs = f"127.0.0.1:{free_port()}"
        start(
            stack,
            tmp_path / "node_exporter.log",
            "prometheus-node-exporter",
            "--collector.disable-defaults",
            "--collector.rapl",
            f"--path.sysfs={tmp_path / 'sys'}",
            f"--web.listen-address={theirs}",
        )
        ours = exporter.url.split("/")[2]
        server = Prometheus(stack, tmp_path, {"ours": ours, "theirs": theirs})
        names = ("hw_energy_joules_total", "node_rapl_package_joules_total")
        for name in names:
            until(
                partial(lambda asked: len(server.ask(asked)) == len(ZONES), name), name
            )
        began = time.time()
        time.sleep(IDLE_S)
        machine.start()
        machine.join()
        time.sleep(IDLE_S)
        ours_j, theirs_j = (server.increase(name, began) for name in names)
        (wraps,) = server.ask("sum(carbon_ops_counter_wraps_total)")
    truth = machine.joules()
    assert int(wraps["value"][1]) >= 2 * ACTIVE_S * WATTS // 4_295
    assert ours_j == pytest.approx(truth, rel=0.005)
    assert theirs_j != pytest.approx(truth, rel=0.005)
    print(f"truth {truth:.0f} J, ours {ours_j:.0f} J, node_exporter {theirs_j:.0f} J")
