"""A metric as the few flat numbers that trackers, logs and reports of frameworks take.

What is not known is left out, never written as 0: a missing key is the only form of
"unknown" that every tracker understands.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.estimate.record import CarbonRecord
    from carbon_ops.model import Metric

SHORT_S = (
    0.3  # three samples of a 10 Hz counter; a shorter stretch says little by itself
)


def figures(
    metric: Metric,
    estimate: CarbonRecord | None = None,
    *,
    samples: int = 0,
    prefix: str = "energy_",
) -> dict[str, float]:
    """Return the known numbers of ``metric``, units at the end of the names.

    Args:
        metric: What was measured.
        estimate: Its carbon, if there is one.
        samples: How many pieces of work it did, for the joules of each; 0: not counted.
        prefix: What all names begin with.
    """
    energy = metric["energy"]
    joules = energy["energy_j_total"]
    found = {
        "j": joules,
        "uncertainty_j": energy["uncertainty_j"],
        "wh": energy["energy_wh_total"],
        "seconds": metric["duration_s"],
        "cpu_s": metric["cpu"]["process_s"],
    }
    if joules is not None and metric["duration_s"] > 0:
        found["power_w"] = joules / metric["duration_s"]
    if joules is not None and samples > 0:
        found["j_per_sample"] = joules / samples
    if estimate is not None:
        found["gco2e"] = estimate.carbon_gco2e
        found["gco2e_low"] = estimate.ci_low_gco2e
        found["gco2e_high"] = estimate.ci_high_gco2e
    return {prefix + name: value for name, value in found.items() if value is not None}


def origin(metric: Metric) -> str:
    """Return in a few words where the joules come from, or why there are none."""
    energy = metric["energy"]
    cpu = energy["components"]["cpu"]
    if cpu["j"] is None:
        return f"no energy ({cpu['reason']})"
    if cpu["source"] == "model_cpu_load":
        return f"modelled from CPU load ({energy['reason']})"
    return f"counter {cpu['source']}"


def spoken(joules: float | None, uncertainty: float | None) -> str:
    """Return joules for people.

    >>> spoken(12.345, 4.1), spoken(None, None)
    ('12.3 ± 4.1 J', 'unknown')
    """
    if joules is None:
        return "unknown"
    known = (joules,) if uncertainty is None else (joules, uncertainty)
    return " ± ".join(f"{j:.3g}" if j < 1000 else f"{j:.0f}" for j in known) + " J"
