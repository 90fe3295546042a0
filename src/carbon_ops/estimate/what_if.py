"""The same span of energy use in other places, both figures side by side.

What it answers: what would this work have caused there, with the same energy? It says
nothing about moving a load that is already running, nor about hours: the shipped factors
are yearly.
"""

from __future__ import annotations

from collections.abc import Sequence

from carbon_ops.errors import InvalidInputError
from carbon_ops.estimate.estimator import CarbonEstimator
from carbon_ops.estimate.inputs import Distribution
from carbon_ops.estimate.instant import Instant
from carbon_ops.estimate.record import CarbonRecord

MOST_REGIONS = 1_000


def what_if(
    estimator: CarbonEstimator,
    regions: Sequence[str],
    start_ts: Instant,
    end_ts: Instant,
    energy_wh: float | Distribution | None,
    *,
    energy_u_wh: float | None = None,
) -> dict[str, CarbonRecord]:
    """Return one record per region, in the order given.

    Raises:
        InvalidInputError: no region, or more than 1,000; and what the estimator raises.
    """
    if not 0 < len(regions) <= MOST_REGIONS:
        raise InvalidInputError(f"{len(regions)} regions cannot be compared")
    return {
        region: estimator.estimate_over_span(
            start_ts, end_ts, energy_wh, energy_u_wh=energy_u_wh, region=region
        )
        for region in regions
    }
