"""JSON Schemas of the records in a ledger, one per type, numbered.

The metric's comes from :mod:`carbon_ops.model`, so that it cannot fall behind. Published
in ``docs/reference/schemas``; a published number never changes its meaning, and records
of old numbers are read for ever. Members may be added within a number: readers ignore
what they do not know.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from carbon_ops.model import Metric


class Genesis(TypedDict):
    format: int
    origin: str
    segment_records: int
    vkey: str | None


class Heartbeat(TypedDict):
    ts: str
    monotonic_ns: str
    boottime_ns: str


class Recovery(TypedDict):
    ts: str
    torn_bytes: int
    torn_sha256: str
    quarantine: str


class KeyRotate(TypedDict):
    new_vkey: str
    old_sig: str
    new_sig: str


class DomainOf(TypedDict):
    j: float | None
    bounds_j: list[float] | None
    reason: str | None


class HostEnergy(TypedDict):
    attribution_mode: Literal["governor", "monitor_only"]
    reason: str | None
    source: str
    energy_j: float | None
    power_w: float | None
    model_cv: float | None
    cpu: DomainOf
    dram: DomainOf
    flags: list[str]


class HostSample(TypedDict):
    schema: str
    timestamp_start: str
    timestamp_end: str
    duration_s: float
    energy: HostEnergy
    zones: list[dict[str, Any]]
    cpu: dict[str, float | None]
    memory: dict[str, float | None]
    gpu: list[dict[str, Any]]


class InputOf(TypedDict):
    name: str
    distribution: str
    parameters: dict[str, float | None]  # null: unbounded
    source: str
    default: bool


class IntensityInterval(TypedDict):
    start: str
    end: str
    energy_wh: float
    g_per_kwh: float
    flag: str | None


class LeftOut(TypedDict):
    count: int
    sha256: str


class _Intensity(TypedDict):
    g_per_kwh: float
    u: float
    signal: str
    factor_basis: str
    accounting: str
    gas: str
    zone: str
    provider: str
    version: str
    licence: str
    data_time: str
    is_forecast: bool
    is_estimated: bool
    default: bool
    intervals: list[IntensityInterval]


class IntensityOf(_Intensity, total=False):
    intervals_left_out: LeftOut  # where they did not fit into the record


class FigureOf(TypedDict):
    g: float | None
    sd: float | None
    ci_low: float | None
    ci_high: float | None
    label: str
    method: str | None
    intensity: IntensityOf | None
    reason: str | None


class CarbonEstimate(TypedDict):
    schema: str
    span_id: str
    start: str
    end: str
    region: str | None
    signal: Literal["marginal", "average"]
    energy_wh: float | None
    energy_u_wh: float | None
    energy_basis: Literal["attributed", "dynamic", "given"]
    carbon_gco2e: float | None
    median_gco2e: float | None
    sd_gco2e: float | None
    ci_low_gco2e: float | None
    ci_high_gco2e: float | None
    coverage: float
    reason: str | None
    method: str | None
    method_detail: str | None
    seed: int | None
    trials: int | None
    converged: bool | None
    marginal: FigureOf
    average: FigureOf
    inputs: list[InputOf]
    variance_share: dict[str, float]
    truncated_mass: dict[str, float]
    pue: dict[str, Any]
    embodied: dict[str, Any] | None
    sci: dict[str, Any] | None


KINDS: dict[str, tuple[type, int]] = {  # record type: what it holds, number
    "genesis": (Genesis, 1),
    "energy_metric": (Metric, 1),
    "carbon_estimate": (CarbonEstimate, 1),
    "host_sample": (HostSample, 1),
    "heartbeat": (Heartbeat, 1),
    "recovery": (Recovery, 1),
    "key_rotate": (KeyRotate, 1),
}


def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a record type; ``KeyError`` if unknown."""
    import msgspec

    held, number = KINDS[kind]
    made = msgspec.json.schema(held)
    parts: dict[str, Any] = made["$defs"]
    top = parts.pop(held.__name__)
    chain = {
        "seq": {"type": "integer", "minimum": 0, "maximum": 2**53 - 1},
        "prev_hash": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "type": {"const": kind},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:carbon-ops:record:{kind}:{number}",
        "title": kind,
        "type": "object",
        "properties": top["properties"] | chain,
        "required": sorted([*top["required"], *chain]),
        **({"$defs": parts} if parts else {}),
    }
