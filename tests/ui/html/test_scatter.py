"""The picture: labels apart, marks in place, spreads and limits drawn, hostile names harmless."""

from __future__ import annotations

import random
import re
from itertools import combinations
from xml.etree import ElementTree

import pytest

from playground.results.figures import figure
from playground.ui.html.scatter import Axis, Frame, Label, Point, fit, place, radius, scatter, ticks

SPEED, QUALITY = Axis("Decode rate", lambda v: f"{v:g}"), Axis("HellaSwag", lambda v: f"{v:g}")
WIDE, NARROW = (760.0, 420.0), (340.0, 360.0)


def point(number: int, x: float, y: float, *more: float, **other: object) -> Point:
    return Point(number, f"SmolLM2 135M Instruct {number}", figure("x", "tokens/s", [x, *more]), y, **other)  # type: ignore[arg-type]


def labels(points: list[Point], size: tuple[float, float], *, names: bool) -> tuple[list[Label], Frame]:
    frame = fit(points, SPEED, *size)
    return place(points, [radius(p.size, 1.0) for p in points], frame, names=names), frame


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def scattered(seed: int, n: int) -> list[Point]:
    rng = random.Random(seed)
    return [point(i, rng.uniform(5, 90), rng.uniform(20, 70), size=rng.random()) for i in range(1, n + 1)]


def clustered(seed: int, n: int) -> list[Point]:
    """Variants of few models: equal quality, speeds close together."""
    rng = random.Random(seed)
    return [
        point(i, rng.choice((10, 30, 60)) + rng.random() * 4, rng.choice((30, 41)), size=0.3) for i in range(1, n + 1)
    ]


@pytest.mark.parametrize("make", [scattered, clustered])
@pytest.mark.parametrize(("size", "names"), [(WIDE, True), (NARROW, False)])
def test_twelve_labels_stay_apart_and_inside(make: object, size: tuple[float, float], names: bool) -> None:
    for seed in range(20):
        placed, frame = labels(make(seed, 12), size, names=names)  # type: ignore[operator]
        assert len(placed) == 12
        assert not [pair for pair in combinations(placed, 2) if overlap(pair[0].box, pair[1].box)], seed
        for label in placed:
            left, top, right, bottom = label.box
            assert left >= 0 and top >= 0 and right <= frame.width and bottom <= frame.height


def test_labels_cover_no_mark() -> None:
    points = scattered(3, 8)
    placed, _ = labels(points, WIDE, names=True)
    marks = [
        (lb.anchor[0] - lb.radius, lb.anchor[1] - lb.radius, lb.anchor[0] + lb.radius, lb.anchor[1] + lb.radius)
        for lb in placed
    ]
    assert not [1 for label in placed for mark in marks if overlap(label.box, mark)]


@pytest.mark.parametrize(
    "points",
    [
        [point(1, 0.0, 0.0)],
        [point(1, 40, 40), point(2, 40, 40)],
        [point(1, 1e-9, -5), point(2, 1e9, 1e12)],
        [point(i, 40, 40) for i in range(1, 25)],
    ],
)
def test_points_that_coincide_or_lie_far_apart_are_drawn(points: list[Point]) -> None:
    root = svg(scatter(points, SPEED, QUALITY, "x"), "wide")
    numbers = [float(n) for n in re.findall(r"-?\d+\.\d+", ElementTree.tostring(root, encoding="unicode"))]
    assert len(root.findall(".//circle[@class='dot']")) == len(points)
    assert all(-1 <= n <= 800 for n in numbers)


def svg(html: str, kind: str) -> ElementTree.Element:
    """The drawing of one width; well-formed XML, or this fails."""
    found = re.search(rf'<svg class="{kind}".*?</svg>', html, re.DOTALL)
    assert found
    return ElementTree.fromstring(found[0])


def test_nothing_to_draw_is_nothing_drawn() -> None:
    assert scatter([], SPEED, QUALITY, "x") == ""


def test_the_error_bar_spans_the_quartiles_and_one_value_has_none() -> None:
    points = [point(1, 30, 40, 40, 50, 60, 70), point(2, 80, 50)]
    root = svg(scatter(points, SPEED, QUALITY, "x"), "wide")
    (bar,) = root.findall(".//path[@class='spread']")
    frame = fit(points, SPEED, *WIDE)
    low, high = re.findall(r"[MH]([\d.]+)", bar.get("d", ""))[:2]
    assert float(low) == pytest.approx(frame.x(points[0].x.low), abs=0.1)
    assert float(high) == pytest.approx(frame.x(points[0].x.high), abs=0.1)


def test_areas_are_as_the_sizes_are() -> None:
    assert radius(1.0, 1.0) ** 2 == pytest.approx(4 * radius(0.25, 1.0) ** 2)
    assert radius(0.0, 1.0) > 4, "the smallest can still be seen"
    assert radius(None, 0.0) > 4


def test_a_limit_lies_inside_the_picture_even_where_no_point_reaches_it() -> None:
    axis = Axis("Decode rate", lambda v: f"{v:g}", limit=200)
    root = svg(scatter([point(1, 30, 40)], axis, QUALITY, "x"), "wide")
    (line,) = root.findall(".//line[@class='limit']")
    assert 50 < float(line.get("x1", "0")) < WIDE[0]


def test_the_front_is_joined_by_steps_only_where_its_axes_are_the_pictures() -> None:
    points = [point(1, 80, 40, first=True), point(2, 30, 60, first=True), point(3, 20, 30)]
    (path,) = svg(scatter(points, SPEED, QUALITY, "x"), "wide").findall(".//path[@class='front']")
    assert [step[0] for step in re.findall(r"[MHV][\d.,]+", path.get("d", ""))] == ["M", "H", "V"]
    assert not svg(scatter(points, SPEED, QUALITY, "x", staircase=False), "wide").findall(".//path[@class='front']")


def test_every_mark_can_be_reached_and_read_aloud_and_names_are_harmless() -> None:
    hostile = '<img src=x onerror="alert(1)">'
    marked = [Point(1, hostile, figure("x", "s", [1.0]), 2.0, told=f"1: {hostile}")]
    html = scatter(marked, SPEED, QUALITY, "<b>")
    assert "<img" not in html
    (mark,) = svg(html, "narrow").findall(".//g[@class='mark is-eligible']")
    assert mark.get("tabindex") == "0"
    assert mark.get("aria-label") == f"1: {hostile}"


def test_ticks_are_round_and_within() -> None:
    assert ticks(0, 97, 7) == [0, 20, 40, 60, 80]
    assert all(36.6 <= tick <= 41.3 for tick in ticks(36.6, 41.3, 5))
    assert len(ticks(36.6, 41.3, 5)) >= 3
