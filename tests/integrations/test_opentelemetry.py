"""The real SDK: in memory, over OTLP/HTTP, and started by opentelemetry-instrument."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

import carbon_ops
from carbon_ops.export import table
from carbon_ops.export.otel import CarbonOpsInstrumentor

WORK = "import time\nwhile time.process_time() < 0.3: pass\n"


def spin() -> None:
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass


@pytest.fixture(name="instrumented")
def _instrumented() -> Iterator[InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    CarbonOpsInstrumentor().instrument(
        meter_provider=MeterProvider([reader]), host=True
    )
    yield reader
    CarbonOpsInstrumentor().uninstrument()


def collected(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    data = reader.get_metrics_data()
    if data is None:
        return {}
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_the_names_are_the_tables_and_counters_grow(
    instrumented: InMemoryMetricReader,
) -> None:
    first = collected(instrumented)
    with carbon_ops.EnergyLogger(region="DE").span("fit", settle=True) as span:
        spin()
    later = collected(instrumented)
    known = {row.otel for row in table.TABLE}
    assert set(later) <= known
    assert {
        "hw.energy",
        "hw.power",
        "carbon_ops.process.energy",
        "carbon_ops.container.energy",
        "carbon_ops.task.energy",
        "carbon_ops.emissions",
        "carbon_ops.emissions.bound",
        "carbon_ops.allocation.ratio",
        "process.cpu.time",
        "carbon_ops.sampler.samples",
        "carbon_ops.sampler.wraps",
    } <= set(later)
    assert sum(p.value for p in later["hw.energy"]) > sum(
        p.value for p in first["hw.energy"]
    )
    (spread,) = later["carbon_ops.task.energy"]
    assert span.metric is not None
    assert spread.sum == span.metric["energy"]["energy_j_total"]
    assert tuple(spread.explicit_bounds) == table.BUCKETS


def test_a_program_shows_its_own_energy_and_not_the_hosts() -> None:
    reader = InMemoryMetricReader()
    CarbonOpsInstrumentor().instrument(meter_provider=MeterProvider([reader]))
    try:
        collected(reader)
        spin()
        later = collected(reader)
    finally:
        CarbonOpsInstrumentor().uninstrument()
    (own,) = later["carbon_ops.process.energy"]
    assert own.attributes["comm"] == os.path.basename(sys.argv[0])
    assert own.value > 0
    assert "hw.energy" not in later


def test_the_span_around_a_block_has_energy_and_carbon() -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    with provider.get_tracer("test").start_as_current_span("job") as around:
        with carbon_ops.span("fit", settle=True) as span:
            spin()
    (told,) = spans.get_finished_spans()
    assert told.attributes is not None
    assert span.metric is not None
    energy = span.metric["energy"]
    assert told.attributes["carbon_ops.energy"] == energy["energy_j_total"]
    assert told.attributes["carbon_ops.attribution_mode"] == "governor"
    assert told.attributes["carbon_ops.source"] == "simulated"
    assert energy["bounds_j"] == [
        told.attributes["carbon_ops.energy.lower"],
        told.attributes["carbon_ops.energy.upper"],
    ]
    assert told.attributes["carbon_ops.grid.zone"]
    trace_id = span.metric["additional_info"]["otel_trace_id"]
    assert int(trace_id, 16) == around.get_span_context().trace_id


def test_without_a_governor_there_is_no_energy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARBON_OPS_SOCKET", str(tmp_path / "none"))
    reader = InMemoryMetricReader()
    CarbonOpsInstrumentor().instrument(
        meter_provider=MeterProvider([reader]), host=True
    )
    try:
        carbon_ops.EnergyLogger(cpu_watts=(1.0, 2.0)).log_metrics("work")
        names = set(collected(reader))
    finally:
        CarbonOpsInstrumentor().uninstrument()
    assert not [
        name
        for name in names
        if "energy" in name or "power" in name or "emissions" in name
    ]


def test_uninstrumented_instruments_show_nothing(
    instrumented: InMemoryMetricReader,
) -> None:
    assert collected(instrumented)
    CarbonOpsInstrumentor().uninstrument()
    carbon_ops.EnergyLogger().log_metrics("work")
    assert "hw.energy" not in collected(instrumented)


def test_native_names_are_those_of_opentelemetrys_own_prometheus_exporter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One dashboard serves both ways out."""
    monkeypatch.setenv("CARBON_OPS_REGION", "DE")
    theirs = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(registry=theirs)])
    CarbonOpsInstrumentor().instrument(meter_provider=provider, host=True)
    try:
        with carbon_ops.EnergyLogger(region="DE").span("fit"):
            spin()
        text = generate_latest(theirs).decode()
    finally:
        CarbonOpsInstrumentor().uninstrument()
    found = {line.split()[2] for line in text.splitlines() if "# TYPE" in line}
    assert {
        row.native
        for row in (
            *(table.ENERGY, table.POWER, table.PROCESS_ENERGY, table.CONTAINER_ENERGY),
            *(table.TASK_ENERGY, table.EMISSIONS, table.BOUND, table.RATIO),
            table.INTENSITY,
        )
    } <= found


