"""One kilowatt-hour in several places: what it caused, and its share of what was emitted.

The marginal figure answers "what changes if I use one kilowatt-hour more or less", the
average one "what is my share of everything". They differ in kind, gas and boundary, are
shown side by side and never added. Shipped yearly factors; no network is used.
"""

from __future__ import annotations

from carbon_ops import CarbonEstimator

REGIONS = ("FR", "SE", "DE", "GB", "PL", "US", "IN", "IS")


def text(figure: dict[str, object]) -> str:
    if figure["reason"] is not None:
        return f"unknown: {figure['reason']}"
    return f"{figure['g']:5.0f} g ({figure['ci_low']:.0f} to {figure['ci_high']:.0f})"


if __name__ == "__main__":
    print("1 kWh, in a year's mean; 95 % intervals")
    print("region  marginal, CO2 at the plant   average, CO2e over the life cycle")
    for region in REGIONS:
        record = CarbonEstimator(region=region).estimate_over_span(
            "2026-01-05T08:00:00Z",
            "2026-01-06T08:00:00Z",
            energy_wh=1_000.0,
            energy_u_wh=0.0,
        )
        marginal, average = record.marginal.to_dict(), record.average.to_dict()
        print(f"{region:7} {text(marginal):28} {text(average)}")
    print(
        "Where the average is low and the marginal is not, moving work there makes its\n"
        "share look small, while these factors take the next kilowatt-hour to be fossil.\n"
        "They are national yearly fossil margins: they say nothing about better hours."
    )
