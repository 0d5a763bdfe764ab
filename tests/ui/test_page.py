"""Small things of the page: whose comparison it is, keys, links, and buttons that lead from one tab into another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from playground import paths
from tests.support.app import DATA, App, answer, choose, chosen, notice, panel, run_to_end, serving

pytestmark = pytest.mark.ui

ANSWERING = "() => document.querySelector('#outputs .answer').textContent.includes('la la')"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Scripted models, and of the shipped catalogue a family that Learn draws."""
    folder = tmp_path_factory.mktemp("home")
    catalog = folder / "catalog.yaml"
    scripted, shipped = (
        yaml.safe_load(path.read_text(encoding="utf-8"))["models"]
        for path in (DATA / "fake_catalog.yaml", paths.CATALOG)
    )
    drawn = [model for model in shipped if model["id"].startswith("olmo")]
    catalog.write_text(yaml.safe_dump({"schema_version": 1, "models": [*scripted, *drawn]}), encoding="utf-8")
    with serving(folder, "fast, slow, base, endless", catalog=catalog) as app:
        yield app


def open_tab(page: Any, *names: str) -> None:
    for name in names:
        page.get_by_role("tab", name=name, exact=True).click()


def test_somebody_elses_comparison_is_there_to_read_only_and_ones_own_is_not(browser: Any, space: App) -> None:
    mine = browser.new_context().new_page()
    mine.goto(space.url)
    mine.wait_for_selector("button#run")
    choose(mine, "Fast")
    mine.fill("#prompt textarea", "Whose is this?")
    run_to_end(mine)
    link = mine.locator("a[data-link]").evaluate("link => link.href")
    other = browser.new_context().new_page()
    other.goto(link)
    other.locator(".banner", has_text="Somebody else’s comparison, to read only").wait_for()
    assert "Whose is this?" in other.inner_text("#asked")
    panel(other, "Fast").locator("[data-do=again]").dispatch_event("click")
    assert "somebody else's, to read only" in notice(other, "This comparison is")
    assert answer(other, "Fast") == "Paris is the capital of France."
    again = mine.context.new_page()
    again.goto(link)
    again.wait_for_function("document.querySelector('#outputs .answer')?.textContent.includes('Paris')")
    assert again.locator(".banner").count() == 0
    mine.context.close()
    other.context.close()


def test_a_slash_goes_to_the_search_of_the_tab_on_show_and_is_typed_in_a_box(page: Any) -> None:
    for tab, box in (("History", "#history-search"), ("Models", "#catalogue-search")):
        open_tab(page, tab)
        page.locator(box).wait_for()
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("/")
        page.wait_for_function("box => document.activeElement.closest(box) !== null", arg=box)
        assert page.locator(f"{box} :is(input, textarea)").input_value() == ""
        page.keyboard.press("/")
        assert page.locator(f"{box} :is(input, textarea)").input_value() == "/"
    open_tab(page, "Compare")
    page.fill("#prompt textarea", "one")
    page.keyboard.press("End")
    page.keyboard.press("/")
    assert page.input_value("#prompt textarea") == "one/"


def test_escape_closes_what_is_open_and_stops_nothing(page: Any) -> None:
    choose(page, "Talks for a long time")
    page.click("#run")
    page.wait_for_function(ANSWERING)
    page.evaluate("""() => {
        const slip = document.createElement("div");
        slip.popover = "auto";
        document.body.append(slip);
        slip.showPopover();
    }""")
    page.keyboard.press("Escape")
    page.wait_for_function("!document.querySelector(':popover-open')")
    page.wait_for_timeout(1500)  # a stop would be told within this time
    assert page.is_visible("#stop")
    page.keyboard.press("Escape")
    notice(page, "Stopped")
    for opener in (".panel button.more", ".slip-opener"):
        page.locator(f"#outputs {opener}").first.click()
        assert page.locator(":popover-open").count() == 1
        page.keyboard.press("Escape")
        assert page.locator(":popover-open").count() == 0


def test_the_link_is_copied(page: Any, app: App) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=app.url)
    choose(page, "Fast")
    run_to_end(page)
    link = page.locator("a[data-link]")
    wanted = link.evaluate("link => link.href")
    link.click()
    page.wait_for_function("document.querySelector('a[data-link]').textContent === 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()") == wanted
    assert "?c=" in wanted
    assert page.url == app.url, "the page stays where it is"
    assert page.locator("#said").inner_text() == "Copied"
    page.wait_for_function("document.querySelector('a[data-link]').textContent === 'Link'")


def test_an_answer_cut_off_at_the_limit_goes_on(page: Any) -> None:
    choose(page, "Fast", "Slow")
    page.locator("#parameters button").first.click()
    page.get_by_label("number input for Max new tokens").fill("3")
    page.keyboard.press("Tab")
    run_to_end(page)
    assert answer(page, "Fast").strip() == "Paris is the"
    panel(page, "Fast").locator("[data-do=go-on]").click()
    page.wait_for_function(
        "document.querySelector('#outputs .raw').textContent.trim() === 'Paris is the capital of France.'"
    )
    notice(page, "Done")
    assert answer(page, "Slow").strip() == "Let me think", "its column is carried over"


def test_repeat_five_times_measures_what_is_on_show(page: Any) -> None:
    choose(page, "Fast", "Base")
    page.fill("#prompt textarea", "Measured words")
    run_to_end(page)
    choose(page, "Slow")
    page.fill("#prompt textarea", "Other words")
    open_tab(page, "Timings")
    page.locator("#timings [data-do=measure]").click()
    page.locator("#measure").wait_for()
    assert page.get_by_role("tab", name="Measure").get_attribute("aria-selected") == "true"
    page.click("#measure")
    page.wait_for_function("document.querySelectorAll('#measured table tbody tr').length > 1", timeout=60_000)
    file = page.locator("#measured .downloads a", has_text="JSON").last.evaluate("link => link.href")
    measured = page.evaluate("file => fetch(file).then(answer => answer.json())", file)
    assert measured["repeats"] == 5
    assert measured["request"]["prompt"] == "Measured words"
    assert [model["variant"]["model"] for model in measured["models"]] == ["fast", "base"]
    open_tab(page, "Compare")
    assert [name.split(" · ")[0] for name in chosen(page)] == ["Fast", "Base"]


def test_a_point_of_learn_fills_the_form_and_its_picture_shows_a_model(page: Any) -> None:
    open_tab(page, "Learn")
    use = page.locator("[data-do=use][data-prompt]").first
    wanted = use.get_attribute("data-prompt")
    use.click()
    page.wait_for_function("wanted => document.querySelector('#prompt textarea')?.value === wanted", arg=wanted)
    assert page.get_by_role("tab", name="Compare").get_attribute("aria-selected") == "true"
    assert page.locator("#asked .asked-line").count() == 0, "nothing runs"
    open_tab(page, "Learn")
    node = page.locator(".families [data-do=show-model]").first
    name = node.inner_text()
    node.click()
    page.locator("#model-detail h3", has_text=name).wait_for()
    assert page.get_by_role("tab", name="Find").get_attribute("aria-selected") == "true"


def test_a_chosen_model_is_removed_by_a_button_with_its_name(page: Any) -> None:
    choose(page, "Fast", "Slow")
    names = page.locator("#models .token-remove:not(.remove-all)")
    page.wait_for_function("document.querySelector('#models .token-remove').title.startsWith('Remove: Fast')")
    page.get_by_role("button", name="Remove: Fast").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#models .token-remove').title.startsWith('Remove: Slow')")
    assert names.count() == 1
    assert names.get_attribute("aria-label") == names.get_attribute("title")
