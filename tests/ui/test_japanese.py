"""Two languages: every message has its Japanese, and every word that is seen on the page is a message."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from babel.messages.catalog import Message
from babel.messages.pofile import read_po

from playground import translations
from playground.catalog.entries import load_catalog
from playground.config.settings import Settings
from playground.results.costs import load_tiers
from playground.service import Playground
from playground.system.cpu import cpu_name
from playground.ui import i18n
from playground.ui.app import free_port, launch, quiet_gradio
from scripts import messages as catalogues
from tests.support.app import DATA, panel
from tests.support.pseudo_language import CLOSE, LANGUAGE, OPEN, write_pseudo_language

# -- the catalogue ------------------------------------------------------------------------------------------------

JAPANESE = translations.LOCALE / "ja" / "LC_MESSAGES" / f"{translations.DOMAIN}.po"


def forms(text: Any) -> tuple[str, ...]:
    return tuple(text) if isinstance(text, (list, tuple)) else (text or "",)


@pytest.fixture(scope="module")
def japanese() -> list[Message]:
    """What the translators were given, with what they made of it; brought up to date with the source."""
    with JAPANESE.open("rb") as file:
        catalog = read_po(file, locale="ja", domain=translations.DOMAIN)
    catalog.update(catalogues.template(), update_creation_date=False)
    return [message for message in catalog if message.id]


def test_every_message_is_translated(japanese: list[Message]) -> None:
    assert [message.id for message in japanese if not all(forms(message.string)) or message.fuzzy] == []


def fields(template: str) -> set[tuple[str, str, str]]:
    """Names, formats and conversions of a template."""
    parsed = string.Formatter().parse(template)
    return {(name, spec or "", conversion or "") for _, name, spec, conversion in parsed if name is not None}


def test_translations_have_the_fields_of_their_messages(japanese: list[Message]) -> None:
    wrong = {
        message.id: said
        for message in japanese
        for said in forms(message.string)
        if fields(said) != fields(forms(message.id)[-1])
    }
    assert wrong == {}


def test_what_stands_beside_each_other_has_a_name_of_its_own(japanese: list[Message]) -> None:
    said = {message.id: message.string for message in japanese}
    rows = (
        ("Compare", "Prompt set", "Measure", "Models", "History", "Learn"),
        ("Outputs", "Timings", "Model cards", "Differences", "What they read"),
        ("Find", "Decide"),
    )
    names = [said[name] for row in rows for name in row]
    assert len(set(names)) == len(names)


# -- the page -----------------------------------------------------------------------------------------------------

WORDS = """
([open, close]) => {
  const leftOut = "script, style, template, noscript, code, pre, q, mark, del, ins, .answer, .raw, .tok, .piece,"
    + " .suite-label, .suite-text, .suite-asked dd, .suite-head h2, .suite-tools button,"
    + " footer, .entry-name, [data-testid=reset-button], [lang]:not(html)";
  const seen = (each) => each.getClientRects().length > 0 && getComputedStyle(each).visibility !== "hidden";
  const found = [];
  let depth = 0;
  const outside = (text) => [...text].filter((sign) => {
    depth += sign === open ? 1 : sign === close ? -1 : 0;
    return !depth && sign !== close;
  }).join("").replace(/\\s+/g, " ").trim();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const each = walker.currentNode.parentElement;
    const said = outside(walker.currentNode.textContent);
    if (said && seen(each) && !each.closest(leftOut)) found.push(said);
  }
  for (const each of document.querySelectorAll("[placeholder], [title], [aria-label], [alt]")) {
    if (!seen(each) || each.closest(leftOut)) continue;
    for (const name of ["placeholder", "title", "aria-label", "alt"]) {
      depth = 0;
      found.push(outside(each.getAttribute(name) ?? ""));
    }
  }
  return [...new Set(found)];
}
"""
"""All that is seen or read aloud and stands in no message. A message may have pieces of HTML in it, so brackets are
counted from the page's first text on. Left out: code, what a model or a visitor wrote, names of languages in
themselves, and what gradio says in its own languages."""
COMMIT = re.compile(r"\b[0-9a-f]{40}\b")
WORD = re.compile(r"[^\W\d_]{2,}")
NAMES = (
    "Open-Model Playground",  # the product
    *(entry.spec.name for entry in load_catalog(DATA / "fake_catalog.yaml")),
    *("fast@fake-none", "slow@fake-none", "fake-none", "fake", "none", "scripted"),  # variants, and a runtime of tests
    *("Llama 2", "Mistral", "Falcon", "OLMo"),  # families
    cpu_name(),
    *(tier.note for tier in load_tiers()),  # of a price list
    *(
        "HTML",
        "MD",
        "CSV",
        "JSON",
        "JSONL",
        "YAML",
        "LLM Comparator",
        "questions",
    ),  # of files, what reads them, an example
    *("model_a, model_b, winner", "CPU Basic", "CPU Upgrade"),  # a file's columns; what is for rent is called so
    *("UTC", "tok/s", "ms", "MB", "GB", "USD", "nats", "bits", "vCPU", "abc"),  # units, and letters that show a colour
    *("number input for", "range slider for", "Entfernen", "Löschen"),  # gradio's own names of its parts
)
"""What is no message and should be none."""


def unsaid(page: Any) -> set[str]:
    """What the page shows that no translator can translate."""
    page.wait_for_timeout(600)
    left = set()
    for text in page.evaluate(WORDS, [OPEN, CLOSE]):
        rest = COMMIT.sub(" ", text)
        for name in sorted(NAMES, key=len, reverse=True):
            rest = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", rest)
        if WORD.search(rest):
            left.add(text)
    return left


@pytest.fixture
def address(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The app in this process, in a language in which every message stands in brackets."""
    monkeypatch.setattr(translations, "LOCALE", write_pseudo_language(tmp_path / "locale"))
    monkeypatch.setattr(i18n, "LOCALE", translations.LOCALE)
    monkeypatch.delenv("PLAYGROUND_LANGUAGE", raising=False)
    settings = replace(settings, models=("fast", "slow"), port=free_port("127.0.0.1", 0))
    with quiet_gradio(settings):
        from playground.ui import suite_views, watching
        from playground.ui.page import build_ui

        with Playground(settings) as playground:
            demo = build_ui(playground)
            launch(demo, settings, [each for part in (suite_views, watching) for each in part.routes(playground)])
            try:
                yield f"http://127.0.0.1:{settings.port}/"
            finally:
                playground.close()
                demo.close(verbose=False)


