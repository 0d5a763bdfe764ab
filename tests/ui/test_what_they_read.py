"""What they read, in a real browser and app: prompts, token views, and going on from another token."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.app import App, run_to_end, serving
from tests.support.axe import faults
from tests.support.scripted_models import catalog_entry

pytestmark = pytest.mark.ui

SCRIPTS = {
    "one": "text=the+quick+brown+fox+jumps&step_s=0.01&sure=9",
    "other": "text=the+quick+red+fox+jumps&step_s=0.01&sure=12",
    "slow": "text=a+b+c+d+e+f+g+h&step_s=1",
    "unready": "text=a&prepare_s=600",
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("read")
    models = [catalog_entry(name, script) for name, script in SCRIPTS.items()]
    (folder / "catalog.yaml").write_text(yaml.safe_dump({"schema_version": 1, "models": models}))
    with serving(folder, "one, other", folder / "catalog.yaml") as app:
        yield app


def open_tab(page: Any) -> None:
    page.get_by_role("tab", name="What they read").click()
    page.wait_for_selector("#read-prompts:visible")


def answered(page: Any, prompt: str = "Say it.") -> None:
    page.fill("#prompt textarea", prompt)
    run_to_end(page)
    open_tab(page)


def choose(page: Any, box: str, starts: str) -> None:
    page.locator(f"{box} input").click()
    page.locator("[role=option]:visible", has_text=re.compile(rf"^\W*{re.escape(starts)}")).first.click()


def done(page: Any) -> None:
    page.wait_for_function("() => document.querySelector('#tokens-state').innerText.startsWith('Done')", timeout=30_000)


def test_the_prompt_above_is_shown_as_each_model_reads_it_before_anything_ran(page: Any) -> None:
    page.fill("#prompt textarea", "Say <b>it</b>")
    open_tab(page)
    page.click("#read-prompts")
    page.wait_for_function("() => document.querySelectorAll('#prompts .prompt-run').length === 2", timeout=30_000)
    first = page.locator("#prompts .prompt-view").first
    assert first.locator(".piece").all_inner_texts() == ["[user] ", "Say ", "<b>it</b> ", "[assistant]"]
    assert first.locator(".piece.control").count() == 2
    assert "4 tokens · 6.2 % of its context of 64 · 60 tokens are left for the answer" in first.inner_text()


def test_an_answer_is_looked_at_and_gone_on_from_another_token(page: Any) -> None:
    answered(page)
    choose(page, "#tokens-answer", "1. One")
    page.click("#look-at-tokens")
    done(page)
    assert page.locator("#token-views .tok[data-at]").all_inner_texts() == ["the ", "quick ", "brown ", "fox ", "jumps"]
    page.locator("#token-views .tok[data-at='2']").click()
    slip = page.locator("#token-views .token-slip")
    assert "rank" in slip.inner_text() and slip.locator("li").count() >= 5
    own = slip.locator("li").first
    assert own.locator("b").inner_text() == "brown␣"
    slip.locator("li").nth(1).locator("[data-do=go-on]").click()
    page.wait_for_function(
        "() => document.querySelector('#outputs .panel').textContent.match(/the quick <\\d+>\\s*fox jumps/)",
        timeout=30_000,
    )


def test_two_answers_stand_over_the_same_characters(page: Any) -> None:
    answered(page)
    choose(page, "#tokens-answer", "1. One")
    choose(page, "#tokens-beside", "2. Other")
    page.click("#look-at-tokens")
    done(page)
    kinds = page.locator("#token-views .pair").evaluate_all("all => all.map(pair => pair.classList[1])")
    assert kinds == ["is-same", "is-same", "is-different", "is-same", "is-same"]
    different = page.locator("#token-views .pair.is-different")
    assert different.locator(".row-0").inner_text().strip() == "brown"
    assert different.locator(".row-1").inner_text().strip() == "red"


def test_before_the_first_answer_looking_says_what_to_do(page: Any) -> None:
    open_tab(page)
    page.click("#look-at-tokens")
    page.wait_for_selector("#tokens-state .problem")
    assert "Run a comparison, or open one of the history" in page.locator("#tokens-state").inner_text()


def test_axe_finds_nothing_serious(page: Any) -> None:
    answered(page)
    page.click("#read-prompts")
    choose(page, "#tokens-answer", "1. One")
    page.click("#look-at-tokens")
    done(page)
    assert faults(page, "#views") == []
