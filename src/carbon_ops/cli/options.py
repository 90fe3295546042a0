"""Options that several commands share, so that they mean the same in each."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from carbon_ops.meter.counter import HostCounter

Decorator = Callable[[Any], Any]


class Seconds(click.FloatRange):
    """A length of time [s] within limits; "nan", which is outside none, is refused."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        found = super().convert(value, param, ctx)
        if isnan(found):
            self.fail(f"{value!r} is no number of seconds.", param, ctx)
        return found


socket = click.option("--socket", metavar="PATH", help="The governor's socket.")
region = click.option(
    "--region",
    metavar="CODE",
    help="Electricity grid: a country, state or cloud region, such as DE, US-CA, aws:...  "
    "[default: the settings', else the world, whose interval is wide]",
)
energy_u_wh = click.option(
    "--energy-u-wh", type=float, help="Its standard uncertainty (k=1) in Wh."
)


def _facility(_ctx: object, _option: object, text: str | None) -> Any:
    """Return a number, a pair of them, or the name of a cloud or operator."""
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        return text
    return numbers if len(numbers) > 1 else numbers[0]


pue = click.option(
    "--pue",
    callback=_facility,
    help="Facility overhead: a number, VALUE,U, a cloud (gcp, aws:eu-central-1) or "
    "'unknown'.  [default: none]",
)


def host_counter(path: str | None) -> HostCounter:
    """Return the host's counters as the settings have them; ``path`` is ``--socket``.

    Raises:
        CarbonOpsError: a setting that cannot be used.
    """
    from carbon_ops import config
    from carbon_ops.meter.counter import HostCounter
    from carbon_ops.meter.readings import model_of

    found = config.load()
    model, idle_w, load_w, root = (
        cast("Any", found[name].value)
        for name in ("model", "cpu_idle_w", "cpu_load_w", "powercap_root")
    )
    return HostCounter(
        None,
        str(config.chosen("socket", path)),
        model=model_of(model, idle_w, load_w),
        powercap_root=root,
    )


def as_json(text: str = "Print one JSON object instead.") -> Decorator:
    return click.option("--json", "as_json", is_flag=True, help=text)


def ledger(text: str) -> Decorator:
    text = f"Append {text} to this ledger; made if missing."
    return click.option("--ledger", metavar="DIR", help=text)


def energy_wh(*, required: bool) -> Decorator:
    text = "Energy of the span, in watt-hours."
    return click.option("--energy-wh", type=float, required=required, help=text)


def _time(_ctx: object, _option: object, text: str | None) -> str | float | None:
    try:
        return text and float(text)
    except ValueError:
        return text


def span(start: str = "", end: str = "") -> Decorator:
    """``--start`` and ``--end``; the texts say what they are when left out."""
    text = "RFC 3339 time with its offset, or epoch seconds." + start
    first = click.option("--start", callback=_time, help=text)
    text = "The same, not before --start." + end
    last = click.option("--end", callback=_time, help=text)
    return lambda command: first(last(command))


def limits(
    start: str | float | None, end: str | float | None, length_s: float
) -> tuple[float, float]:
    """Return both ends [s since the epoch]: now, and ``length_s`` before, by default."""
    from carbon_ops import clock
    from carbon_ops.estimate.inputs import number
    from carbon_ops.estimate.instant import instant

    length_ns = round(number(length_s, "length of the span in seconds") * 1e9)
    last = clock.wall_ns() if end is None else instant(end, "--end")
    first = last - length_ns if start is None else instant(start, "--start")
    return first / 1e9, last / 1e9


def intervals(least_s: float, most_s: float, default_s: float, ends: str) -> Decorator:
    """``--interval`` and ``--count`` of a command that goes on."""
    length = click.option(
        "-i",
        "--interval",
        type=Seconds(least_s, most_s),
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