@pytest.mark.ui
@pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'", "ignore:The copy keyword is deprecated")  # gradio
def test_every_word_of_the_page_is_a_message(browser: Any, address: str) -> None:
    context = browser.new_context(locale=LANGUAGE, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("button#run")
    left = {"the first visit": unsaid(page)}
    page.fill("#prompt textarea", "123")
    page.click("button#run")
    page.wait_for_function("document.querySelector('#notice').innerText.trim().startsWith('⟦Done')")
    left["answers"] = unsaid(page)
    panel(page, "Fast").locator(".more").click()
    left["a column's menu"] = unsaid(page)
    page.locator(":popover-open [data-do=parameters]").click()
    page.wait_for_selector("#own-close:visible")
    left["own parameters"] = unsaid(page)
    page.click("#own-close")
    page.locator("#files summary").first.click()
    left["files"] = unsaid(page)
    page.locator("#files summary").first.click()
    page.locator(".slip-opener:visible").first.click()
    left["a receipt"] = unsaid(page)
    page.keyboard.press("Escape")
    for view in ("Timings", "Differences", "What they read"):
        page.get_by_role("tab", name=f"⟦{view}⟧", exact=True).click()
        left[view] = unsaid(page)
    page.get_by_role("tab", name="⟦Prompt set⟧", exact=True).click()
    page.get_by_role("button", name="⟦A table with checks⟧").click()
    page.wait_for_selector("#suite-told p")
    left["prompts"] = unsaid(page)
    page.click("button#suite-run")
    page.wait_for_selector(".suite[data-status=done]", timeout=60_000)
    page.locator(".suite [data-suite=details]").first.click()
    page.wait_for_selector(".suite-checks")
    page.locator(".suite .save-menu summary").click()
    left["a prompt set"] = unsaid(page)
    for tab in ("Measure", "Models", "History", "Learn"):
        page.get_by_role("tab", name=f"⟦{tab}⟧", exact=True).click()
        left[tab] = unsaid(page)
        if tab == "Models":
            page.get_by_role("tab", name="⟦Decide⟧", exact=True).click()
            left["Decide"] = unsaid(page)
        if tab == "History":
            page.locator("#history-list [data-history=open]").first.click()
            page.wait_for_selector(".opened")
            left["an entry"] = unsaid(page)
    context.close()
    assert sorted({word for words in left.values() for word in words}) == []
