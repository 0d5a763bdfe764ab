"""The files that the README's commands name are read as they lie there."""

from __future__ import annotations

from playground.choose.file import read_choice
from playground.paths import ROOT
from playground.suites.reading import read_suite_file

EXAMPLES = ROOT / "docs" / "examples"


def test_the_suite_has_prompts_checks_and_models() -> None:
    suite = read_suite_file(EXAMPLES / "prompts.yaml")
    assert len(suite.rows) >= 5 and suite.columns and not suite.notes
    assert all(suite.checks)


def test_the_limits_are_of_that_suite() -> None:
    choice = read_choice(EXAMPLES / "limits.yaml")
    assert choice.suite_file == EXAMPLES / "prompts.yaml"
    assert choice.models and choice.limits.stated


def test_the_readme_names_both() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"docs/examples/{name}" in readme for name in ("prompts.yaml", "limits.yaml"))
