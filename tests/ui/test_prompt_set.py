"""The Prompt set tab in a browser: prompts in, rows that come as they are finished, pause and reload, filters, and one
of them opened in Compare; for strangers on a Space too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.app import App, serving
from tests.support.axe import faults_in_light_and_dark
from tests.support.scripted_models import catalog_entry
from tests.support.web import SPACE_ENV

pytestmark = pytest.mark.ui

TABLE = "prompt,__expected\nThe capital of France?,icontains:Paris\nThe capital of Japan?,icontains:Tokyo\n"
MANY = "\n".join(f"Question number {n}" for n in range(1, 121))
SUITE = "#suite-shown .suite"
MODELS = [
    catalog_entry("paris", "text=Paris+is+a+city.&step_s=0.002", context_length=512),
    catalog_entry("tokyo", "text=Tokyo+is+a+city.&step_s=0.002", context_length=512),
    catalog_entry("calm", "text=Well+then+it+is+so.&step_s=0.05", context_length=512),
    catalog_entry("fails", "text=One+two+three&fail_at=2", context_length=512),
]


PRESS = """what => {
  const box = document.querySelector("#suite-action textarea, #suite-action input");
  box.value = JSON.stringify(what);
  box.dispatchEvent(new Event("input", { bubbles: true }));
}"""
"""What the page does when something is pressed, by hand."""


def catalog(folder: Path) -> Path:
    path = folder / "catalog.yaml"
    path.write_text(yaml.safe_dump({"schema_version": 1, "models": MODELS}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("prompts")
    with serving(folder, "paris, tokyo", catalog=catalog(folder)) as app:
        yield app


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("space")
    with serving(folder, "paris, tokyo, calm", catalog=catalog(folder), **SPACE_ENV) as app:
        yield app


def open_tab(page: Any) -> None:
    page.get_by_role("tab", name="Prompt set", exact=True).click()
    page.locator("#suite-examples button").first.wait_for()
    page.wait_for_timeout(400)


def write(page: Any, text: str) -> None:
    """Put prompts into the box and wait until they were read."""
    page.fill("#suite-text textarea", text)
    page.wait_for_function("document.querySelector('#suite-told')?.innerText.trim()")
    page.wait_for_timeout(800)


def choose(page: Any, *names: str) -> None:
    box = page.locator("#suite-models input")
    page.locator("#suite-models .remove-all").click()
    for name in names:
        box.fill(name)
        page.locator("[role=option]", has_text=re.compile(rf"^\W*{name} · ")).first.click()
    box.blur()
    page.wait_for_timeout(300)


def run(page: Any) -> None:
    page.click("button#suite-run")
    page.locator(f"{SUITE} tr[data-row]").first.wait_for(timeout=30_000)


def ended(page: Any, status: str = "done") -> None:
    page.wait_for_selector(f"{SUITE}[data-status={status}]", timeout=60_000)
    page.wait_for_timeout(300)


def rows(page: Any) -> list[str]:
    return [re.sub(r"\s+", " ", text) for text in page.locator(f"{SUITE} tr[data-row]").all_inner_texts()]


def test_prompts_are_read_run_and_judged(page: Any) -> None:
    open_tab(page)
    page.get_by_role("button", name="A table with checks").click()
    page.wait_for_function("document.querySelector('#suite-told').innerText.includes('8 prompts · 8 checks')")
    write(page, TABLE)
    assert "2 prompts · 2 checks · 2 models · 4 answers" in page.locator("#suite-told").inner_text()
    run(page)
    ended(page)
    first, second = rows(page)
    assert "passed Paris is a city." in first
    assert "failed Tokyo is a city. icontains" in first
    assert "failed Paris is a city." in second
    told = page.locator(".suite-sum").inner_text()
    assert re.search(r"Paris fake-none\s+50 % 1 of 2\s+95 %: 9 to 91 %", told)
    assert "no difference seen" in told
    assert "finished · 4 of 4 answers" in page.locator(".suite-standing").inner_text()


def test_what_is_wrong_is_said_with_its_place_and_nothing_runs(page: Any) -> None:
    open_tab(page)
    write(page, "prompts: [Hello]\ntests:\n  - assert: [{type: containz, value: x}]\n")
    problem = page.locator("#suite-told .problem").inner_text()
    assert "containz" in problem
    assert "contains" in problem
    page.click("button#suite-run")
    page.wait_for_timeout(600)
    assert page.locator(SUITE).count() == 0
    assert page.locator("#suite-text textarea").input_value().startswith("prompts:")
    page.fill("#suite-text textarea", "")
    page.click("button#suite-run")
    page.wait_for_function("document.querySelector('#suite-told').innerText.includes('There is no prompt')")


def test_examples_never_overwrite_words_of_ones_own(page: Any) -> None:
    open_tab(page)
    write(page, "My own question")
    page.get_by_role("button", name="Questions", exact=True).click()
    assert page.locator("#suite-text textarea").input_value() == "My own question"
    assert "are kept" in page.locator("#suite-examples small").inner_text()
    page.get_by_role("button", name="Empty the box").click()
    page.get_by_role("button", name="A prompt with variables").click()
    page.wait_for_function("document.querySelector('#suite-told').innerText.includes('5 prompts')")


def test_a_file_is_read_in_the_browser_whatever_its_encoding(page: Any, tmp_path: Path) -> None:
    open_tab(page)
    path = tmp_path / "fragen.csv"
    path.write_bytes("prompt,__expected\nWas ist größer?,contains:Größe\n".encode("utf-16"))
    page.set_input_files("#suite-examples input[type=file]", path)
    page.wait_for_function("document.querySelector('#suite-told').innerText.includes('1 prompt · 1 check')")
    assert "größer" in page.locator("#suite-text textarea").input_value()
    large = tmp_path / "large.txt"
    large.write_text("x\n" * 700_000)
    page.set_input_files("#suite-examples input[type=file]", large)
    page.wait_for_function("document.querySelector('#suite-examples small').innerText.includes('in a terminal')")
    assert "größer" in page.locator("#suite-text textarea").input_value()


def test_pause_reload_and_resume_run_nothing_twice(page: Any) -> None:
    open_tab(page)
    choose(page, "Calm")
    write(page, "\n".join(f"Prompt {n}" for n in range(1, 13)))
    page.click("button#suite-run")
    page.locator(f"{SUITE} td.is-open").first.wait_for(timeout=30_000)
    page.locator("#suite-pause button").click()
    ended(page, "paused")
    assert page.locator("button#suite-run").is_visible()
    done = int(page.locator(".suite-standing [aria-valuenow]").get_attribute("aria-valuenow"))
    assert 0 < done < 12
    page.reload()
    page.wait_for_selector("button[role=tab]")
    open_tab(page)
    ended(page, "paused")
    assert page.locator("#suite-text textarea").input_value().startswith("Prompt 1\nPrompt 2")
    page.locator(f"{SUITE} [data-suite=resume]").click()
    page.wait_for_selector(f"{SUITE}[data-status=running]", timeout=10_000)
    page.reload()
    page.wait_for_selector("button[role=tab]")
    open_tab(page)
    ended(page)
    assert "12 of 12" in page.locator(".suite-standing").inner_text()
    assert page.locator(f"{SUITE} td.is-open").count() == 12


def test_only_rows_with_new_cells_are_sent_and_what_is_open_stays(page: Any) -> None:
    sent: list[list[str]] = []

    def heard(response: Any) -> None:
        if "/view?" in response.url and "after=0" not in response.url:
            sent.append(list(response.json()["rows"]))

    open_tab(page)
    choose(page, "Paris", "Calm")
    write(page, "\n".join(f"Prompt {n}" for n in range(1, 9)))
    run(page)
    page.on("response", heard)
    first = page.locator(f"{SUITE} tr[data-row='0']")
    first.locator("[data-suite=details]").click()
    page.locator(f"{SUITE} tr[data-of='0'] .suite-whole").first.wait_for()
    page.evaluate(
        "document.querySelector('tr[data-row=\"0\"]').kept = document.querySelector('tr[data-of]').kept = true"
    )
    ended(page)
    assert min(map(len, sent)) < 8
    assert sum(map(len, sent)) <= 16, "no row without a new cell of its own"
    assert page.evaluate(
        "document.querySelector('tr[data-row=\"0\"]').kept && document.querySelector('tr[data-of]').kept"
    )
    assert first.locator("[data-suite=details]").get_attribute("aria-expanded") == "true"
    assert page.locator(f"{SUITE} tr[data-of='0'] .suite-whole").count() == 2
    first.locator("[data-suite=details]").click()
    assert page.locator(f"{SUITE} tr[data-of]").count() == 0


def test_a_row_opens_in_compare(page: Any) -> None:
    open_tab(page)
    write(page, TABLE)
    run(page)
    ended(page)
    page.locator(f"{SUITE} tr[data-row='1'] [data-suite=compare]").click()
    page.wait_for_function("document.querySelector('#asked').innerText.includes('The capital of Japan?')")
    assert page.locator("#outputs .panel[aria-label^='Tokyo '] .raw").text_content() == "Tokyo is a city."
    assert page.locator("#prompt textarea").input_value() == "The capital of Japan?"


def test_a_hundred_prompts_come_in_pages_with_filters_order_and_search(page: Any) -> None:
    open_tab(page)
    choose(page, "Paris", "Fails")
    page.fill(
        "#suite-text textarea", f"prompt,__expected\n{MANY.replace(chr(10), ',icontains:Paris' + chr(10))},contains:x"
    )
    page.wait_for_timeout(1000)
    run(page)
    ended(page)
    assert len(rows(page)) == 50
    assert page.locator(".suite-pages").inner_text().split("\n")[1] == "Page 1 of 3"
    page.locator(".suite-pages [data-suite=page]").last.click()
    page.wait_for_function("document.querySelector('.suite-pages').innerText.includes('Page 2 of 3')")
    assert rows(page)[0].startswith("51 Question number 51")
    page.locator("[data-suite=words]").fill("number 77")
    page.wait_for_function("document.querySelectorAll('#suite-shown tr[data-row]').length === 1")
    assert "1 of 120 prompts" in page.locator(".suite-count").inner_text()
    page.locator("[data-suite=words]").fill("")
    page.locator("[data-suite=show][data-show=differs]").click()
    page.wait_for_function("document.querySelector('.suite-count').innerText.startsWith('119 of')")
    page.locator("[data-suite=sort]").select_option("fewest")
    page.locator("[data-suite=show][data-show=failed]").click()
    page.wait_for_function("document.querySelector('#suite-shown tr[data-row]').innerText.startsWith('120')")
    page.locator("[data-suite=show][data-show=error]").click()
    page.wait_for_function("document.querySelector('.suite-count').innerText === '120 prompts'")
    assert page.locator(f"{SUITE} [data-suite=retry]").is_visible()


def test_an_earlier_run_is_opened_compared_and_deleted(page: Any) -> None:
    open_tab(page)
    write(page, TABLE)
    run(page)
    ended(page)
    earlier = page.locator(SUITE).get_attribute("data-suite-id")
    write(page, TABLE.replace("Tokyo", "Paris"))
    page.click("button#suite-run")
    page.wait_for_function("id => document.querySelector('#suite-shown .suite').dataset.suiteId !== id", arg=earlier)
    page.wait_for_function("document.querySelectorAll('#suite-shown tr[data-row] td.is-passed').length === 2")
    ended(page)
    page.locator("[data-suite=against]").select_option(index=1)
    page.locator(".suite-against").wait_for()
    assert "are as they were" in page.locator(".suite-against").inner_text()
    page.locator("#suite-entries summary").click()
    entries = page.locator("#suite-entries .entry")
    before = entries.count()
    shown = page.locator(SUITE).get_attribute("data-suite-id")
    entries.nth(1).locator("button").click()
    page.wait_for_function("id => document.querySelector('#suite-shown .suite').dataset.suiteId !== id", arg=shown)
    page.wait_for_function("document.querySelectorAll('#suite-shown tr[data-row] td.is-passed').length === 2")
    page.locator(f"{SUITE} [data-suite=ask-delete]").click()
    assert page.evaluate("document.activeElement.dataset.suite") == "never-mind"
    page.locator(f"{SUITE} [data-suite=delete]").click()
    page.locator("#suite-shown .empty").wait_for()
    page.wait_for_function("n => document.querySelectorAll('#suite-entries .entry').length === n", arg=before - 1)


def test_the_file_may_name_its_models_and_answers_may_be_repeated(page: Any) -> None:
    open_tab(page)
    write(page, "prompts: [Hello]\nproviders: [tokyo]\ntests: [{assert: [{type: icontains, value: tokyo}]}]\n")
    page.get_by_label("Ask the models that the file names: tokyo").check()
    page.wait_for_function("document.querySelector('#suite-told').innerText.includes('1 model · 1 answer')")
    page.locator("#suite-parameters > button").click()
    page.locator("#suite-repeats input").fill("3")
    page.locator("#suite-repeats input").blur()
    page.wait_for_function("document.querySelector('#suite-told').innerText.includes('3 answers')")
    page.wait_for_function("document.querySelector('#suite-parameters > button').innerText.includes('3 answers each')")
    run(page)
    ended(page)
    (only,) = rows(page)
    assert "3 of 3 passed Tokyo is a city." in only
    assert "1 distinct answer" in only
    assert "Paris" not in only


def test_the_models_of_compare_are_taken_over_until_others_are_chosen(page: Any) -> None:
    page.locator("#models .token-remove").first.click()
    page.wait_for_function("document.querySelectorAll('#models .token').length === 1")
    page.wait_for_timeout(300)
    open_tab(page)
    page.wait_for_function("document.querySelectorAll('#suite-models .token').length === 1")
    assert page.locator("#suite-models .token").inner_text().strip().startswith("Tokyo")
    choose(page, "Calm", "Paris")
    page.get_by_role("tab", name="Compare", exact=True).click()
    open_tab(page)
    assert page.locator("#suite-models .token").count() == 2


def test_files_of_a_run(page: Any) -> None:
    open_tab(page)
    write(page, TABLE)
    run(page)
    ended(page)
    page.locator(f"{SUITE} .save-menu summary").click()
    for ending in ("csv", "xml", "html"):
        with page.expect_download() as waits:
            page.locator(f"{SUITE} .save-menu a[href$='.{ending}']").click()
        text = Path(waits.value.path()).read_text(encoding="utf-8-sig")
        assert "The capital of France?" in text, ending


def test_strangers_see_and_stop_their_own_alone(browser: Any, space: App) -> None:
    mine, other = browser.new_context(), browser.new_context()
    page = mine.new_page()
    page.goto(space.url)
    open_tab(page)
    choose(page, "Calm")
    write(page, "\n".join(f"Secret {n}" for n in range(200)))
    run(page)
    id = page.locator(SUITE).get_attribute("data-suite-id")
    theirs = other.new_page()
    theirs.goto(space.url)
    open_tab(theirs)
    assert "Secret" not in theirs.locator("body").inner_text()
    theirs.goto(f"{space.url}?tab=prompts&suite={id}")
    theirs.locator(f"{SUITE} tr[data-row]").first.wait_for(timeout=30_000)
    assert "Secret 0" in rows(theirs)[0]
    assert theirs.locator(f"{SUITE} [data-suite=ask-delete]").count() == 0
    assert not theirs.locator("#suite-pause button").is_visible()
    theirs.evaluate(PRESS, {"do": "pause", "id": id, "count": 99})
    theirs.wait_for_function("document.querySelector('#suite-told').innerText.includes('not yours')")
    assert page.locator(SUITE).get_attribute("data-status") == "running"
    page.locator("#suite-pause button").click()
    ended(page, "paused")
    write(page, MANY * 10)
    page.click("button#suite-run")
    page.wait_for_function("document.querySelector('#suite-told .problem')")
    mine.close()
    other.close()


@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_nothing_serious_and_nothing_sticks_out(browser: Any, app: App, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="light")
    page = context.new_page()
    page.goto(app.url)
    open_tab(page)
    found: dict[str, list[str]] = {}

    def look(state: str) -> None:
        faults = faults_in_light_and_dark(page)
        if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            faults.append("the page scrolls sideways")
        if faults:
            found[state] = faults

    page.locator("#suite-parameters > button").click()
    write(page, TABLE)
    look("prompts that were read, and parameters")
    page.locator("#suite-parameters > button").click()
    choose(page, "Paris", "Tokyo", "Fails")
    run(page)
    ended(page)
    page.locator(f"{SUITE} [data-suite=details]").first.click()
    page.locator(f"{SUITE} .suite-opened").wait_for()
    page.locator("#suite-entries summary").click()
    page.locator(f"{SUITE} [data-suite=ask-delete]").click()
    look("a suite")
    context.close()
    assert found == {}, "\n".join(f"{state}: {fault}" for state, all in found.items() for fault in all)


def test_the_keyboard_runs_and_the_focus_stays(page: Any) -> None:
    open_tab(page)
    choose(page, "Calm")
    write(page, "One\nTwo\nThree")
    page.focus("#suite-text textarea")
    page.keyboard.press("Control+Enter")
    page.locator(f"{SUITE} tr[data-row]").first.wait_for()
    page.focus("#suite-pause button")
    ended(page)
    page.wait_for_function("document.activeElement?.id === 'suite-run'")
    button = page.locator(f"{SUITE} [data-suite=details]").first
    button.focus()
    page.keyboard.press("Enter")
    page.locator(f"{SUITE} .suite-opened").wait_for()
    assert button.get_attribute("aria-expanded") == "true"
    assert page.locator("#said").text_content().startswith("finished")
