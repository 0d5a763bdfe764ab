"""The History tab in a browser, filled by the database: found, opened, named, deleted; each visitor sees their own."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from playground.config.settings import load_settings
from playground.records import Comparison, Environment, ModelRun, Request, Timings, Variant
from playground.service import Playground
from playground.ui import app
from playground.ui.blocks import Blocks
from playground.ui.tabs import history, replay
from playground.ui.visitors import COOKIE
from tests.support.app import DATA, App, serving

pytestmark = pytest.mark.ui
N = 36
KEPT = "prompt => Object.values(localStorage).some((each) => each.includes(prompt))"
"""Whether the browser keeps a draft with this prompt."""


def comparison(number: int, prompt: str = "", model: str = "fast", text: str = "") -> Comparison:
    run = ModelRun(
        Variant(model, "fake", "none"),
        "fake",
        "none",
        text or f"Answer number {number}. " * 60,
        "stop",
        Timings(ttft_s=0.1, decode_tok_s=20.0, total_s=1.0, output_tokens=9),
    )
    at = f"2026-11-{1 + number // 24:02d}T{number % 24:02d}:30:00.000Z"
    asked = Request(prompt or f"Question number {number}?")
    return Comparison(f"entry-{number:03d}", at, asked, (run, replace(run, variant=Variant("slow", "fake", "none"))),
                      Environment("cpu", 2, 1000.0))  # fmt: skip


@dataclass(frozen=True)
class Served:
    url: str
    playground: Playground


@pytest.fixture
def environment() -> dict[str, str]:
    return {}


@pytest.fixture
def served(tmp_path: Path, environment: dict[str, str]) -> Iterator[Served]:
    """The tab alone on a page, of an app with some stored comparisons."""
    given = {"HOME": tmp_path, "SPACE": DATA / "fake_space.yaml", "CATALOG": DATA / "fake_catalog.yaml"}
    env = {f"PLAYGROUND_{name}": str(value) for name, value in given.items()} | environment
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = replace(load_settings(env), host="127.0.0.1", port=port)
    with Playground(settings) as playground:
        with Blocks(fill_width=True) as demo:
            kept = history.remembered()
            with gr.Tabs(elem_id="tabs"), gr.Tab("History", id="history"):
                tab = history.build(kept)
                again = replay.build()
            history.connect(playground, tab, demo)
            replay.connect(playground, again, tab, demo)
        for number in range(N):
            playground.keep(comparison(number), "somebody")
        app.launch(demo, settings)
        try:
            yield Served(f"http://127.0.0.1:{port}/", playground)
        finally:
            demo.close(verbose=False)


@pytest.fixture
def viewport() -> dict[str, int]:
    return {"width": 1280, "height": 900}


@pytest.fixture
def visit(browser: Any, served: Served, viewport: dict[str, int]) -> Iterator[Callable[..., Any]]:
    """Opens the page as another visitor each time."""
    contexts = []

    def open_page(context: Any = None, **options: Any) -> Any:
        if context is None:
            context = browser.new_context(viewport=viewport, **options)
            contexts.append(context)
        page = context.new_page()
        page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
        page.goto(served.url)
        page.wait_for_selector("#history-list .entry, #history-list .empty")
        return page

    yield open_page
    for context in contexts:
        context.close()


def rows(page: Any) -> list[str]:
    return [str(text) for text in page.locator("#history-list .entry-name").all_inner_texts()]


def wait_rows(page: Any, n: int) -> None:
    page.wait_for_function("n => document.querySelectorAll('#history-list .entry').length === n", arg=n)


def open_entry(page: Any, id: str) -> None:
    page.click(f"#history-list [data-history=open][data-id={id}]")
    page.wait_for_selector(f"#history-opened .opened[data-id={id}]")


def test_what_is_open_stays_in_sight_beside_a_long_list(visit: Callable[..., Any]) -> None:
    page = visit()
    wait_rows(page, history.PAGE)
    page.click("#history-list .more")
    wait_rows(page, N)
    page.locator("#history-list [data-id=entry-003][data-history=open]").scroll_into_view_if_needed()
    page.evaluate("scrollTo(0, 0)")
    page.click("#history-list [data-id=entry-003][data-history=open]")
    page.wait_for_selector("#history-opened .opened[data-id=entry-003]")
    head = page.locator("#history-opened .opened-head h2").bounding_box()
    listed = page.locator("#history-list").bounding_box()
    assert head["y"] < 400
    assert head["x"] > listed["x"] + listed["width"] - 1
    assert "Question number 3?" in page.locator("#history-opened").inner_text()
    assert "Answer number 3." in page.locator("#history-opened").inner_text()
    assert page.locator("#history-list .is-open").count() == 1
    assert page.evaluate("document.activeElement.dataset.id") == "entry-003"


@pytest.mark.parametrize("viewport", [{"width": 390, "height": 844}])
def test_on_a_phone_the_list_makes_room_and_comes_back(visit: Callable[..., Any]) -> None:
    page = visit()
    open_entry(page, "entry-035")
    assert not page.locator("#history-list").is_visible()
    assert page.locator("#history-opened .opened-head h2").bounding_box()["y"] < 500
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.click("#history-opened .back")
    page.wait_for_selector("#history-list .entry")
    assert page.locator("#history-list").is_visible()
    page.wait_for_function("document.activeElement?.dataset?.id === 'entry-035'")


def test_search_and_filters_narrow_the_list(visit: Callable[..., Any], served: Served) -> None:
    served.playground.keep(comparison(50, "富士山の高さは？", "base", text="３７７６メートルです"), "somebody")
    page = visit()
    wait_rows(page, history.PAGE)
    page.fill("#history-search :is(input, textarea)", "富士")
    wait_rows(page, 1)
    assert rows(page) == ["富士山の高さは？"]
    page.fill("#history-search :is(input, textarea)", "3776メートル")
    wait_rows(page, 1)
    page.fill("#history-search :is(input, textarea)", "no such words")
    page.wait_for_selector("#history-list .empty >> text=Nothing found")
    page.fill("#history-search :is(input, textarea)", "")
    wait_rows(page, history.PAGE)
    page.click("#history-list .star[data-id=entry-034]")
    page.wait_for_selector("#history-list .star[data-id=entry-034][aria-pressed=true]")
    assert page.evaluate("document.activeElement.dataset.id + document.activeElement.className") == "entry-034star"
    page.check("#history-favourites input")
    wait_rows(page, 1)
    assert rows(page) == ["Question number 34?"]


def test_an_entry_is_renamed_in_place_and_deleted_after_being_asked(visit: Callable[..., Any]) -> None:
    page = visit()
    open_entry(page, "entry-035")
    page.click("#history-opened [data-history=rename]")
    assert page.evaluate("document.activeElement.tagName") == "INPUT"
    page.keyboard.type("<b>Mine</b> & yours")
    page.keyboard.press("Enter")
    page.wait_for_selector("#history-list .entry-name >> text=<b>Mine</b> & yours")
    assert page.locator("#history-opened .opened-head h2").inner_text() == "<b>Mine</b> & yours"
    page.wait_for_function("document.activeElement?.dataset?.history === 'rename'")
    page.click("#history-opened [data-history=ask-delete]")
    page.keyboard.press("Escape")
    assert not page.locator("#history-opened [data-history=delete]").is_visible()
    page.click("#history-opened [data-history=ask-delete]")
    page.click("#history-opened [data-history=delete]")
    page.wait_for_function("!document.querySelector('#history-opened .opened')")
    assert "<b>Mine</b> & yours" not in rows(page)
    page.wait_for_selector("#replay", state="hidden")


def test_times_are_the_visitors_own(browser: Any, visit: Callable[..., Any]) -> None:
    page = visit(timezone_id="Asia/Tokyo", locale="en-GB")
    first = page.locator("#history-list time").first
    page.wait_for_function("document.querySelector('#history-list time').dataset.local === 'yes'")
    assert re.search(r"20:30", first.inner_text())  # 11:30 UTC
    assert first.get_attribute("title") == "2026-11-02 11:30 UTC"


def test_two_tabs_of_a_browser_see_the_same_list(visit: Callable[..., Any], served: Served) -> None:
    one = visit()
    two = visit(one.context)
    served.playground.keep(comparison(60, "From one tab"), "somebody")
    served.playground.keep(comparison(61, "From the other"), "somebody")
    for page in (one, two):
        page.reload()
        page.wait_for_selector("#history-list .entry")
        assert rows(page)[:2] == ["From the other", "From one tab"]


@pytest.mark.parametrize("environment", [{"PLAYGROUND_HOSTS": "play.example.org"}])
def test_strangers_see_their_own_and_open_others_by_their_id_to_read(visit: Callable[..., Any], served: Served) -> None:
    page, other = visit(), visit()
    assert page.locator("#history-list .empty").count() == 1
    names = {
        cookie["value"].rpartition(".")[0] for each in (page, other) for cookie in each.context.cookies()
        if cookie["name"] == COOKIE
    }  # fmt: skip
    assert len(names) == 2
    mine = next(cookie["value"] for cookie in page.context.cookies() if cookie["name"] == COOKIE).rpartition(".")[0]
    served.playground.keep(comparison(70, "Mine alone"), mine)
    for each, n in ((page, 1), (other, 0)):
        each.reload()
        each.wait_for_selector("#history-list .entry, #history-list .empty")
        assert len(rows(each)) == n
    press = "what => { const box = document.querySelector('#history-action :is(textarea, input)');" \
        "box.value = JSON.stringify(what); box.dispatchEvent(new Event('input', {bubbles: true})); }"  # fmt: skip
    other.evaluate(press, {"do": "open", "id": "entry-070"})
    other.wait_for_selector("#history-opened .opened[data-id=entry-070]")
    assert other.locator("#history-opened [data-history=rename]").count() == 0
    for what in ({"do": "delete"}, {"do": "save-title", "text": "Yours"}, {"do": "star"}):
        other.evaluate(press, {**what, "id": "entry-070"})
        other.wait_for_selector("#history-opened >> text=not in your history")
        other.evaluate(press, {"do": "close"})
        other.wait_for_function("!document.querySelector('#history-opened .opened')")
    found = served.playground.history(mine)
    assert [(entry.title, entry.favourite) for entry in found] == [("", False)]


# -- beside the rest of the page ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with serving(tmp_path_factory.mktemp("whole"), "fast, slow") as app:
        yield app


def test_what_was_run_is_in_the_history_and_opens_in_compare_again(browser: Any, whole: App) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    one, two = context.new_page(), context.new_page()
    for page, prompt in ((one, "From one tab"), (two, "From the other")):
        page.goto(whole.url)
        page.wait_for_selector("button#run")
        if page is two:  # a new tab begins with the last one's form: what is written before that is overwritten
            page.wait_for_function("document.querySelector('#prompt textarea').value === 'From one tab'")
        page.fill("#prompt textarea", prompt)
        page.click("button#run")
        page.wait_for_function(KEPT, arg=prompt)
    for page in (one, two):
        page.wait_for_selector("button#run", state="visible", timeout=30_000)
        page.wait_for_function("document.querySelectorAll('#outputs .panel.is-stop, #outputs .panel').length > 0")
    one.click("#tabs > .tab-wrapper button[role=tab]:has-text('History')")
    one.wait_for_function("document.querySelectorAll('#history-list .entry').length === 2")
    assert sorted(rows(one)) == ["From one tab", "From the other"]
    one.click("#history-list .entry-open:has-text('From the other')")
    one.click("#history-opened [data-do=open-comparison]")
    one.wait_for_selector("#asked:has-text('From the other')", state="visible")
    assert one.locator("#outputs .panel").first.is_visible()
    context.close()
