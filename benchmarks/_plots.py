"""Lines over a logarithmic axis as SVG by hand: readable on a light and a dark page, without a library or a script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#2f7de1", "#e0662f", "#2f9e5b", "#9b59d0")
WIDTH, HEIGHT = 760, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 250, 40, 44
GREY = "#808890"
"""Dark enough on white, light enough on black."""

Points = Sequence[tuple[float, float]]


def lines(title: str, across: str, up: str, series: Mapping[str, Points]) -> str:
    """One line a name. The horizontal axis is logarithmic and has the points' own ticks; the vertical starts at 0."""
    xs = sorted({x for points in series.values() for x, _ in points})
    most = max(y for points in series.values() for _, y in points) or 1.0
    step = _step(most)
    top = math.ceil(most / step) * step
    span = math.log(xs[-1] / xs[0]) or 1.0

    def px(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(x / xs[0]) / span

    def py(y: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / top

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{GREY}"><title>{escape(title)}</title>',
        f'<text x="{LEFT}" y="20" font-size="14" font-weight="600">{escape(title)}</text>',
    ]
    for index in range(round(top / step) + 1):
        y = py(index * step)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{GREY}" stroke-opacity=".3"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{index * step:g}</text>')
    for x in xs:
        parts.append(f'<text x="{px(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:g}</text>')
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>'
    )
    parts.append(f'<text x="14" y="{TOP - 6}">{escape(up)}</text>')
    for index, (name, points) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
        y = TOP + 16 * index + 8
        parts.append(f'<text x="{WIDTH - RIGHT + 14}" y="{y}" fill="{colour}">● {escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _step(most: float) -> float:
    """1, 2 or 5 times a power of ten, for about five lines."""
    power = 10 ** math.floor(math.log10(most / 5))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= most / 5 * 0.999))
