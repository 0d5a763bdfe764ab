"""A blind vote in a browser: between Run and the vote nothing that is sent to it joins a name or figure to a column."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from playground.service import Playground
from playground.ui.tabs import votes
from tests.support.app import App, choose, notice, serving
from tests.support.scripted_models import catalog_entry
from tests.support.votes import FAST, SLOW, answered
from tests.support.web import WEB

pytestmark = pytest.mark.ui

NAMES = ("Quagga", "Zebroid")
TEXTS = {"Quagga": "Lisbon", "Zebroid": "Porto it is, I think"}
WATCH = """
window.sent = [];
const fetched = window.fetch;
window.fetch = async (...given) => {
  const answer = await fetched(...given);
  const reader = answer.clone().body?.getReader();
  const decoder = new TextDecoder();
  (async () => {
    while (reader) {
      const { done, value } = await reader.read();
      if (done) break;
      window.sent.push(String(answer.url) + " " + decoder.decode(value));
    }
  })().catch(() => {});
  return answer;
};
const Source = window.EventSource;
window.EventSource = class extends Source {
  constructor(...given) {
    super(...given);
    this.addEventListener("message", (event) => window.sent.push(String(given[0]) + " " + event.data));
  }
};
"""
"""Keeps every piece of text that the server sends to the page after it was loaded."""
PLACES = ("#outputs", "#vote-bar", "#above", "#notice", "#said")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Two models whose names stand nowhere else, one of them slow."""
    folder = tmp_path_factory.mktemp("votes")
    scripts = {"Quagga": "step_s=0.01", "Zebroid": "step_s=0.25&load_s=0.3"}
    models = [catalog_entry(name.lower(), f"text={TEXTS[name].replace(' ', '+')}&{scripts[name]}") for name in NAMES]
    (folder / "catalog.yaml").write_text(yaml.safe_dump({"schema_version": 1, "models": models}))
    with serving(folder, "quagga, zebroid", catalog=folder / "catalog.yaml") as app:
        yield app


@pytest.fixture
def blind(page: Any) -> Any:
    """The page, watched, with both models chosen and the next run blind."""
    page.context.add_init_script(WATCH)
    page.reload()
    page.wait_for_selector("button#run")
    choose(page, *NAMES)
    page.locator("#vote-blind input").check()
    page.wait_for_timeout(300)
    page.evaluate("window.sent.length = 0")
    return page


def sent(page: Any) -> str:
    return "\n".join(page.evaluate("window.sent"))


def named(text: str) -> list[str]:
    return re.findall("quagga|zebroid", text, re.IGNORECASE)


def shown(page: Any) -> str:
    """The markup of everything that is about the answers."""
    return "".join(page.locator(place).first.evaluate("each => each.outerHTML") for place in PLACES)


def run(page: Any) -> str:
    """Run to the end; returns the comparison's id."""
    page.click("button#run")
    page.wait_for_selector("[data-vote-on]", timeout=30_000)
    return str(page.locator("[data-vote-on]").get_attribute("data-vote-on"))


def test_no_byte_and_no_tag_tells_which_column_is_which(blind: Any) -> None:
    blind.click("button#run")
    blind.wait_for_selector(
        "button#stop:visible"
    )  # until then the columns are those of the form, still without answers
    blind.wait_for_function("!/Quagga/.test(document.querySelector('#outputs').innerText)")
    while not blind.locator("[data-vote-on]").count():
        markup = shown(blind)
        assert named(markup) == []
        assert not ("Lisbon" in markup and "Porto" not in markup), "one answer before the other tells which is fast"
        blind.wait_for_timeout(50)
    notice(blind, "Done")
    assert named(shown(blind)) == []
    assert "Lisbon" in shown(blind) and "Porto it is, I think" in shown(blind)
    assert named(blind.url) == []
    stream = [line for line in sent(blind).splitlines() if "Lisbon" in line or "Porto" in line]
    assert stream, "the answers came by what is watched"
    assert [line for line in stream if named(line)] == []
    assert not re.search(r"\d tok/s|series-\d", shown(blind))


