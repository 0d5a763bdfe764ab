"""The page: where the answers stand, what survives a reload, what the keyboard and the address do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.app import App, answer, choose, chosen, notice, panel, run_to_end, serving

pytestmark = pytest.mark.ui

ANSWERING = "() => [...document.querySelectorAll('#outputs .answer')].some(each => each.textContent.includes('la la'))"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with serving(tmp_path_factory.mktemp("home"), "fast, slow, base, fails, endless") as app:
        yield app


@pytest.mark.parametrize(
    ("viewport", "models", "most"),
    [
        ({"width": 1440, "height": 900}, 2, 360),
        ({"width": 1024, "height": 768}, 2, 360),
        ({"width": 390, "height": 844}, 2, 500),
        ({"width": 1440, "height": 900}, 4, 420),
        ({"width": 390, "height": 844}, 4, 560),
    ],
)
def test_the_first_line_of_an_answer_is_high_on_the_page(page: Any, models: int, most: int) -> None:
    choose(page, *("Fast", "Slow", "Base", "Fails at token 3")[:models])
    page.click("button#run")
    notice(page, "Done")
    tops = page.evaluate("[...document.querySelectorAll('#outputs .answer')].map(e => e.getBoundingClientRect().y)")
    assert tops
    assert min(tops) <= tops[0] <= most
    assert page.evaluate("window.scrollY") == 0


def test_run_and_stop_take_each_others_place_and_keep_the_focus(page: Any) -> None:
    choose(page, "Talks for a long time")
    place = page.locator("#run").bounding_box()
    page.focus("#run")
    page.keyboard.press("Enter")
    page.wait_for_selector("#stop:visible")
    assert not page.is_visible("#run")
    assert page.locator("#stop").bounding_box() == place
    page.wait_for_function("document.activeElement.id === 'stop'")
    page.keyboard.press("Enter")
    notice(page, "Stopped")
    page.wait_for_function("document.activeElement.id === 'run'")


def test_escape_stops_and_control_enter_runs(page: Any) -> None:
    choose(page, "Talks for a long time")
    page.fill("#prompt textarea", "Sing")
    page.press("#prompt textarea", "Control+Enter")
    page.wait_for_function(ANSWERING)
    page.press("#prompt textarea", "Escape")
    assert "1 answer is cut short" in notice(page, "Stopped")


def test_a_reload_loses_neither_the_form_nor_a_comparison_that_goes_on(page: Any) -> None:
    choose(page, "Fast", "Talks for a long time")
    page.fill("#prompt textarea", "My own words")
    page.click("button#run")
    page.wait_for_function(ANSWERING)
    page.reload()
    page.wait_for_selector("#stop:visible")
    page.wait_for_function(ANSWERING)
    assert page.input_value("#prompt textarea") == "My own words"
    assert [name.split(" · ")[0] for name in chosen(page)] == ["Fast", "Talks for a long time"]
    assert page.locator("#outputs .panel:visible").count() == 2
    before = len(answer(page, "Talks for a long time"))
    page.wait_for_function("n => document.querySelectorAll('#outputs .raw')[1].textContent.length > n", arg=before)
    page.click("#stop")
    notice(page, "Stopped")
    page.reload()
    page.wait_for_function("document.querySelector('#outputs .answer')?.textContent.includes('Paris')")
    assert page.is_visible("#run")
    assert "My own words" in page.inner_text("#asked")
    assert page.is_visible("#reply-text")


def test_answers_to_an_earlier_prompt_say_so(page: Any) -> None:
    choose(page, "Fast")
    run_to_end(page)
    assert not page.locator("#asked .earlier").is_visible()
    page.locator("#prompt textarea").press_sequentially(" and more")
    assert page.locator("#asked .earlier").is_visible()


def test_a_reply_is_not_to_an_earlier_prompt_and_whoever_it_goes_to_is_named(page: Any) -> None:
    choose(page, "Fast", "Slow")
    run_to_end(page)
    panel(page, "Fast").get_by_role("button", name="More").click()
    page.get_by_role("button", name="Reply to this one").locator("visible=true").click()
    box = page.locator("#reply-text textarea")
    page.wait_for_function("document.querySelector('#reply-text textarea').placeholder === 'Reply to Fast'")
    box.fill("And now?")
    page.click("button#send")
    page.wait_for_function("document.querySelector('#asked').innerText.includes('And now?')")
    notice(page, "Done")
    assert not page.locator("#asked .earlier").is_visible()
    assert str(box.get_attribute("placeholder")).startswith("Reply to all")


def test_an_example_never_overwrites_a_prompt_and_undo_takes_it_back(page: Any) -> None:
    first = page.input_value("#prompt textarea")
    page.locator("[data-try]").nth(1).click()
    assert page.input_value("#prompt textarea") != first
    page.keyboard.press("Control+z")
    assert page.input_value("#prompt textarea") == first
    page.fill("#prompt textarea", "My own words")
    page.locator("[data-try]").nth(1).click()
    assert page.input_value("#prompt textarea") == "My own words"
    assert "Your prompt is kept" in page.text_content("#said")
    assert page.locator("#examples small").is_visible()


def test_what_happens_is_said_in_one_place_that_stays(page: Any) -> None:
    page.evaluate("window.place = document.querySelector('#said')")
    choose(page, "Fast")
    run_to_end(page)
    page.wait_for_function("document.querySelector('#said').textContent.startsWith('Done')")
    assert page.evaluate("window.place === document.querySelector('#said') && window.place.isConnected")
    assert page.locator("#tabs [role=status]").count() == 0
    page.fill("#prompt textarea", " ")
    page.click("#run")
    page.wait_for_function("document.querySelector('#said-alert').textContent.includes('empty')")


def test_back_goes_to_the_tab_before_and_the_address_names_the_tab(app: App, page: Any) -> None:
    page.get_by_role("tab", name="Learn").click()
    page.wait_for_url("**/?tab=learn")
    page.get_by_role("tab", name="Models").click()
    page.wait_for_url("**/?tab=models")
    page.go_back()
    page.wait_for_function(
        "document.querySelector('#tabs [role=tab][aria-selected=true]')?.textContent.includes('Learn')"
    )
    page.reload()
    page.wait_for_function(
        "document.querySelector('#tabs [role=tab][aria-selected=true]')?.textContent.includes('Learn')"
    )


def test_an_address_fills_the_form_and_runs_nothing(app: App, page: Any) -> None:
    page.goto(f"{app.url}?prompt={quote('A linked question')}&models=slow,base@fake-none")
    page.wait_for_function("document.querySelector('#prompt textarea')?.value === 'A linked question'")
    assert [name.split(" · ")[0] for name in chosen(page)] == ["Slow", "Base"]
    page.wait_for_timeout(700)
    assert page.is_visible("#run")
    assert page.locator("#asked .asked-line").count() == 0


def test_a_link_shows_a_comparison_and_its_prompt(browser: Any, app: App, page: Any) -> None:
    choose(page, "Fast")
    page.fill("#prompt textarea", "Share me")
    run_to_end(page)
    link = page.locator("a[data-link]").evaluate("link => link.href")
    other = browser.new_context().new_page()
    other.goto(link)
    other.wait_for_function("document.querySelector('#outputs .answer')?.textContent.includes('Paris')")
    assert "Share me" in other.inner_text("#asked")
    other.wait_for_function("document.querySelector('#prompt textarea').value === 'Share me'")  # to ask it too
    assert not other.locator("#asked :text('earlier prompt')").is_visible()
    other.context.close()


def test_a_bad_name_is_told_and_the_others_run(app: App, page: Any) -> None:
    page.goto(f"{app.url}?models=fats,fast")
    page.wait_for_selector("#states .is-failed")
    page.click("#run")
    page.wait_for_function("document.querySelector('#outputs .answer')?.textContent.includes('Paris')")
    said = notice(page, "Done")
    assert "fats" in said
    assert "Did you mean fast" in said


def test_a_reply_goes_to_all_or_to_one_and_a_base_model_says_why_not(page: Any) -> None:
    choose(page, "Fast", "Slow", "Base")
    run_to_end(page)
    page.fill("#reply-text textarea", "And of Spain?")
    page.press("#reply-text textarea", "Control+Enter")
    page.locator("#outputs .panel", has_text="And of Spain?").nth(1).wait_for()
    notice(page, "Done")
    assert page.input_value("#reply-text textarea") == ""
    assert "carried over" in panel(page, "Base").inner_text()
    panel(page, "Slow").locator("[data-do=reply]").dispatch_event("click")
    page.locator("#reply-told", has_text="To Slow only").wait_for()
    page.locator("#reply-told button").click()
    page.wait_for_function("!document.querySelector('#reply-told p')")


def test_one_column_has_parameters_of_its_own_and_the_same_model_stands_there_twice(page: Any) -> None:
    choose(page, "Fast", "Slow")
    run_to_end(page)
    panel(page, "Fast").locator("[data-do=add-again]").dispatch_event("click")
    page.wait_for_selector("#own:visible")
    assert [name.split(" · ")[1] for name in chosen(page)] == ["scripted", "scripted", "scripted (2)"]
    page.get_by_label("Creative").check()
    page.locator("#own-source .note").wait_for()
    page.click("#own-use")
    page.locator("#own-told", has_text="Fast (2)").wait_for()
    run_to_end(page)
    columns = page.locator("#outputs .panel:visible")
    assert columns.count() == 3
    assert "temp. 0" not in columns.nth(0).locator("header").first.inner_text()
    assert "temp." in columns.nth(2).locator("header").first.inner_text()


def test_run_takes_what_stands_in_the_open_box_of_a_column(page: Any) -> None:
    choose(page, "Fast", "Slow")
    run_to_end(page)
    panel(page, "Fast").locator("[data-do=parameters]").dispatch_event("click")
    page.wait_for_selector("#own:visible")
    tokens = page.locator("#own").get_by_label("Max new tokens").first
    tokens.fill("3")
    tokens.press("Tab")
    page.click("#run")
    page.wait_for_selector("#own", state="hidden")
    page.wait_for_selector("#outputs .panel:has-text('Fast') :text('· 3 tokens')")
    notice(page, "Done")
    assert "· 3 tokens" not in panel(page, "Slow").inner_text()


def test_one_column_is_stopped_alone_and_run_again(page: Any) -> None:
    choose(page, "Talks for a long time", "Fast")
    page.click("#run")
    page.wait_for_function(ANSWERING)
    panel(page, "Talks for a long time").locator("[data-do=stop]").click()
    notice(page, "Stopped")
    assert answer(page, "Fast") == "Paris is the capital of France."
    panel(page, "Fast").locator("[data-do=again]").click()
    page.wait_for_function("document.querySelector('#outputs').innerText.includes('carried over')")
    notice(page, "Done")


def test_eight_columns_wrap_and_on_a_phone_they_swipe(app: App, browser: Any) -> None:
    for width, rows in ((1440, 2), (390, 1)):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto(f"{app.url}?models=fast,slow,base,fails,endless,dies,fails-to-load,stalls")
        page.wait_for_function("document.querySelectorAll('#outputs .slot .panel').length === 8")
        tops = page.evaluate(
            "[...document.querySelectorAll('#outputs .panel')].map(e => Math.round(e.getBoundingClientRect().y))"
        )
        assert len(set(tops)) == rows
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.close()
