"""axe-core on a page as it is now."""

from __future__ import annotations

from typing import Any

import pytest

SERIOUS = ("serious", "critical")
COLOURS = ("color-contrast", "link-in-text-block")
"""The rules that ask what colours are. All others find the same in light and in dark."""
SETTLED = """
async () => {
  const frame = () => new Promise(requestAnimationFrame);
  const ends = (each) => each.playState === "running" && Number.isFinite(each.effect?.getComputedTiming().endTime);
  const began = performance.now();
  for (let quiet = 0; quiet < 2; quiet += 1) {
    await frame();
    const moving = document.getAnimations().filter(ends);
    if (!moving.length) continue;
    if (performance.now() - began > 20_000) throw new Error(`${moving[0].effect.target?.outerHTML} does not rest`);
    quiet = 0;
    await Promise.race([
      Promise.allSettled(moving.map((each) => each.finished)),
      new Promise((resolve) => setTimeout(resolve, 1000)),
    ]);
  }
}
"""
"""Until nothing moves or fades any more, but for what never ends, in two frames that follow each other."""
RUN = """
([within, rules]) => axe
  .run(within ?? document, {resultTypes: ["violations"], ...(rules ? {runOnly: rules} : {})})
  .then((found) => found.violations)
"""


def settle(page: Any) -> None:
    """Wait until colours have faded in and what opens has opened."""
    page.evaluate(SETTLED)


def violations(page: Any, within: str | None = None, rules: tuple[str, ...] | None = None) -> list[dict[str, Any]]:
    """What axe finds in ``within``, a selector (the whole page if None), by ``rules`` alone if some are named."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe().axe_script)
    found: list[dict[str, Any]] = page.evaluate(RUN, [within, list(rules) if rules else None])
    return found


def faults(page: Any, within: str | None = None, rules: tuple[str, ...] | None = None) -> list[str]:
    """One line for each place with a serious violation."""
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:160]} {node['failureSummary'][:300]}"
        for rule in violations(page, within, rules)
        if rule["impact"] in SERIOUS
        for node in rule["nodes"]
    ]


def faults_in_light_and_dark(page: Any, within: str | None = None) -> list[str]:
    """By every rule in light, which stays, and by those about colours in dark."""
    found = []
    for scheme, rules in (("dark", COLOURS), ("light", None)):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function("dark => document.body.classList.contains('dark') === dark", arg=scheme == "dark")
        settle(page)
        found += [f"{scheme}: {fault}" for fault in faults(page, within, rules)]
    return found
