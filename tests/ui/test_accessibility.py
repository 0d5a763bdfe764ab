"""What a screen reader, a keyboard and weak eyes need: axe-core finds nothing serious in any state of the page, all
that is used has a name, one place says what happens, and the keys do what the page says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_plus

import pytest
import yaml

from tests.support.app import App, choose, notice, panel, run_to_end, serving
from tests.support.axe import faults_in_light_and_dark
from tests.support.scripted_models import catalog_entry

pytestmark = pytest.mark.ui

WRITTEN = """<think>They want to see all kinds of things.</think>
# A title

A [link](https://example.org/) and `code` in a *long* line, and $a^2 + b^2$.

| a | b |
|---|--:|
| one | 1 |

```python
print("a line that is so long that no phone shows all of it and somebody has to be able to scroll to its end")
```

> quoted
"""
REGIONS = "[role=status], [role=alert], [aria-live]"
NAMELESS = """
() => {
  const seen = (each) => each.getClientRects().length > 0;
  const named = (each) => each.getAttribute("aria-label")?.trim() || each.labels?.[0]?.textContent.trim()
    || each.getAttribute("title")?.trim()
    || (each.getAttribute("aria-labelledby") ?? "").split(" ").some((id) => document.getElementById(id)?.innerText)
    || (each.matches("button, summary, a, [role=tab], [role=option]") && each.textContent.trim());
  const fields = [...document.querySelectorAll(
    "input:not([type=hidden]), textarea, select, button, a[href], [role=slider], [role=listbox], [role=group]")];
  const groups = [...document.querySelectorAll("fieldset")].filter(
    (each) => seen(each) && !each.getAttribute("aria-label") && !each.querySelector("legend")?.textContent.trim()
      && ![...each.children].some((child) => child.matches("[data-testid=block-info]") && child.textContent.trim()));
  const found = [...fields.filter((each) => seen(each) && !named(each)), ...groups];
  return found.map((each) => each.outerHTML.slice(0, 160));
}
"""
"""What is seen and can be used but has no name, as a screen reader makes one."""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """A model that writes all kinds of things, a base model, one that fails, and one that takes its time."""
    folder = tmp_path_factory.mktemp("accessibility")
    words = quote_plus("Well, let me think about it for a while before I answer.")
    models = [
        catalog_entry("writes", f"text={quote_plus(WRITTEN)}&step_s=0.002", context_length=512),
        catalog_entry("base", "text=and+so+on&template=0", kind="base"),
        catalog_entry("fails", "text=One+two+three&fail_at=3"),
        catalog_entry("slow", f"text={words}&step_s=0.3", context_length=512),
    ]
    (folder / "catalog.yaml").write_text(yaml.safe_dump({"schema_version": 1, "models": models}))
    with serving(folder, "writes, base, fails", catalog=folder / "catalog.yaml") as app:
        yield app


class Visit:
    """Goes through the page and collects what axe finds, by the state it was found in."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.found: dict[str, list[str]] = {}

    def look(self, state: str) -> None:
        """What axe finds now, in light and in dark, and our own look for names."""
        faults = [f"no name: {each}" for each in self.page.evaluate(NAMELESS)]
        faults += faults_in_light_and_dark(self.page)
        if faults:
            self.found[state] = faults

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).first.click()
        self.page.wait_for_timeout(300)

    def menu(self, opener: str, menu: str) -> None:
        """Open a menu, look, and close it."""
        self.page.locator(opener).first.click()
        self.page.locator(menu).first.wait_for()
        self.look(menu)
        self.page.keyboard.press("Escape")


@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_nothing_serious(browser: Any, app: App, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="light")
    page = context.new_page()
    page.set_default_timeout(60_000)  # axe and another test's browser may have both cores
    page.goto(app.url)
    page.wait_for_selector("button#run")
    visit = Visit(page)
    visit.look("at first")
    for name in ("Timings", "Model cards", "Differences", "What they read"):
        visit.tab(name)
        visit.look(f"{name}, before a run")
    visit.tab("Outputs")
    page.locator("#parameters > button").click()
    visit.look("parameters")
    page.locator("#parameters > button").click()
    run_to_end(page)
    page.locator("#outputs details.thinking > summary").first.click()
    visit.look("answers")
    visit.menu("#files .save-menu summary", "#files .save-menu[open] ul")
    visit.menu("#outputs .more", "#outputs .menu:popover-open")
    page.locator("#outputs .more").first.click()
    page.locator("#outputs .menu:popover-open [data-do=parameters]").click()
    page.locator("#own").wait_for()
    visit.look("own parameters")
    for name in ("Timings", "Model cards", "Differences", "What they read"):
        visit.tab(name)
        visit.look(name)
    page.click("#read-prompts")
    page.locator("#prompts .piece").first.wait_for()
    page.click("#look-at-tokens")
    page.locator("#token-views .tok[data-at]").first.wait_for()
    visit.look("tokens")
    page.locator("#token-views .tok[data-at]").first.click()
    visit.look("a token's alternatives")
    page.keyboard.press("Escape")
    _others(visit)
    _blind(visit)
    context.close()
    assert visit.found == {}, "\n".join(f"{state}: {fault}" for state, all in visit.found.items() for fault in all)


