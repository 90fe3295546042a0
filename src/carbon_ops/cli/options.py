"""Options that several commands share, so that they mean the same in each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Any], Any]

socket = click.option("--socket", metavar="PATH", help="The governor's socket.")
energy_u_wh = click.option(
    "--energy-u-wh", type=float, help="Its standard uncertainty (k=1) in Wh."
)


def as_json(text: str = "Print one JSON object instead.") -> Decorator:
    return click.option("--json", "as_json", is_flag=True, help=text)


def energy_wh(*, required: bool) -> Decorator:
    text = "Energy of the span, in watt-hours."
    return click.option("--energy-wh", type=float, required=required, help=text)


def span(start: str = "", end: str = "") -> Decorator:
    """``--start`` and ``--end``; the texts say what they are when left out."""
    first = click.option(
        "--start", help="RFC 3339 time with its offset, or epoch seconds." + start
    )
    last = click.option("--end", help="The same, not before --start." + end)
    return lambda command: first(last(command))


def intervals(least_s: float, most_s: float, default_s: float, ends: str) -> Decorator:
    """``--interval`` and ``--count`` of a command that goes on."""
    length = click.option(
        "-i",
        "--interval",
        type=click.FloatRange(least_s, most_s),
        default=default_s,
        show_default=True,
        metavar="SECONDS",
        help="Length of one interval.",
    )
    count = click.option(
        "-n",
        "--count",
        type=click.IntRange(1),
        metavar="N",
        help=f"End after N intervals. Default: {ends}.",
    )
    return lambda command: length(count(command))