class Receiver(ThreadingHTTPServer):
    """Takes OTLP over HTTP, as a collector does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.got: list[tuple[str, bytes]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def metrics(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for path, body in self.got:
            if path == "/v1/metrics":
                for resource in ExportMetricsServiceRequest.FromString(
                    body
                ).resource_metrics:
                    for scope in resource.scope_metrics:
                        for metric in scope.metrics:
                            points = metric.sum.data_points or metric.gauge.data_points
                            found[metric.name] = sum(p.as_double for p in points)
        return found

    def attributes(self) -> tuple[set[str], dict[str, set[str]]]:
        """Return the resource's keys, and each span's."""
        resources: set[str] = set()
        spans: dict[str, set[str]] = {}
        for path, body in self.got:
            if path == "/v1/traces":
                for resource in ExportTraceServiceRequest.FromString(
                    body
                ).resource_spans:
                    resources |= {a.key for a in resource.resource.attributes}
                    for scope in resource.scope_spans:
                        for span in scope.spans:
                            spans[span.name] = {a.key for a in span.attributes}
        return resources, spans


class _Receive(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.got.append((self.path, body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(name="receiver")
def _receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver
        receiver.shutdown()


def test_metrics_arrive_over_otlp(receiver: Receiver) -> None:
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(f"{receiver.url}/v1/metrics"), export_interval_millis=1e9
    )
    provider = MeterProvider([reader])
    CarbonOpsInstrumentor().instrument(meter_provider=provider, host=True)
    try:
        provider.shutdown()
    finally:
        CarbonOpsInstrumentor().uninstrument()
    assert receiver.metrics()["hw.energy"] > 0


APP = f"""
import carbon_ops
from opentelemetry import trace
{WORK}
with trace.get_tracer("app").start_as_current_span("job"):
    with carbon_ops.span("fit", settle=True):
        sum(range(1_000_000))
"""


def test_a_program_started_by_opentelemetry_instrument_needs_no_code(
    receiver: Receiver, governor: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP)
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "opentelemetry-instrument"),
            *("--carbon_ops_host", "true"),
            *("--metrics_exporter", "otlp", "--traces_exporter", "otlp"),
            *("--logs_exporter", "none", "--exporter_otlp_protocol", "http/protobuf"),
            *("--exporter_otlp_endpoint", receiver.url),
            *("--experimental_resource_detectors", "carbon_ops"),
            *(sys.executable, "app.py"),
        ],
        cwd=tmp_path,
        env={**os.environ, "CARBON_OPS_REGION": "FR"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    metrics = receiver.metrics()
    assert metrics["hw.energy"] > 0
    assert metrics["carbon_ops.process.energy"] > 0
    assert metrics["carbon_ops.emissions"] > 0
    resources, spans = receiver.attributes()
    assert {"carbon_ops.grid.zone", "carbon_ops.sensor"} <= resources
    assert {"carbon_ops.energy", "carbon_ops.emissions"} <= spans["job"]


def test_nothing_of_opentelemetry_is_loaded_with_the_package() -> None:
    code = "import sys, carbon_ops; carbon_ops.span; print([m for m in sys.modules if 'opentelemetry' in m])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "[]"
