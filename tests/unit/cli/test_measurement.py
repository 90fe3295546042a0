"""Numbers in the summary are readable and never a false zero."""

from __future__ import annotations

import pytest

from carbon_ops.cli.measurement import as_text, number
from carbon_ops.meter.metric import Domain, Host, Task, build


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1e-9, "1.00e-09"),
        (0.000123, "0.000123"),
        (0.5, "0.5"),
        (12.345, "12.3"),
        (99.96, "100"),
        (123.4, "123"),
        (1_234_567.0, "1,234,567"),
    ],
)
def test_three_digits_at_any_size(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("busy_ms", "said"),
    [
        (4, "CPU 0.001 s, 25.0 % of the host's busy CPU time"),
        (0, "CPU 0.001 s, taken for all of the host's busy CPU time, whose clock"),
    ],
)
def test_a_share_that_the_hosts_clock_is_too_coarse_for_is_no_percentage(
    busy_ms: int, said: str
) -> None:
    second = 1_000_000_000
    joule = Domain(1_000_000, 1_000_000, 1_000_000)
    host = Host(
        "monitor_only",
        "no_socket",
        "rapl_sysfs",
        joule,
        None,
        busy_ms * 1_000_000,
        second,
    )
    task = Task(
        *("x", "ok", "a" * 16, None, "b" * 32, 0, second, 1_000_000, 2),
        {"rss_bytes": None, "peak_rss_bytes": None, "host_percent": None},
        None,
        {},
    )
    assert said in as_text(build(task, host).metric, None, 0, "none")
