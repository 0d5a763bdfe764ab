"""Suites by the service: whose they are, how many a visitor may have, and what is told of one that is kept."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from playground.config.settings import Settings
from playground.errors import UsageError
from playground.experiments import suite_job
from playground.experiments.suite_job import SuiteJob
from playground.records import Column, Request
from playground.service import Playground
from tests.support.suites import begin, cells_of, columns, suite
from tests.support.watching import script, until

FILE = """
description: Capitals
prompts: ["What is the capital of {{country}}?"]
providers: [fast]
tests:
  - {vars: {country: France}, assert: [{type: icontains, value: paris}]}
  - {vars: {country: Japan}, assert: [{type: icontains, value: tokyo}]}
"""
LONG = script(text="la " * 40, step_s=0.2)


@pytest.fixture
def space(make_settings: Callable[..., Settings]) -> Iterator[Playground]:
    """A playground that strangers visit."""
    with Playground(make_settings(SPACE_ID="o/n")) as playground:
        yield playground


def test_a_file_is_read_run_and_kept_as_it_was_written(playground: Playground) -> None:
    job = playground.suite(FILE, "capitals.yaml")
    assert job.result().status == "done"
    run = playground.suite_run(job.id)
    assert run
    assert (run.name, run.file, len(run.rows)) == ("Capitals", FILE, 2)
    assert [cell.passed for cell in cells_of(playground, job.id)] == [True, False]
    summary = playground.suite_summary(job.id)
    assert (summary.cells, summary.total, summary.passed, summary.judged) == (2, 2, 1, 2)
    assert playground.suites()[0].done == 2


def test_models_given_stand_in_place_of_the_files(playground: Playground) -> None:
    asked = Column(playground.variants(["slow"])[0], Request(max_new_tokens=2))
    job = playground.suite(FILE, "capitals.yaml", [asked, "fast"], request=Request(max_new_tokens=3))
    run = job.result()
    assert [(str(each.variant), each.request.max_new_tokens if each.request else 0) for each in run.columns] == [
        ("slow@fake-none", 2),
        ("fast@fake-none", 3),
    ]
    assert [cell.run.timings.output_tokens for cell in cells_of(playground, job.id)] == [2, 3, 2, 3]


def test_what_is_wrong_with_a_files_model_is_told_with_its_place(playground: Playground) -> None:
    with pytest.raises(UsageError, match=r"providers.*Unknown model 'fsat'.*Did you mean fast"):
        playground.suite(FILE.replace("[fast]", "[fsat]"), "capitals.yaml")


def test_the_first_prompts_alone(playground: Playground) -> None:
    job = playground.begin_suite(suite(10), columns(playground, ["fast"]), limit=3)
    assert len(job.result().rows) == 3
    assert len(cells_of(playground, job.id)) == 3


def test_what_was_counted_is_counted_on_from_there(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    job = begin(playground, ["fast"], 4)
    job.result()
    asked: list[int] = []
    cells = playground.suites_kept.cells
    monkeypatch.setattr(
        playground.suites_kept, "cells", lambda id, after=0, limit=500: asked.append(after) or cells(id, after, limit)
    )
    assert playground.suite_summary(job.id) == playground.suite_summary(job.id)
    assert asked.count(0) == 1
    assert playground.suite_summary(job.id).cells == 4


def test_a_suite_of_one_visitor_is_not_anothers(space: Playground) -> None:
    job = begin(space, ["fast"], 2, owner="ann")
    job.result()
    assert [entry.id for entry in space.suites("ann")] == [job.id]
    assert space.suites("bob") == space.suites("") == []
    assert space.owns_suite(job.id, "ann")
    assert not space.owns_suite(job.id, "bob")
    assert not space.owns_suite(job.id, "")
    for change in (space.delete_suite, space.pause_suite, space.resume_suite):
        with pytest.raises(UsageError, match="not yours"):
            change(job.id, "bob")
    assert space.suite_run(job.id)  # whoever knows the id may read
    space.delete_suite(job.id, "ann")
    assert space.suite_run(job.id) is None


@pytest.mark.waits
@pytest.mark.alone
def test_strangers_do_not_fill_the_queue(space: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    job = begin(space, [LONG], 4, owner="ann")
    with pytest.raises(UsageError, match="still going on"):
        begin(space, ["fast"], 2, owner="ann")
    other = begin(space, ["fast"], 2, owner="bob")
    limits = replace(space.settings.limits, max_suite_answers=3)
    monkeypatch.setattr(space, "settings", replace(space.settings, limits=limits))
    with pytest.raises(UsageError, match="4 answers are too many"):
        begin(space, ["fast"], 4, owner="eve")
    with pytest.raises(UsageError, match="Visitors share the models here"):
        begin(space, ["fast"], 1, owner="eve", request={"reuse": True})
    with pytest.raises(UsageError, match="at most 4"):
        many = [Column(space.variants(["fast"])[0], Request(seed=seed)) for seed in range(5)]
        space.begin_suite(suite(1), many, owner="eve")
    space.pause_suite(job.id, "ann", at_once=True)
    assert job.wait(30)
    assert other.wait(10)
    assert space.suites("eve") == []


@pytest.mark.waits
@pytest.mark.alone
def test_a_stranger_who_presses_several_times_at_once_begins_one_suite(
    space: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_kept = space.suites_kept.begin

    def slowly(*given: Any) -> None:
        time.sleep(0.2)
        begin_kept(*given)

    monkeypatch.setattr(space.suites_kept, "begin", slowly)

    def press(_: int) -> SuiteJob | None:
        try:
            return begin(space, [LONG], 4, owner="ann")
        except UsageError:
            return None

    with ThreadPoolExecutor(4) as threads:
        begun = [job for job in threads.map(press, range(4)) if job]
    for job in begun:
        space.pause_suite(job.id, "ann", at_once=True)
        assert job.wait(30)
    assert len(begun) == 1


@pytest.mark.waits
@pytest.mark.alone
def test_a_suite_that_another_process_runs_is_not_paused_from_here(
    playground: Playground, make_settings: Callable[..., Settings]
) -> None:
    job = begin(playground, [LONG], 2)
    with Playground(make_settings()) as other:
        assert other.suites()[0].status == "running"
        assert other.running_suite(job.id) is None
        with pytest.raises(UsageError, match="Another process runs"):
            other.pause_suite(job.id)
        with pytest.raises(UsageError, match="is being run already"):
            other.resume_suite(job.id)
    assert playground.running_suite(job.id) is job
    playground.pause_suite(job.id, at_once=True)
    assert job.wait(30)
    until(lambda: playground.running_suite(job.id) is None)
    playground.pause_suite(job.id)  # it is: nothing to do


@pytest.mark.waits
@pytest.mark.alone
def test_a_suite_that_is_gone_on_with_on_another_machine_says_so(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = begin(playground, [LONG], 2)
    assert job.notes == ()
    job.stop()
    job.wait(30)
    here = suite_job.environment()
    monkeypatch.setattr(suite_job, "environment", lambda: replace(here, cores=64))
    again = playground.resume_suite(job.id)
    (note,) = again.notes
    assert f"cores {here.cores} → 64" in note
    again.stop()
    again.wait(30)


def test_a_suite_there_is_not_is_named(playground: Playground) -> None:
    for ask in (
        lambda: playground.suite_summary("none"),
        lambda: playground.suite_outcomes("none"),
        lambda: playground.export_suite("none", "json", io.StringIO()),
        lambda: playground.delete_suite("none"),
    ):
        with pytest.raises(UsageError, match="No suite has the id 'none'"):
            ask()
    assert playground.suite_run("none") is None
    assert not playground.owns_suite("none", "")
