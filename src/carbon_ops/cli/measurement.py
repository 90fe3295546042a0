"""One measured command as text for people and as one JSON object. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from carbon_ops.cli.output import visible
from carbon_ops.model import Metric

# The reasons of attribution_mode=monitor_only and of unknown energy, in words.
REASONS = {
    "no_socket": "no governor is running here",
    "permission_denied": "the governor's socket may not be used by this user",
    "refused": "the governor refused the connection",
    "stale": "the governor does not answer in time",
    "restarted": "the governor was restarted meanwhile",
    "no_zones": "the governor has no package counter",
    "gap": "the counters have a gap in this time",
    "protocol": "the governor speaks another protocol",
    "no_idle_baseline": "the policy excluded needs the idle power; `carbon-ops calibrate`"
    " measures it",
    "model_off": "no counter was read, and the setting model is off",
}
SOURCES = {
    "rapl_sysfs": "RAPL counters (sysfs)",
    "rapl_msr": "RAPL counters (MSR)",
    "simulated": "SIMULATED counters: no hardware was measured",
    "model_cpu_load": "a model of CPU load: no counter was read",
    "none": "none",
}


def as_text(
    metric: Metric,
    estimate: Mapping[str, Any] | None,
    status: int,
    ledger: str,
    notes: Sequence[str] = (),
) -> str:
    """Return the summary of one measured command, several lines of text."""
    energy = metric["energy"]
    busy = energy["allocation_ratio"]
    flags = energy["quality"]["flags"]
    whole = "its cgroup's" if "cpu_limited" in flags else "the host's busy"
    share = "" if busy is None else f", {100 * busy:.1f} % of {whole} CPU time"
    if "ratio_clamped" in flags:  # such as 1 ms of a time that moves in steps of 10
        share = f", taken for all of {whole} CPU time, whose clock shows less"
    lines = [
        f"carbon-ops: {visible(metric['operation'])} (exit status {status})",
        f"  time      {metric['duration_s']:.3f} s, "
        f"CPU {metric['cpu']['process_s']:.3f} s{share}",
        f"  energy    {_energy(metric)}",
        f"  source    {source(metric)}",
        f"  carbon    {_carbon(estimate, 'marginal')}",
        f"  beside    {_carbon(estimate, 'average')}",
        f"  ledger    {ledger}",
    ]
    return "\n".join([*lines, *(f"  note      {note}" for note in notes)])


def as_json(
    metric: Metric,
    estimate: Mapping[str, Any] | None,
    status: int,
    ledger: Mapping[str, Any] | None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the same as one plain object; units are in the keys."""
    return {
        "schema": "carbon-ops/run/1",
        "operation": metric["operation"],
        "exit_status": status,
        "metric": metric,
        "estimate": estimate,
        "ledger": ledger,
        "notes": list(notes),
    }


def number(value: float) -> str:
    """Return ``value`` with three significant digits, never as 0 when it is not.

    >>> number(1234.5), number(0.00012345), number(0.0)
    ('1,234', '0.000123', '0')
    """
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    text = f"{value:.3g}"
    if "e-" in text:
        return f"{value:.2e}"
    return text


def _energy(metric: Metric) -> str:
    energy = metric["energy"]
    joules, u = energy["energy_j_total"], energy["uncertainty_j"]
    watt_hours = energy["energy_wh_total"]
    if joules is None or watt_hours is None:
        reason = energy["components"]["cpu"]["reason"] or "unknown"
        return f"unknown: {REASONS.get(reason, reason)} [{reason}]"
    spread = " with unknown uncertainty" if u is None else f" ± {number(u)} J (k=1)"
    text = f"{number(joules)} J{spread}, {number(watt_hours)} Wh"
    bounds = energy["bounds_j"]
    if bounds is not None:
        text += f"; counter bounds {number(bounds[0])} to {number(bounds[1])} J"
    missing = energy["components_missing"]
    return f"{text}; without {', '.join(missing)}" if missing else text


def source(metric: Metric) -> str:
    """Return how the energy was found, in two lines or, of a model, three."""
    energy = metric["energy"]
    text = f"attribution_mode={energy['attribution_mode']}"
    reason = energy["reason"]
    if reason is not None:
        text += f" reason={reason} ({REASONS.get(reason, reason)})"
    counter = energy["components"]["cpu"]["source"]
    said = SOURCES.get(counter, counter)
    text += f"\n            energy from {said} [{counter}]"
    model = energy["model"]
    if model is not None:
        limit = model["cpu_limit"]
        part = "" if limit is None else f", {limit:g} of {model['cpus']} CPUs allowed"
        text += (
            f"\n            {number(model['idle_w'])} W idle to {number(model['load_w'])} "
            f"W at full load{part}: {model['source']}"
        )
    return text


def _carbon(estimate: Mapping[str, Any] | None, signal: str) -> str:
    if estimate is None:
        return f"{signal}: no estimate"
    part = estimate[signal]
    if part["g"] is None:
        return f"{signal}: unknown ({part['reason']})"
    intensity = part["intensity"] or {}
    text = f"{signal} {number(part['g'])} g{intensity.get('gas', 'CO2e')}"
    if part["ci_low"] is not None and part["ci_high"] is not None:
        percent = 100 * estimate["coverage"]
        text += (
            f", {percent:.0f} % interval {number(part['ci_low'])} "
            f"to {number(part['ci_high'])} g"
        )
    if signal == "marginal":
        text += f" ({estimate['method']})"
    zone = intensity.get("zone")
    if zone:
        default = ", no region given" if intensity.get("default") else ""
        text += f"; grid {zone}{default}"
    return text
