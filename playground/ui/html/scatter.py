"""Quality against speed or memory as inline SVG: marks, error bars, limits, the Pareto front, labels apart.

Drawn twice, for a wide and for a narrow screen (styles/page.css shows one), because scaled text would be too small on a
phone. Colours are the theme's. Every mark has a number, which the table beside it has too, and can be reached by
keyboard. The module knows points in figures' units; it does not know models, files or gradio.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from playground.messages import msg
from playground.results.figures import Figure
from playground.ui.html.charts import tick_step
from playground.ui.html.format import esc

CHAR = 6.1
"""Width of an average character of a label, in pixels at 11 px; rather too wide than too narrow."""
LINE = 13.0
SMALLEST, LARGEST = 6.0, 19.0
"""Radii of marks, in pixels."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Point:
    """One model in the picture.

    Attributes:
        number: As in the table.
        state: Of its verdict; gives the mark its look.
        size: What the area of the mark stands for; None: all marks are alike.
        told: Everything about it in words, for those who don't see the mark.
    """

    number: int
    name: str
    x: Figure
    y: float
    state: str = "eligible"
    size: float | None = None
    first: bool = False
    told: str = ""


@dataclass(frozen=True)
class Axis:
    """How an axis is called and written.

    Attributes:
        better: ``right`` or ``left`` for the axis below.
        limit: A limit that was stated, drawn as a line.
    """

    title: str
    words: Callable[[float], str]
    better: str = "right"
    limit: float | None = None


@dataclass(frozen=True)
class Frame:
    """The plot's place in the drawing and the values at its edges."""

    width: float
    height: float
    x_from: float
    x_to: float
    y_from: float
    y_to: float
    left: float = 50
    right: float = 14
    top: float = 14
    bottom: float = 42

    def x(self, value: float) -> float:
        share = (value - self.x_from) / (self.x_to - self.x_from)
        return self.left + share * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        share = (value - self.y_from) / (self.y_to - self.y_from)
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)


@dataclass(frozen=True)
class Label:
    """A text's place, and the point it belongs to."""

    text: str
    box: Box
    anchor: tuple[float, float]
    radius: float
    near: bool = field(default=True)


def scatter(points: Sequence[Point], below: Axis, left: Axis, caption: str, staircase: bool = True) -> str:
    """The picture in both widths.

    Args:
        caption: What it shows, for the figure's caption and for readers of the page aloud.
        staircase: Join the points of the front: right only where the two axes alone make the front.
    """
    if not points:
        return ""
    drawn = "".join(_svg(points, below, left, kind, caption, staircase=staircase) for kind in ("wide", "narrow"))
    below_it = _names(points) + _legend(points)
    return f'<figure class="chart scatter"><figcaption>{esc(caption)}</figcaption>{drawn}{below_it}</figure>'


def _svg(points: Sequence[Point], below: Axis, left: Axis, kind: str, caption: str, *, staircase: bool) -> str:
    wide = kind == "wide"
    frame = fit(points, below, *((760.0, 420.0) if wide else (340.0, 360.0)))
    largest = max((point.size or 0.0 for point in points), default=0.0)
    scale = 1.0 if wide else 0.75
    radii = [radius(point.size, largest) * scale for point in points]
    labels = place(points, radii, frame, names=wide)
    steps = _staircase(points, frame, below.better) if staircase else ""
    marks = "".join(_mark(point, r, frame) for point, r in sorted(zip(points, radii, strict=True), key=lambda p: -p[1]))
    return (
        f'<svg class="{kind}" viewBox="0 0 {frame.width:g} {frame.height:g}" role="group" aria-label="{esc(caption)}">'
        f"{_grid(frame, below, left, wide=wide)}{steps}{marks}{''.join(map(_label, labels))}</svg>"
    )


def fit(points: Sequence[Point], below: Axis, width: float, height: float) -> Frame:
    """Edges that hold every point with its error bar. The axis below starts at 0, the one on the left need not."""
    most = max([*(point.x.high for point in points), *(point.x.median for point in points), below.limit or 0.0])
    low, high = min(point.y for point in points), max(point.y for point in points)
    pad = (high - low) * 0.15 or abs(high) * 0.1 or 1.0
    return Frame(width, height, 0.0, (most or 1.0) * 1.08, low - pad, high + pad)


