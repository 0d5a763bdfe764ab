"""The Differences tab in a real browser, on scripted models: words, groups, both views, and token by token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.app import App, choose, run_to_end, serving
from tests.support.axe import faults_in_light_and_dark
from tests.support.scripted_models import catalog_entry

pytestmark = pytest.mark.ui

SAME = {"upstream": "owner/same"}
MODELS = {
    "one": ("text=the+quick+brown+fox&step_s=0.02", SAME),
    "other": ("text=the+quick+red+fox&step_s=0.02", SAME),
    "thinks": ("text=<think>a+brown+one%3F</think>+the+quick+red+fox", {}),
    "apart": ("text=nothing+of+that+kind", {}),
    "broken": ("text=the+quick&fail_score=1", SAME),
    "slow": ("text=a+b+c+d+e+f+g+h&step_s=2", SAME),
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("differences")
    models = [catalog_entry(name, script, **more) for name, (script, more) in MODELS.items()]
    (folder / "catalog.yaml").write_text(yaml.safe_dump({"schema_version": 1, "models": models}))
    with serving(folder, ", ".join(MODELS), folder / "catalog.yaml") as app:
        yield app


def compare(page: Any, *names: str) -> None:
    """Run these models, and look at the tab."""
    choose(page, *names)
    run_to_end(page)
    page.get_by_role("tab", name="Differences").click()
    page.wait_for_selector("#differences .pair")


def pick(page: Any, box: str, name: str) -> None:
    page.locator(f"{box} input").click()
    listed = page.locator(f"{box} input").get_attribute("aria-controls")  # another list may still be closing
    page.locator(f"#{listed}").get_by_role("option", name=name).click()


def seen(page: Any) -> list[str]:
    """The texts that can be seen, a side each."""
    return [" ".join(text.split()) for text in page.locator("#differences .words:visible").all_inner_texts()]


def state(page: Any, words: str) -> str:
    page.wait_for_function(
        "words => document.querySelector('#diff-state').innerText.includes(words)", arg=words, timeout=30_000
    )
    return str(page.locator("#diff-state").inner_text())


def test_two_answers_side_by_side_and_in_one(page: Any) -> None:
    compare(page, "One", "Other")
    assert seen(page) == ["the quick brown fox", "the quick red fox"]
    page.get_by_label("Inline").check()
    page.wait_for_selector("#differences[data-view=inline]")
    assert seen(page) == ["the quick brown red fox"]
    lines = page.evaluate(
        "[...document.querySelectorAll('#differences .left :is(ins, del)')]"
        ".map(each => getComputedStyle(each).textDecorationLine)"
    )
    assert lines == ["line-through", "underline"]


def test_what_was_thought_is_no_part_of_an_answer_and_groups_are_named(page: Any) -> None:
    compare(page, "Apart", "Other", "Thinks")
    shown = page.locator("#differences-shown")
    assert shown.locator(".pair").count() == 2
    assert "2 say the same" in shown.locator(".groups").inner_text()
    assert "Alone" in shown.locator(".groups").inner_text()
    pick(page, "#diff-reference", "3 · Thinks")
    page.wait_for_function("document.querySelector('#differences-shown .pair').ariaLabel.startsWith('3 · Thinks')")
    pick(page, "#diff-other", "2 · Other")
    page.wait_for_function("document.querySelectorAll('#differences-shown .pair').length === 1")
    assert "The same text, word by word" in shown.inner_text()


def test_what_has_come_so_far_is_compared_while_a_model_still_answers(page: Any) -> None:
    choose(page, "One", "Slow")
    page.click("button#run")
    page.wait_for_selector("#outputs .panel[aria-label^='Slow '].is-token", timeout=30_000)
    page.get_by_role("tab", name="Differences").click()
    page.wait_for_selector("#differences .pair")
    assert "Still being written" in page.locator("#differences-shown").inner_text()
    page.click("button#stop")
    page.wait_for_function("!document.querySelector('#differences-shown').innerText.includes('Still being')")


def test_two_variants_of_one_model_are_compared_token_by_token(page: Any) -> None:
    compare(page, "One", "Other")
    page.get_by_role("button", name="Token by token").first.click()
    page.locator("button#diff").click()
    state(page, "Done")
    shown = page.locator("#diff-shown")
    assert shown.locator("article mark.parts").all_inner_texts() == ["brown ", "red "]
    assert shown.locator("article .answer").first.inner_text().splitlines() == ["the quick brown fox"], "one line"
    assert "1 of 4" in shown.locator(".tiles").inner_text()
    assert "nats a token" in shown.locator(".tiles").inner_text()


def test_two_models_are_told_when_tokens_can_be_compared(page: Any) -> None:
    compare(page, "One", "Thinks")
    page.get_by_role("button", name="Token by token").first.click()
    assert "one model in two precisions" in page.locator("#token-diff-why").inner_text()
    assert not page.locator("button#diff").is_visible()


def test_a_variant_that_cannot_be_scored_is_named(page: Any) -> None:
    compare(page, "One", "Broken")
    page.get_by_role("button", name="Token by token").first.click()
    page.locator("button#diff").click()
    assert "broken: its script says that scoring fails" in state(page, "fails")
    assert page.locator("button#diff").is_enabled()


def test_stop_ends_it(page: Any) -> None:
    compare(page, "One", "Slow")
    page.get_by_role("button", name="Token by token").first.click()
    page.locator("button#diff").click()
    page.wait_for_selector("#diff-shown .panel.is-token", timeout=30_000)
    page.click("button#stop-diff")
    assert "was stopped" in state(page, "stopped")
    page.wait_for_selector("button#diff:enabled")


def test_axe_finds_nothing_serious(page: Any) -> None:
    compare(page, "One", "Other")
    page.get_by_role("button", name="Token by token").first.click()
    page.wait_for_timeout(500)
    assert faults_in_light_and_dark(page, "#differences") == []


class TestPhone:
    @pytest.fixture
    def viewport(self) -> dict[str, int]:
        return {"width": 390, "height": 844}

    def test_both_texts_are_one_by_itself_and_nothing_is_wider_than_the_page(self, page: Any) -> None:
        compare(page, "One", "Other")
        assert seen(page) == ["the quick brown red fox"]
        assert page.get_by_label("Inline").is_checked()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
