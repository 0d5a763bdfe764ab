"""The page streams smoothly and rests: eight columns at once in a browser. The goals for an idle machine are those of
``benchmarks/page.py``; here is what still has to hold where others are busy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from benchmarks.page import DONE, scripted, stream, used_percent
from tests.support.app import App, serving

pytestmark = [pytest.mark.ui, pytest.mark.alone]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Eight models that write 400 words each."""
    folder = tmp_path_factory.mktemp("performance")
    with serving(folder, "writer-1", stall_s=60, **scripted(folder)) as app:
        yield app


def test_eight_columns_of_four_hundred_words_move_nothing_and_block_nothing(browser: Any, app: App) -> None:
    # A task's length is time on the clock: others on these cores, such as the models' processes, lengthen it, so the
    # best of three counts. The goal is 200 ms; from 190 to 306 ms were seen, and 625 before columns were drawn as they
    # are now.
    tasks: list[float] = []
    most = 400.0
    while len(tasks) < 3 and (not tasks or tasks[-1] >= most):
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        seen = stream(context.new_page(), app.url)
        context.close()
        assert seen["layout_shift"] < 0.01
        tasks.append(seen["longest_task_ms"])
        most = 400 * max(1.0, psutil.getloadavg()[0] / (psutil.cpu_count() or 1))
    assert tasks[-1] < most, tasks


def test_a_page_at_rest_takes_next_to_nothing(browser: Any, app: App) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(f"{app.url}?models=writer-1,writer-2&prompt=Tell+it.")
    page.wait_for_selector("button#run")
    page.wait_for_timeout(1000)
    page.click("button#run")
    page.wait_for_function(DONE, timeout=120_000)
    # What a page always does, it does in each of these; the browser's own housekeeping behind a test does not last.
    used: list[float] = []
    while len(used) < 12 and (not used or used[-1] >= 4):
        used.append(used_percent(psutil.Process(), 5))
    context.close()
    assert used[-1] < 4, used