def test_other_tabs_wait_for_the_vote(blind: Any) -> None:
    run(blind)
    for tab in ("Timings", "Differences", "What they read"):
        blind.locator("#views").get_by_role("tab", name=tab).click()
        blind.wait_for_timeout(600)
        told = blind.locator("#views [role=tabpanel]:visible").first.evaluate("each => each.innerHTML")
        assert named(told) == [], tab
    assert [line for line in sent(blind).splitlines() if "Lisbon" in line and named(line)] == []


def test_the_vote_by_keyboard_reveals_in_place(blind: Any) -> None:
    run(blind)
    blind.locator("[data-vote-note]").fill("2 is in a note")
    blind.locator("[data-vote-tag]").fill("Facts")
    assert blind.locator(".vote.is-cast").count() == 0, "typing in a field is no vote"
    blind.locator("#asked").click()
    blind.keyboard.press("2")
    blind.wait_for_selector(".vote.is-cast")
    names = [blind.locator("#outputs .panel").nth(place).get_attribute("aria-label") for place in (0, 1)]
    assert sorted(name.split()[0] for name in names) == sorted(NAMES)
    assert f"You chose B: {names[1].split()[0]}" in blind.locator(".vote").inner_text()
    assert blind.locator("[data-vote-tag]").input_value() == "facts"
    for place, name in enumerate(names):
        assert TEXTS[name.split()[0]] in blind.locator("#outputs .panel").nth(place).inner_text()
    blind.locator("#views").get_by_role("tab", name="Timings").click()
    blind.wait_for_function("() => /Quagga/.test(document.querySelector('#views').innerText)")


def test_a_reload_a_link_and_the_history_stay_blind(blind: Any, app: App, browser: Any) -> None:
    id = run(blind)
    other = browser.new_context()
    page = other.new_page()
    page.goto(f"{app.url}?c={id}")
    page.wait_for_function("() => /Lisbon/.test(document.querySelector('#outputs')?.innerText)", timeout=20_000)
    assert named(shown(page)) == []
    other.close()
    blind.get_by_role("tab", name="History").click()
    blind.wait_for_timeout(1500)
    blind.reload()
    blind.wait_for_function("() => /Lisbon/.test(document.querySelector('#outputs')?.innerText)", timeout=20_000)
    assert named(shown(blind)) == []
    page_text = WEB.get(f"{app.url}?c={id}").text
    configured = json.dumps(re.findall(r"Lisbon.{0,400}", page_text))
    assert named(configured) == []


def test_ratings_stand_under_choose_after_votes(blind: Any) -> None:
    run(blind)
    blind.locator("[data-vote='tie']").click()
    blind.wait_for_selector(".vote.is-cast")
    blind.locator("#tabs").get_by_role("tab", name="Models").first.click()
    blind.locator("#models-tabs").get_by_role("tab", name="Decide").click()
    blind.wait_for_selector("table.ratings")
    told = blind.locator("#ratings").inner_text()
    assert "Quagga" in told and "Zebroid" in told and "Fewer than 5 votes" in told
    with blind.expect_download() as download:
        blind.locator("#vote-files a", has_text="CSV").click()
    assert Path(download.value.path()).read_text().startswith("model_a,model_b,winner")


def test_who_opens_somebody_elses_comparison_reads_neither_vote_nor_note(make_settings: Any) -> None:
    with Playground(make_settings(SPACE_ID="owner/name")) as playground:
        playground.keep(answered("c1", SLOW, FAST), "me")
        playground.votes_kept.begin("c1", "me", "2026-11-26T10:00:00.000Z")
        playground.vote("c1", "me", "best", 1, tag="riddle", note="for my eyes")
        stored = playground.comparison("c1")
        mine, theirs = (votes.bar(playground, stored, owner) for owner in ("me", "other"))
        assert "for my eyes" in mine and "You chose B: Fast" in mine
        assert "A is Slow" in theirs
        for word in ("for my eyes", "riddle", "chose", "data-vote-on", "<input"):
            assert word not in theirs
