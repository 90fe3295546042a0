"""The layout as bytes, for the head of the ring. Pure, and without JSON: a measured
program that only reads the ring never loads a parser.
"""

from __future__ import annotations

import struct
from struct import Struct
from typing import cast

from carbon_ops.model import Layout, Zone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carbon_ops.model import SourceName, ZoneKind

_RUN = Struct("<QqbI")
_RUN_ZONE = Struct("<iBQQQd")


class RingError(Exception):
    """The memory is not a ring of this format, is not sealed, or cannot be read."""


# A governor samples every 20 ms to 10 s (see ``options.py``); a client waits that long
# for one, and divides by it.
MAX_INTERVAL_NS = 10_000_000_000
# No host draws a gigawatt; a bound near a float's end makes infinities of energies.
MAX_BOUND_W = 1e9


def flaw(layout: Layout) -> str:
    """Return what no honest governor would say in ``layout``, "" if there is nothing.

    A client computes with these numbers in the process that it measures.
    """
    if not 0 < layout.interval_ns <= MAX_INTERVAL_NS:
        return f"an interval of {layout.interval_ns} ns"
    for zone in layout.zones:
        if (
            min(*zone.unit, zone.wrap_ticks) <= 0
            or not 0 <= zone.bound_w <= MAX_BOUND_W
        ):
            return f"zone {zone.key[:40]!r} has impossible numbers"
    return ""


def pack_layout(layout: Layout) -> bytes:
    """Return ``layout`` as bytes; text is UTF-8 behind its length."""
    filtered = -1 if layout.filtered is None else int(layout.filtered)
    parts = [
        _RUN.pack(
            layout.interval_ns, layout.started_wall_ns, filtered, len(layout.zones)
        ),
        *map(_text_out, (layout.instance_id, layout.boot_id, layout.source)),
    ]
    for zone in layout.zones:
        package = -1 if zone.package is None else zone.package
        parts += map(_text_out, (zone.key, zone.name, zone.kind, zone.why))
        parts.append(
            _RUN_ZONE.pack(
                package, zone.counted, *zone.unit, zone.wrap_ticks, zone.bound_w
            )
        )
    return b"".join(parts)


def unpack_layout(data: bytes) -> Layout:
    """Return the layout that :func:`pack_layout` made ``data`` from.

    Raises:
        RingError: ``data`` is something else.
    """
    try:
        interval, started, filtered, count = _RUN.unpack_from(data)
        at = _RUN.size
        texts: list[str] = []

        def texts_in(number: int) -> None:
            nonlocal at
            texts.clear()
            for _ in range(number):
                end = at + 4 + int.from_bytes(data[at : at + 4], "little")
                if end > len(data):
                    raise RingError("the layout is cut short")
                texts.append(data[at + 4 : end].decode())
                at = end

        texts_in(3)
        instance_id, boot_id, source = texts
        zones = []
        for _ in range(count):
            texts_in(4)
            package, counted, over, under, wrap, bound = _RUN_ZONE.unpack_from(data, at)
            at += _RUN_ZONE.size
            key, name, kind, why = texts
            zones.append(
                Zone(
                    key,
                    name,
                    cast("ZoneKind", kind),
                    None if package < 0 else package,
                    bool(counted),
                    why,
                    (over, under),
                    wrap,
                    bound,
                )
            )
    except (struct.error, UnicodeDecodeError) as error:
        raise RingError(f"not a layout: {error}") from None
    layout = Layout(
        instance_id,
        boot_id,
        cast("SourceName", source),
        interval,
        tuple(zones),
        None if filtered < 0 else bool(filtered),
        started,
    )
    wrong = flaw(layout)
    if wrong:
        raise RingError(wrong)
    return layout


def _text_out(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "little") + data
