"""Answers in a browser: rendered while they stream, chosen text stays chosen, popovers open at what opened them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
import yaml

from tests.support.app import App, choose, notice, panel, serving
from tests.support.scripted_models import catalog_entry

pytestmark = pytest.mark.ui

MARKDOWN = """<think>
I should be brief. I should be brief. I should be brief. I should be brief. I should be brief. I should be brief.
</think>

First a paragraph that is finished early.

| name | size |
|------|------|
| a | 1 |

```python
if a < b:
    print("x")
```

The formula is $x^2$ and this goes on for some time, word after word, so that more and more of it comes while a
reader has chosen something further up, which must not be lost, whatever happens down here in this last paragraph.
And since a machine may be slow to tell what it sees, the paragraph has more to say than anybody wants to read.
""".replace(" \n", "\n")
LONG = "\n\n".join(f"Paragraph {n} of a long answer." for n in range(60))


def model(name: str, text: str, step_s: float) -> dict[str, Any]:
    return catalog_entry(name, f"text={quote_plus(text)}&step_s={step_s}", context_length=4096)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder: Path = tmp_path_factory.mktemp("answers")
    catalog = folder / "catalog.yaml"
    models = [model("written", MARKDOWN, 0.12), model("long", LONG, 0.01), model("quick", MARKDOWN, 0.001)]
    catalog.write_text(yaml.safe_dump({"schema_version": 1, "models": models}), encoding="utf-8")
    with serving(folder, "written, long, quick", catalog=catalog) as app:
        yield app


def run(page: Any, *names: str) -> None:
    choose(page, *names)
    page.click("button#run")


def test_chosen_text_stays_chosen_while_more_is_streamed(page: Any) -> None:
    run(page, "Written")
    page.wait_for_function(
        "document.querySelector('#outputs .answer > .rendered')?.textContent.includes('more and more')"
    )
    page.evaluate(
        """() => {
            for (const text of ["finished early", "goes on"]) {
                window.observed = window.observed || [];
                const walker = document.createTreeWalker(
                    document.querySelector("#outputs .answer > .rendered"), NodeFilter.SHOW_TEXT);
                for (let node = walker.nextNode(); node; node = walker.nextNode()) {
                    const at = node.data.indexOf(text);
                    if (at >= 0) window.observed.push([node, at, at + text.length]);
                }
            }
            const [first, last] = [window.observed[0], window.observed.at(-1)];
            getSelection().setBaseAndExtent(first[0], first[1], last[0], last[2]);
        }"""
    )
    chosen = page.evaluate("getSelection().toString()")
    assert chosen.startswith("finished early")
    assert chosen.endswith("goes on")
    before = page.evaluate("document.querySelector('#outputs .answer > .rendered').textContent.length")
    page.wait_for_function(f"document.querySelector('#outputs .answer > .rendered').textContent.length > {before + 60}")
    assert page.evaluate("getSelection().toString()") == chosen
    notice(page, "Done")
    assert page.evaluate("getSelection().toString()") == chosen


def test_thinking_is_open_while_it_streams_and_stays_as_the_reader_left_it(page: Any) -> None:
    run(page, "Written")
    page.wait_for_selector("#outputs details.thinking[open]")
    page.wait_for_selector("#outputs details.thinking:not([open])")
    page.click("#outputs details.thinking > summary")
    page.wait_for_function("document.querySelector('#outputs .answer > .rendered')?.textContent.includes('some time')")
    assert page.locator("#outputs details.thinking").get_attribute("open") is not None
    notice(page, "Done")
    assert page.locator("#outputs details.thinking").get_attribute("open") is not None
    assert "Thought · " in page.locator("#outputs details.thinking > summary").inner_text()


def test_an_answer_is_rendered_and_raw_is_the_text_itself(page: Any) -> None:
    run(page, "Quick")
    notice(page, "Done")
    shown = panel(page, "Quick")
    assert shown.locator(".rendered table").count() == 1
    assert shown.locator(".rendered math").count() == 1
    assert shown.locator(".rendered pre").inner_text().startswith("if a < b")
    assert not shown.locator(".raw").is_visible()
    shown.locator("button.more").click()
    shown.locator("[data-do=raw]").click()
    assert shown.locator(".raw").is_visible()
    assert not shown.locator(".answer > .rendered").is_visible()
    assert shown.locator(".raw").text_content() == MARKDOWN


def test_all_answers_are_shown_raw_and_the_choice_is_remembered(page: Any, app: App) -> None:
    run(page, "Quick")
    notice(page, "Done")
    page.click("[data-do=raw-all] >> visible=true")
    assert panel(page, "Quick").locator(".raw").is_visible()
    assert not panel(page, "Quick").locator(".answer > .rendered").is_visible()
    page.goto(app.url)
    page.wait_for_selector("button#run")
    assert page.evaluate("document.documentElement.dataset.answers") == "raw"


def test_a_menu_and_a_receipt_open_at_what_opened_them_in_a_frame_that_grows(page: Any) -> None:
    page.set_viewport_size({"width": 1200, "height": 4000})
    run(page, "Quick", "Long")
    notice(page, "Done")
    for opener, popover in ((".panel button.more", ".menu:popover-open"), (".slip-opener", ".slip:popover-open")):
        button = page.locator(f"#outputs {opener}").last
        button.click()
        at, shown = button.bounding_box(), page.locator(popover).bounding_box()
        assert min(abs(shown["y"] - at["y"] - at["height"]), abs(shown["y"] + shown["height"] - at["y"])) < 12
        assert shown["x"] >= 0
        assert shown["x"] + shown["width"] <= 1200
        page.keyboard.press("Escape")


def test_copy_gives_the_text_of_the_model(page: Any, app: App) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=app.url)
    run(page, "Quick")
    notice(page, "Done")
    panel(page, "Quick").locator("[data-do=copy]").click()
    page.wait_for_function("navigator.clipboard.readText().then(text => text.startsWith('<think>'))")
    assert page.evaluate("navigator.clipboard.readText()") == MARKDOWN
    panel(page, "Quick").locator("[data-do=copy-code]").click()
    page.wait_for_function("navigator.clipboard.readText().then(text => text.startsWith('if a'))")


def test_a_column_is_moved_and_widened(page: Any) -> None:
    run(page, "Quick", "Long")
    notice(page, "Done")

    def left(name: str) -> float:
        return float(panel(page, name).bounding_box()["x"])

    assert left("Quick") < left("Long")
    panel(page, "Quick").locator("button.more").click()
    panel(page, "Quick").locator("[data-do=right]").click()
    assert left("Quick") > left("Long")
    narrow = panel(page, "Long").bounding_box()["width"]
    panel(page, "Long").locator("button.more").click()
    panel(page, "Long").locator("[data-do=expand]").click()
    assert panel(page, "Long").bounding_box()["width"] > narrow * 1.5


def test_a_long_answer_that_was_watched_stays_open_and_can_be_folded(page: Any) -> None:
    run(page, "Long")
    notice(page, "Done")
    fold = panel(page, "Long").locator(".fold")
    fold.wait_for(state="visible")
    assert fold.inner_text() == "Show less"
    tall = panel(page, "Long").bounding_box()["height"]
    fold.click()
    assert fold.inner_text() == "Show all"
    assert panel(page, "Long").bounding_box()["height"] < tall - 50