def radius(size: float | None, largest: float) -> float:
    """So that areas are as the sizes are, but for the smallest, which must still be seen."""
    if size is None or largest <= 0:
        return 8.0
    return max(SMALLEST, LARGEST * math.sqrt(max(0.0, size) / largest))


def place(points: Sequence[Point], radii: Sequence[float], frame: Frame, *, names: bool) -> list[Label]:
    """A place for each label where it covers no mark, no other label and stays inside; a little way off if need be."""
    centres = [(frame.x(point.x.median), frame.y(point.y)) for point in points]
    taken = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(centres, radii, strict=True)]
    taken += [(frame.x(p.x.low), y - 4, frame.x(p.x.high), y + 4) for p, (_, y) in zip(points, centres, strict=True)]
    labels = []
    for point, centre, r in zip(points, centres, radii, strict=True):
        text = f"{point.number} {_short(point.name)}" if names else str(point.number)
        box, distance = _free(centre, r, len(text) * CHAR + 4, frame, taken)
        taken.append(box)
        labels.append(Label(text, box, centre, r, near=distance < 10))
    return labels


def _free(centre: tuple[float, float], r: float, width: float, frame: Frame, taken: Sequence[Box]) -> tuple[Box, float]:
    """The nearest free box for a text of this width; if there is none, the one that covers least."""
    best: tuple[float, Box, float] | None = None
    for distance in (3.0, 12.0, 22.0, 34.0, 48.0, 64.0, 84.0, 108.0, 140.0, 180.0):
        for step in range(16):
            angle = step * math.pi / 8
            box = _box(centre, r + distance, angle, width)
            if box[0] < 2 or box[1] < 2 or box[2] > frame.width - 2 or box[3] > frame.height - frame.bottom:
                continue
            covered = sum(_overlap(box, other) for other in taken)
            if covered == 0:
                return box, distance
            if best is None or covered < best[0]:
                best = covered, box, distance
    if best is None:  # no text of this width fits into the drawing
        return _box(centre, r + 3, 0.0, width), 3.0
    return best[1], best[2]


def _box(centre: tuple[float, float], away: float, angle: float, width: float) -> Box:
    """The box whose nearest edge lies ``away`` from ``centre`` in the direction ``angle``."""
    x = centre[0] + math.cos(angle) * (away + width / 2)
    y = centre[1] + math.sin(angle) * (away + LINE / 2)
    return x - width / 2, y - LINE / 2, x + width / 2, y + LINE / 2


