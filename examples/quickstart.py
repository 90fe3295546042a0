"""Energy and carbon of a piece of work, in ten lines. Runs anywhere, as any user.

Without a governor and without readable counters the energy is modelled from CPU load; the
last lines say so, and how sure the figures are.
"""

from __future__ import annotations

from carbon_ops import CarbonEstimator, EnergyLogger

with EnergyLogger() as logger:
    sum(i * i for i in range(3_000_000))
    metric = logger.log_metrics("sum_of_squares")

energy = metric["energy"]
record = CarbonEstimator(region="DE").estimate_metric(metric)

print(f"{metric['duration_s']:.2f} s, {energy['energy_j_total']:.2f} J", end="")
print(f" ± {energy['uncertainty_j']:.2f} J (k=1)")
for signal, figure in (("marginal", record.marginal), ("average", record.average)):
    low, high = figure.to_dict()["ci_low"], figure.to_dict()["ci_high"]
    print(f"{signal}: {low * 1e3:.3f} to {high * 1e3:.3f} mg (95 %), grid of Germany")
print(f"source: {energy['components']['cpu']['source']}, reason: {energy['reason']}")
