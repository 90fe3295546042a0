"""A counter, the looks at it, and what each reader has counted, drawn as SVG or PNG."""

from __future__ import annotations

import math
import shutil
import subprocess
from itertools import pairwise

from aliasing.readers import STEPS, Picture, believed

LEFT, WIDE, HIGH = 70, 540, 220  # of a panel
GREY, RED = "#777777", "#d55e00"
# Told apart also by those who do not tell red from green (Okabe and Ito).
COLOURS = dict(zip(STEPS, ("#009e73", RED, "#0072b2", "#cc79a7"), strict=True))
Line = tuple[str, str, list[tuple[float, float]]]  # name, colour, seconds and kJ


def panel(
    top: int, title: str, lines: list[Line], dots: list[tuple[float, float]]
) -> str:
    """Return one chart with its axes and its legend, as SVG."""
    span = lines[0][2][-1][0]
    most = max((y for _, _, line in lines for _, y in line), default=0.0) or 1.0

    def place(t: float, y: float) -> tuple[float, float]:
        return round(LEFT + WIDE * t / span, 1), round(top + HIGH * (1 - y / most), 1)

    def marks(end: float) -> list[float]:
        power = 10.0 ** math.floor(math.log10(end / 4))
        step = next(k * power for k in (1, 2, 5, 10) if k * power * 6 >= end)
        return [i * step for i in range(math.floor(end / step) + 1)]

    out = [f'<text x="{LEFT}" y="{top - 12}" font-weight="bold">{title}</text>']
    for value in marks(most):
        x, y = place(0, value)
        out.append(
            f'<path d="M{x} {y}h{WIDE}" stroke="#e5e5e5"/>'
            f'<text x="{x - 8}" y="{y + 4}" text-anchor="end">{value:g}</text>'
        )
    for value in marks(span):
        x, y = place(value, 0)
        out.append(
            f'<path d="M{x} {y}v5" stroke="#777"/>'
            f'<text x="{x}" y="{y + 20}" text-anchor="middle">{value:g} s</text>'
        )
    for i, (name, colour, line) in enumerate(lines):
        points = " ".join(f"{x},{y}" for x, y in (place(*point) for point in line))
        x, y = LEFT + WIDE + 20, top + 12 + 24 * i
        out.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<path d="M{x} {y - 4}h22" stroke="{colour}" stroke-width="3"/>'
            f'<text x="{x + 30}" y="{y}">{name}</text>'
        )
    out += [
        f'<circle cx="{x}" cy="{y}" r="4" fill="{RED}"/>'
        for x, y in (place(*dot) for dot in dots)
    ]
    if dots:
        x, y = LEFT + WIDE + 31, top + 12 + 24 * len(lines)
        out.append(f'<circle cx="{x}" cy="{y - 4}" r="4" fill="{RED}"/>')
        out.append(f'<text x="{x + 19}" y="{y}">look of a 15 s scraper</text>')
    return "\n".join(out)


def draw(picture: Picture) -> str:
    """Return the counter with its looks, and below what each reader believes, as SVG."""
    curve, turn, looks = picture.curve, picture.turn, picture.looks()
    raws, total, believes = [raw for _, raw in looks], 0, [(curve[0][0], 0.0)]
    for (_, a), (at, b) in pairwise(curve):
        total += (b - a) % turn
        believes.append((at, total / 1e9))
    lines: list[Line] = [(f"10 Hz: {total / 1e9:.2f} kJ", GREY, believes)]
    for reader, colour in COLOURS.items():
        sums = [believed(reader, raws[: i + 1], turn) / 1e3 for i in range(len(raws))]
        name = f"15 s {reader}: {sums[-1] if sums else 0:.2f} kJ"
        lines.append(
            (name, colour, [(at, y) for (at, _), y in zip(looks, sums, strict=True)])
        )
    counter: list[Line] = [("at 10 Hz", GREY, [(t, raw / 1e9) for t, raw in curve])]
    dots = [(at, raw / 1e9) for at, raw in looks]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 870 640" width="870" '
        'height="640" font-family="sans-serif" font-size="13"><rect width="870" '
        f'height="640" fill="#fff"/><text x="{LEFT}" y="30" font-size="17">{picture.title}'
        f"</text>\n{panel(80, 'What the counter shows [kJ]', counter, dots)}\n"
        f"{panel(380, 'What each reader has counted [kJ]', lines, [])}\n</svg>\n"
    )


def write(svg: str, path: str) -> None:
    """Write the picture; as PNG with whichever converter is installed."""
    if path.endswith(".svg"):
        with open(path, "w", encoding="utf-8") as file:
            file.write(svg)
    else:
        subprocess.run([*CONVERTER, path], input=svg, text=True, check=True)
    print(f"\npicture: {path}")


CONVERTER = (
    ("rsvg-convert", "--zoom=2", "--output")
    if shutil.which("rsvg-convert")
    else ("magick", "-density", "192", "svg:-")
)