def _others(visit: Visit) -> None:
    """The other tabs, and what opens in them."""
    page = visit.page
    visit.tab("Measure")
    visit.look("Measure")
    visit.tab("Models")
    visit.look("Find")
    page.locator("#listing [data-row] td").first.click()
    page.locator("#model-detail h3").wait_for()
    visit.look("a model of the catalogue")
    visit.tab("Decide")
    visit.look("Decide")
    visit.tab("History")
    page.locator("#history-list [data-history=open]").first.click()
    page.locator("#history-opened h2").wait_for()
    visit.look("an opened entry")
    visit.tab("Learn")
    visit.look("Learn")


def _blind(visit: Visit) -> None:
    page = visit.page
    visit.tab("Compare")
    visit.tab("Outputs")
    choose(page, "Writes", "Base")
    page.locator("#vote-blind input").check()
    page.click("button#run")
    page.wait_for_selector("[data-vote-on]", timeout=30_000)
    visit.look("a vote")


def test_what_is_said_is_said_in_regions_that_are_there_from_the_start_and_stay(page: Any) -> None:
    """One that is put into the page together with its words is read by some screen readers and not by others."""
    page.evaluate(f"document.querySelectorAll('{REGIONS}').forEach((each) => {{ each.first = true; }})")
    assert page.locator(f"#title {REGIONS.replace(', ', ', #title ')}").count() == 2
    choose(page, "Writes", "Fails")
    run_to_end(page)
    assert page.locator("#said").text_content().startswith("Done")
    assert page.evaluate(f"[...document.querySelectorAll('{REGIONS}')].every((each) => each.first)")


def test_the_focus_stays_at_run_and_stop(page: Any) -> None:
    choose(page, "Slow")
    page.focus("button#run")
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement?.id === 'stop'")
    page.keyboard.press("Enter")
    notice(page, "Stopped")
    page.wait_for_function("document.activeElement?.id === 'run'")


def test_ctrl_enter_runs_and_escape_stops(page: Any) -> None:
    choose(page, "Slow")
    page.fill("#prompt textarea", "Asked by the keyboard")
    page.keyboard.press("Control+Enter")
    page.locator("button#stop").wait_for()
    page.wait_for_function("document.querySelector('#asked').innerText.includes('Asked by the keyboard')")
    assert page.evaluate("document.activeElement === document.querySelector('#prompt textarea')")
    page.keyboard.press("Escape")
    notice(page, "Stopped")


def test_escape_closes_a_menu_first(page: Any) -> None:
    choose(page, "Writes", "Slow")
    page.click("button#run")
    panel(page, "Writes").locator("button.more").click()
    page.locator("#outputs .menu:popover-open").wait_for()
    page.keyboard.press("Escape")
    page.locator("#outputs .menu:popover-open").wait_for(state="hidden")
    page.wait_for_timeout(300)
    assert page.locator("button#stop").is_visible() and page.locator("button#stop").is_enabled()
    page.keyboard.press("Escape")
    notice(page, "Stopped")


def test_arrows_go_through_tabs_and_slash_searches(page: Any) -> None:
    tab = page.get_by_role("tab", name="Compare", exact=True)
    tab.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.activeElement?.textContent.trim() === 'Prompt set'")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.activeElement?.textContent.trim() === 'Measure'")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.get_by_role("tab", name="Models", exact=True).get_attribute("aria-selected") == "true"
    page.keyboard.press("/")
    page.wait_for_function("document.activeElement?.closest('#catalogue-search') !== null")
    page.keyboard.type("a/b")
    assert page.evaluate("document.activeElement.value") == "a/b"
