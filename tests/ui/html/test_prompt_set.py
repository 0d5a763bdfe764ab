"""The pieces of the Prompt set tab: what a cell says, whose words are made safe, what a pass rate is shown with."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from playground.catalog.entries import Catalog
from playground.messages import NOTHING, msg
from playground.records import CheckResult
from playground.results.costs import load_tiers
from playground.results.statistics import paired, rate
from playground.results.suite_summary import Tally, regression, summarise
from playground.results.suite_summary import outcomes as outcomes_of
from playground.ui.html import panel
from playground.ui.html import prompt_set as view
from playground.ui.html import prompt_set_matrix as rows
from playground.ui.html import prompt_set_summary as summary
from playground.ui.html.prompt_set import Standing
from playground.ui.html.prompt_set_examples import Example, examples_html
from playground.ui.html.prompt_set_summary import Summed, Told
from playground.ui.matrix import Matrix
from tests.support.suite_runs import cell, outcomes, suite_run

MODELS = ("fast", "slow")


@pytest.fixture
def labels(fake_catalog: Catalog) -> tuple[panel.Label, ...]:
    return panel.labels(fake_catalog, [column.variant for column in suite_run(models=MODELS).columns])


def text_of(markup: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", markup)).strip()


def row(labels: tuple[panel.Label, ...], *cells_of: dict[str, object], **of_run: object) -> str:
    run = suite_run(rows=1, models=MODELS, **of_run)  # type: ignore[arg-type]
    matrix = Matrix(run)
    matrix.add([cell(run, 0, **each) for each in cells_of], len(cells_of))  # type: ignore[arg-type]
    return rows.row_html(matrix, 0, labels)


def test_a_cell_says_whether_it_passed_what_was_said_and_why_not(labels: tuple[panel.Label, ...]) -> None:
    markup = row(labels, {"column": 0, "text": "Paris it is."}, {"column": 1, "passed": False, "text": "Lyon."})
    told = text_of(markup)
    assert "✓ passed Paris it is. 20.0 tok/s · 1.00 s" in told
    assert "✕ failed Lyon. contains The answer does not have it 20.0 tok/s · 1.00 s" in told
    assert 'class="is-passed"' in markup
    assert 'class="is-failed"' in markup


def test_a_cell_that_is_not_there_failed_or_was_cut_off_says_so(labels: tuple[panel.Label, ...]) -> None:
    told = text_of(row(labels, {"column": 0, "passed": False, "error": "no memory"}))
    assert "! error It failed: no memory" in told
    assert told.endswith("waiting")
    assert "not answered yet" in text_of(row(labels, {"column": 0}, status="paused"))
    assert "· cut off" in text_of(row(labels, {"column": 0, "finish": "length"}))
    assert "an empty answer" in text_of(row(labels, {"column": 0, "text": " "}))


def test_repeats_say_how_many_passed_and_how_many_answers_there_are(labels: tuple[panel.Label, ...]) -> None:
    cells = [{"column": 0, "sample": n, "passed": n < 2, "text": "ab"[n > 0]} for n in range(3)]
    told = text_of(row(labels, *cells, repeats=3))
    assert "✕ 2 of 3 passed a" in told
    assert "2 distinct answers" in told


def test_what_others_wrote_is_shown_as_it_stands(labels: tuple[panel.Label, ...]) -> None:
    evil = '<img src=x onerror="alert(1)">'
    run = suite_run(rows=1, models=MODELS, name=evil)
    asked = replace(
        run.rows[0], label=evil, prompt=evil, system=evil, vars={evil: evil}, metadata={evil: evil}, place=evil
    )
    run = replace(run, rows=(asked,))
    matrix = Matrix(run)
    bad = replace(
        cell(run, 0, 0, False, text=evil), checks=(CheckResult(evil, False, 0.0, msg("{x}", x=evil), value=evil),)
    )
    matrix.add([bad], 1)
    for markup in (
        rows.row_html(matrix, 0, labels),
        rows.detail_html(matrix, 0, labels),
        view.frame_html(run, labels, {evil: evil}, yours=True),
        view.standing_html(Standing("running", 1, 2, NOTHING, msg("{x}", x=evil), msg("{x}", x=evil))),
        examples_html([Example(msg("{x}", x=evil), evil, evil)]),
    ):
        assert "<img" not in markup
        assert "&lt;img" in markup


def test_details_have_the_whole_prompt_and_every_check(labels: tuple[panel.Label, ...]) -> None:
    run = suite_run(rows=1, models=MODELS, repeats=2)
    matrix = Matrix(run)
    matrix.add([cell(run, 0, 0, n == 0, n, text=f"Answer {'x' * 400} {n}") for n in range(2)], 2)
    told = text_of(rows.detail_html(matrix, 0, labels))
    assert "What is 1?" in told
    assert "{{n}} 1" in told
    assert "row 1" in told
    assert told.count("x" * 400) == 2
    assert "✓ met contains it The answer has it" in told
    assert "✕ not met contains it The answer does not have it" in told
    assert "not answered yet" in told


def test_a_pass_rate_has_its_interval() -> None:
    markup = summary.rate_html(rate(dict(enumerate([1.0] * 17 + [0.0] * 3))))
    assert text_of(markup) == "85 % 17 of 20 95 %: 64 to 95 %"
    assert 'style="left:64.0%;width:30.8%"' in markup
    assert text_of(summary.rate_html(rate({1: 0.5, 2: 1.0}))) == "75 % 1.5 of 2 95 %: 20 to 97 %"
    assert summary.rate_html(rate({})) == "–"


def summed(labels: tuple[panel.Label, ...], *signs: str) -> str:
    run = suite_run(rows=len(signs[0]), models=MODELS)
    told = (Told("apache-2.0", "https://example.org/"), Told())
    return summary.summary_html(Summed(summarise(run, outcomes(run, *signs)), labels, told, load_tiers()))


def test_models_stand_with_speed_memory_cost_and_licence(labels: tuple[panel.Label, ...]) -> None:
    markup = summed(labels, "++++++++++", "-----++++.")
    told = text_of(markup)
    assert "Fast fake-none 100 % 10 of 10 95 %: 72 to 100 % 20.0 tok/s 100 ms 300 MB 0.417 USD apache-2.0" in told
    assert "Slow fake-none 44 % 4 of 9" in told
    assert "unknown" in told
    assert "Fast against Slow: no difference seen They differ on 5 of 9 prompts; fewer than 6" in told
    assert summed(labels, ".", ".") == ""


def test_a_difference_is_told_with_its_counts(labels: tuple[panel.Label, ...]) -> None:
    told = text_of(summed(labels, "+" * 12, "-" * 10 + "++"))
    assert "Fast against Slow: better on 10 prompts, worse on 0 Better on 10, worse on 0 of 12 prompts." in told


def test_figures_of_models_that_shared_the_machine_say_so(labels: tuple[panel.Label, ...]) -> None:
    run = suite_run(rows=1, models=MODELS)
    cells = [cell(run, 0, 0, mode="fast")]
    found = summary.summary_html(Summed(summarise(run, cells), labels, (Told(), Told()), load_tiers()))
    assert "do not compare them by these times" in found


def test_three_cells_got_worse(labels: tuple[panel.Label, ...]) -> None:
    run = suite_run(rows=6, models=MODELS)

    def tally(*signs: str) -> Tally:
        made = Tally(run)
        for each in outcomes(run, *signs):
            made.add(each)
        return made

    change = regression(outcomes_of(run, tally("++++++", "------")), outcomes_of(run, tally("---+++", "+-----")))
    keys = list(change.tests)
    told = text_of(summary.change_html(change, dict(zip(keys, labels, strict=True))))
    assert told.startswith("3 cells got worse, 1 got better, 8 are as they were.")
    assert "Fast fake-none now against then: no difference seen" in told


def test_how_far_it_is() -> None:
    told = view.standing_html(Standing("running", 3, 12, msg("about {n} minutes left", n=2), msg("Fast is answering")))
    assert text_of(told) == "running · 3 of 12 answers · about 2 minutes left Fast is answering"
    assert 'aria-valuenow="3"' in told
    assert "width:25.0%" in told
    done = view.standing_html(Standing("done", 12, 12))
    assert text_of(done) == "finished · 12 of 12 answers"
    assert "progress" not in done


def test_only_ones_own_can_be_paused_and_deleted(labels: tuple[panel.Label, ...]) -> None:
    run = suite_run(models=MODELS)
    mine, theirs = (view.frame_html(run, labels, {}, yours=yours) for yours in (True, False))
    for what in ("resume", "delete", "again", "retry"):
        assert f'data-suite="{what}"' in mine
        assert f'data-suite="{what}"' not in theirs
    assert f"export/suite/{run.id}.xml" in theirs


def test_pages_and_counts() -> None:
    assert view.pages_html(0, 1) == ""
    assert text_of(view.pages_html(1, 3)) == "← Before Page 2 of 3 Next →"
    assert view.pages_html(2, 3).count("disabled") == 1
    assert view.count_words(12, 40) == "12 of 40 prompts"
    assert view.count_words(40, 40) == "40 prompts"


def test_a_test_of_one_pair() -> None:
    test = paired({1: 1.0}, {1: 0.0})
    assert "no difference seen" in summary.pair_html(msg("one against two"), test)