def _overlap(one: Box, other: Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0


def _short(name: str, most: int = 30) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _grid(frame: Frame, below: Axis, left: Axis, *, wide: bool) -> str:
    """Lines, ticks, titles and stated limits; the table says all of it in words, so it is hidden from readers aloud."""
    floor, right = frame.height - frame.bottom, frame.width - frame.right
    parts = []
    for value in ticks(frame.x_from, frame.x_to, 7 if wide else 4):
        x = frame.x(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{frame.top:g}" x2="{x:.1f}" y2="{floor:g}"/>')
        parts.append(f'<text x="{x:.1f}" y="{floor + 15:g}" text-anchor="middle">{below.words(value)}</text>')
    for value in ticks(frame.y_from, frame.y_to, 5):
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{frame.left:g}" y1="{y:.1f}" x2="{right:g}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{frame.left - 6:g}" y="{y + 4:.1f}" text-anchor="end">{left.words(value)}</text>')
    titled = msg("{title} (better →)", title=below.title)
    if below.better != "right":
        titled = msg("{title} (← better)", title=below.title)
    middle = (frame.left + right) / 2
    parts.append(
        f'<text class="title" x="{middle:g}" y="{frame.height - 8:g}" text-anchor="middle">{esc(titled)}</text>'
    )
    if below.limit is not None and frame.x_from <= below.limit <= frame.x_to:
        x = frame.x(below.limit)
        parts.append(f'<line class="limit" x1="{x:.1f}" y1="{frame.top:g}" x2="{x:.1f}" y2="{floor:g}"/>')
    return f'<g aria-hidden="true">{"".join(parts)}</g>'


def ticks(start: float, end: float, most: int) -> list[float]:
    """Round values from ``start`` to ``end``, about ``most`` of them."""
    step = tick_step((end - start) * 6 / most)
    first = math.ceil(start / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(end / step + 1e-9) + 1)]


def _staircase(points: Sequence[Point], frame: Frame, better: str) -> str:
    """The edge of what the front reaches: beyond it there is no model."""
    sign = -1 if better == "right" else 1
    corners: list[Point] = []
    for point in sorted((p for p in points if p.first), key=lambda p: (sign * p.x.median, -p.y)):
        if not corners or point.y > corners[-1].y:  # within a spread, one of the front may lie behind another's median
            corners.append(point)
    if len(corners) < 2:
        return ""
    path = f"M{frame.x(corners[0].x.median):.1f},{frame.y(corners[0].y):.1f}"
    for point in corners[1:]:
        path += f"H{frame.x(point.x.median):.1f}V{frame.y(point.y):.1f}"
    return f'<path class="front" d="{path}" aria-hidden="true"/>'


def _mark(point: Point, r: float, frame: Frame) -> str:
    x, y = frame.x(point.x.median), frame.y(point.y)
    bar = ""
    if len(point.x.values) > 1:
        low, high = frame.x(point.x.low), frame.x(point.x.high)
        ends = "".join(f"M{end:.1f},{y - 4:.1f}v8" for end in (low, high))
        bar = f'<path class="spread" d="M{low:.1f},{y:.1f}H{high:.1f}{ends}"/>'
    ring = f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="{r + 3:.1f}"/>' if point.first else ""
    return (
        f'<g class="mark is-{esc(point.state)}" tabindex="0" role="img" aria-label="{esc(point.told or point.name)}">'
        f"<title>{esc(point.told or point.name)}</title>{ring}"
        f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"/>{bar}</g>'
    )


def _label(label: Label) -> str:
    left, top, right, bottom = label.box
    line = ""
    if not label.near:
        x, y = label.anchor
        nearest = min(max(x, left), right), min(max(y, top), bottom)
        length = math.dist((x, y), nearest) or 1.0
        start = x + (nearest[0] - x) * label.radius / length, y + (nearest[1] - y) * label.radius / length
        line = f'<path class="leader" d="M{start[0]:.1f},{start[1]:.1f}L{nearest[0]:.1f},{nearest[1]:.1f}"/>'
    x, side = (left + right) / 2, "middle"
    if left > label.anchor[0]:
        x, side = left + 2, "start"
    elif right < label.anchor[0]:
        x, side = right - 2, "end"
    text = f'<text class="name" x="{x:.1f}" y="{bottom - 3:.1f}" text-anchor="{side}">{esc(label.text)}</text>'
    return f'<g aria-hidden="true">{line}{text}</g>'


def _names(points: Sequence[Point]) -> str:
    """Who the numbers are, below the narrow picture, where names have no room."""
    rows = "".join(f"<li><b>{point.number}</b> {esc(point.name)}</li>" for point in points)
    return f'<ul class="names narrow" aria-hidden="true">{rows}</ul>'


def _legend(points: Sequence[Point]) -> str:
    looks = {
        "eligible": msg("eligible"),
        "close": msg("too close to call"),
        "undecided": msg("undecided"),
        "out": msg("out"),
    }
    shown = [
        f'<span><i class="key is-{state}"></i>{esc(words)}</span>'
        for state, words in looks.items()
        if any(point.state == state for point in points)
    ]
    if any(point.first for point in points):
        shown.append(f'<span><i class="key is-first"></i>{esc(msg("on the Pareto front"))}</span>')
    if any(len(point.x.values) > 1 for point in points):
        shown.append(f'<span><i class="key is-spread"></i>{esc(msg("interquartile range"))}</span>')
    return f'<div class="legend">{"".join(shown)}</div>'
