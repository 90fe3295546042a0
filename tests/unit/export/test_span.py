"""carbon_ops.span measures whether there is OpenTelemetry or not."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from opentelemetry import trace

import carbon_ops
from carbon_ops.export.span import attributes


def test_without_a_trace_around_it_a_span_just_measures() -> None:
    with carbon_ops.span("work", epoch=3) as span:
        pass
    assert span.metric is not None
    assert span.metric["additional_info"] == {"epoch": 3}
    assert span.estimate is not None


def test_the_record_leads_to_its_trace() -> None:
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(context)):
        with carbon_ops.span("work") as span:
            pass
    assert span.metric is not None
    info = span.metric["additional_info"]
    assert (int(info["otel_trace_id"], 16), int(info["otel_span_id"], 16)) == (
        0xABC,
        0xDEF,
    )


def test_errors_pass_through_and_mark_the_span() -> None:
    async def fail() -> None:
        async with carbon_ops.span("work"):
            raise KeyError("x")

    with pytest.raises(KeyError):
        asyncio.run(fail())


LOADING = """
import sys
import carbon_ops

measured = []

class Measuring:  # as another thread may do meanwhile
    def find_spec(self, name, path=None, target=None):
        if name.startswith("opentelemetry.trace."):
            with carbon_ops.span(name) as span:
                measured.append(span)

with carbon_ops.span("loads what it needs"):
    pass
sys.meta_path.insert(0, Measuring())
import opentelemetry.trace
assert measured and all(span.metric for span in measured)
"""


def test_spans_go_on_while_opentelemetry_loads() -> None:
    subprocess.run([sys.executable, "-c", LOADING], check=True, timeout=60)


def test_unknown_figures_have_no_attribute() -> None:
    metric = carbon_ops.EnergyLogger(model="off", socket="/nonexistent").log_metrics(
        "work"
    )
    metric["energy"]["energy_j_total"] = None
    found = attributes(metric, None)
    assert "carbon_ops.energy" not in found
    assert "carbon_ops.emissions" not in found
    assert found["carbon_ops.operation"] == "work"
