"""Scrape the exporter as Prometheus does, across a wrap, and compare with the governor.

The exporter's counters never wrap: wraps were counted out at 10 Hz before anybody
scraped. Here the governor runs on SIMULATED counters that wrap soon after their start,
and this program takes the part of Prometheus. Needs the extra `prometheus`.
"""

from __future__ import annotations

import sys
import threading
import time
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from carbon_ops.export.host import HostView
from carbon_ops.export.prometheus import Server, registry
from carbon_ops.governor.client import GovernorClient
from carbon_ops.model import Sample
from carbon_ops.testing.governor import GovernorProcess

NAME = "hw_energy_joules_total"


def scrape(url: str) -> float:
    """Return the sum of all energy counters [J]."""
    with urlopen(url, timeout=5) as answer:  # on this machine only
        text = answer.read().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == NAME
    )


def counted(client: GovernorClient) -> tuple[Sample, float, int]:
    """Return the newest sample, and its counted energy [J] and wraps."""
    sample = client.latest()
    totals = [
        total
        for zone, total in zip(client.layout.zones, sample.totals, strict=True)
        if zone.counted
    ]
    joules = sum(total.total_uj for total in totals) / 1e6
    return sample, joules, sum(total.wraps for total in totals)


def main() -> int:
    with GovernorProcess("--rapl-mode=simulated") as governor:
        client = governor.wait_ready()
        view = HostView(governor.path, top=5)
        server = Server(("127.0.0.1", 0), registry(view))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/metrics"
        print(f"{url}: two scrapes, some seconds apart")
        _, _, wraps = counted(client)
        low = counted(client)[1]
        first = scrape(url)
        high = counted(client)[1]
        bounds = [low, high]
        until = time.monotonic() + 20.0
        while counted(client)[2] == wraps and time.monotonic() < until:
            sum(i * i for i in range(100_000))
        low = counted(client)[1]
        second = scrape(url)
        high = counted(client)[1]
        met = counted(client)[2] - wraps
        server.shutdown()
        server.server_close()
        view.close()
        client.close()
    rise, least, most = second - first, low - bounds[1], high - bounds[0]
    fits = least - 1e-3 <= rise <= most + 1e-3
    print(f"wraps in between: {met}")
    print(f"increase of {NAME}: {rise:.3f} J")
    print(f"the governor's totals rose by {least:.3f} to {most:.3f} J: agrees: {fits}")
    print("SIMULATED counters.")
    return 0 if fits and met else 1


if __name__ == "__main__":
    sys.exit(main())
