"""Comparisons of scripted models in real worker processes: fair, fast, stopped, failing, and side by side."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import pytest

from playground.catalog.entries import Catalog
from playground.config.settings import Settings
from playground.errors import BadRequest, StorageError, UnknownModel, UnknownVariant, UsageError
from playground.experiments.base import Machine
from playground.experiments.compare import Comparer
from playground.export import Preparation, Preparer
from playground.records import Artifact, Comparison, Event, Fidelity, ModelRun, Request, Variant
from playground.results.figures import others_note
from playground.results.receipts import of_comparison
from playground.service import Playground
from playground.system.contention import Counters
from playground.workers.pool import Pool
from tests.support.watching import ASK, compare, everything, interval, live, script, until

pytestmark = [pytest.mark.waits, pytest.mark.alone]


class OneArtifact:
    """A preparer for whom every model is ready in a way the test chooses."""

    def __init__(self, artifact: Artifact | Exception) -> None:
        self.artifact = artifact

    def state(self, variant: Variant) -> Preparation:
        if isinstance(self.artifact, Exception):
            raise self.artifact
        return Preparation("ready", artifact=self.artifact)

    def paused(self) -> AbstractContextManager[None]:
        return nullcontext()


# -- what is checked first ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "models", "mode", "error", "words"),
    [
        (ASK, [], "fair", UsageError, "No model is chosen"),
        (ASK, ["fst"], "fair", UnknownModel, "Did you mean fast"),
        (ASK, ["fast", "fast@onnx-int8"], "fair", UnknownVariant, "fast@fake-none"),
        (ASK, ["fast", "fast@fake-none"], "fair", UsageError, "chosen twice"),
        (ASK, ["fast", "slow", "base", "fails", "dies"], "fair", UsageError, "at most 4"),
        (ASK, ["fast"], "quick", UsageError, "fair and fast"),
        (Request(""), ["fast"], "fair", BadRequest, "prompt is empty"),
        (Request("x" * 100_000), ["fast"], "fair", BadRequest, "100,000 characters"),
        (replace(ASK, temperature=-1), ["fast"], "fair", BadRequest, "temperature"),
        (replace(ASK, max_new_tokens=0), ["fast"], "fair", BadRequest, "max_new_tokens"),
        (Request("\ud800"), ["fast"], "fair", BadRequest, "prompt"),
    ],
)
def test_a_wrong_question_is_refused_before_any_work(
    playground: Playground, *, request_: Request, models: list[str], mode: str, error: type[UsageError], words: str
) -> None:
    with pytest.raises(error, match=words):
        playground.comparer.start(request_, models, mode)  # type: ignore[arg-type]
    assert playground.pool.loaded() == []


# -- fair and fast -----------------------------------------------------------------------------------------------


def test_fair_runs_one_model_at_a_time_with_all_threads(playground: Playground) -> None:
    running = playground.comparer.start(ASK, ["slow", "fast", "base"])
    events = everything(running)
    spans = [interval(events, model) for model in ("slow", "fast", "base")]
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert end <= start
    runs = running.result().runs
    assert [str(run.variant) for run in runs] == ["slow@fake-none", "fast@fake-none", "base@fake-none"]
    assert {run.timings.threads for run in runs} == {2}
    assert {run.timings.mode for run in runs} == {"fair"}
    assert all(run.error is None and run.finish_reason == "stop" for run in runs)
    assert runs[1].text == "Paris is the capital of France."


def test_a_run_says_what_other_programs_used_meanwhile(playground: Playground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a core in two seconds; what was too short to tell is not told."""
    readings = iter([Counters(0, 0, 0), Counters(2, 3, 2), Counters(9, 9, 9), Counters(9.1, 9.2, 9.1)])
    monkeypatch.setattr("playground.experiments.compare.contention.read", lambda: next(readings))
    done = compare(playground, "fast", "base")
    assert [run.timings.other_cpu_cores for run in done.runs] == [0.5, None]
    told = [receipt.other_cpu_cores for receipt in of_comparison(done).models]
    assert told == [0.5, None]
    assert "50 % of a core" in others_note(run.timings for run in done.runs)


def test_fast_runs_all_at_once_and_divides_the_threads(playground: Playground) -> None:
    models = [script(text="a b c d e f g h", step_s=0.15, load_s=load) for load in (0.31, 0.32, 0.33)]
    running = playground.comparer.start(ASK, models, "fast")
    events = everything(running)
    spans = [interval(events, model) for model in models]
    assert max(start for start, _ in spans) < min(end for _, end in spans)
    comparison = running.result()
    assert comparison.mode == "fast"
    assert {(run.timings.mode, run.timings.threads) for run in comparison.runs} == {("fast", 1)}


def test_waiting_is_in_queue_s_and_in_no_other_figure(playground: Playground) -> None:
    compare(playground, "slow", "fast")
    slow, fast = compare(playground, "slow", "fast").runs
    assert slow.timings.queue_s < 0.2
    assert slow.timings.total_s <= fast.timings.queue_s < slow.timings.total_s + 0.3
    assert fast.timings.total_s < 0.2
    assert (fast.timings.cold, fast.timings.load_s) == (False, 0.0)


def test_ready_models_answer_while_another_is_prepared_and_preparing_is_no_figure(playground: Playground) -> None:
    running = playground.comparer.start(ASK, ["slow-to-prepare", "fast"])
    events = everything(running)
    late, fast = running.result().runs
    assert interval(events, "fast")[1] < interval(events, "slow-to-prepare")[0]
    steps = [event for event in events if event.kind == "preparing"]
    assert steps
    assert {event.model for event in steps} == {"slow-to-prepare@fake-none"}
    assert late.text == "Ready at last."
    assert late.timings.queue_s < 0.3
    assert fast.timings.queue_s < 0.3
    assert late.timings.total_s < 0.3


def test_preparations_rest_while_figures_are_taken(
    settings: Settings, fake_catalog: Catalog, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparer = Preparer(settings, fake_catalog)
    moments: list[tuple[str, float]] = []
    paused = preparer.paused

    class Watched:
        def __enter__(self) -> None:
            self.inner = paused()
            self.inner.__enter__()
            moments.append(("paused", time.monotonic()))

        def __exit__(self, *error: object) -> None:
            moments.append(("resumed", time.monotonic()))
            self.inner.__exit__(None, None, None)

    monkeypatch.setattr(preparer, "paused", Watched)
    running = Comparer(Machine(settings, fake_catalog, preparer, pool)).start(ASK, ["fast", "base"])
    events = everything(running)
    until(lambda: len(moments) == 2)
    assert [name for name, _ in moments] == ["paused", "resumed"]
    assert moments[0][1] <= interval(events, "fast")[0]
    assert interval(events, "base")[1] <= moments[1][1]
    preparer.close()


# -- failures stay where they are --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fair", "fast"])
@pytest.mark.parametrize(
    ("bad", "text", "words"),
    [
        ("fails", "One two ", "token 3 fails"),
        ("dies", "One two ", "killed by SIGKILL"),
        ("fails-to-load", "", "loading fails"),
        ("fails-to-prepare", "", "no recipe fits it"),
        ("stalls", "One two ", "reported nothing for 3 s"),
    ],
)
def test_a_model_in_trouble_spoils_no_other(playground: Playground, mode: str, bad: str, text: str, words: str) -> None:
    running = playground.comparer.start(ASK, [bad, "fast", "base"], mode)  # type: ignore[arg-type]
    events = everything(running)
    failed, *others = running.result().runs
    assert (failed.text, failed.finish_reason) == (text, "error")
    assert failed.error is not None
    assert words in failed.error
    assert [run.text for run in others] == ["Paris is the capital of France.", "and so on and so forth"]
    assert all(run.error is None for run in others)
    ends = [event.model for event in events if event.run]
    assert sorted(ends) == sorted([f"{bad}@fake-none", "fast@fake-none", "base@fake-none"])


@pytest.mark.fault
def test_a_worker_killed_in_mid_answer_is_a_failed_run_and_the_next_prompt_restarts_it(playground: Playground) -> None:
    running = playground.comparer.start(ASK, ["slow", "fast"])
    until(lambda: live(running, "slow").n_tokens >= 2 and live(running, "slow").kind == "token")
    os.kill(next(loaded.pid for loaded in playground.pool.loaded() if loaded.busy), signal.SIGKILL)
    slow, fast = running.result().runs
    assert "killed by SIGKILL (9)" in slow.error
    assert slow.text.startswith("Let me")
    assert (fast.text, fast.error) == ("Paris is the capital of France.", None)
    again = compare(playground, "slow").runs[0]
    assert again.error is None
    assert again.timings.cold is True


def test_a_fault_of_ours_in_one_model_is_reported_as_its_failure(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = playground.pool.generate

    def broken(load, request, cancelled) -> Iterator[Event]:
        if load.spec.id == "fast":
            raise ZeroDivisionError("oops")
        return generate(load, request, cancelled)

    monkeypatch.setattr(playground.pool, "generate", broken)
    fast, base = compare(playground, "fast", "base").runs
    assert "ZeroDivisionError: oops" in fast.error
    assert base.error is None


def test_a_state_that_cannot_be_read_is_that_models_failure(
    settings: Settings, fake_catalog: Catalog, pool: Pool
) -> None:
    preparer = OneArtifact(StorageError("/home can't be read", "Mend it."))
    comparer = Comparer(Machine(settings, fake_catalog, preparer, pool))  # type: ignore[arg-type]
    run = comparer.start(ASK, ["fast"]).result().runs[0]
    assert run.error == "/home can't be read. Mend it."


# -- stop --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fair", "fast"])
def test_stop_ends_every_model_and_keeps_what_was_said(playground: Playground, mode: str) -> None:
    endless = script(text="la la la la la la", step_s=0.5, prefill_s=0.01)
    running = playground.comparer.start(ASK, [endless, "endless", "slow-to-prepare"], mode)  # type: ignore[arg-type]
    until(lambda: running.snapshot().lives[0].kind == "token")
    stopped_at = time.monotonic()
    running.stop()
    comparison = running.result()
    assert time.monotonic() - stopped_at < 2.0
    assert running.done
    assert {run.finish_reason for run in comparison.runs} == {"stopped"}
    assert all(run.error is None for run in comparison.runs)
    assert comparison.runs[0].text.startswith("la ")
    assert comparison.runs[2].text == ""


def test_stop_reaches_models_that_ignore_it_and_those_that_wait(playground: Playground) -> None:
    running = playground.comparer.start(ASK, ["stalls", "fast"])
    until(lambda: live(running, "stalls").n_tokens == 2 and live(running, "stalls").kind == "token")
    stopped_at = time.monotonic()
    running.stop()
    assert live(running, "fast").kind == "stopped"  # at once: it only waited
    assert time.monotonic() - stopped_at < 0.2
    stalls, fast = running.result().runs
    assert time.monotonic() - stopped_at < 2.0
    assert (stalls.text, stalls.finish_reason, stalls.error) == ("One two ", "stopped", None)
    assert (fast.text, fast.finish_reason) == ("", "stopped")
    assert compare(playground, "fast").runs[0].error is None


def test_stop_after_the_end_changes_nothing(playground: Playground) -> None:
    running = playground.comparer.start(ASK, ["fast"])
    before = running.result()
    running.stop()
    assert running.result() == before
    assert before.runs[0].finish_reason == "stop"


def test_closing_ends_comparisons_that_are_going_on(settings: Settings) -> None:
    with Playground(settings) as playground:
        running = playground.comparer.start(ASK, ["endless", "fast"])
        until(lambda: live(running, "endless").kind == "token")
        closing_at = time.monotonic()
    assert time.monotonic() - closing_at < 2.0
    assert {run.finish_reason for run in running.result().runs} == {"stopped"}


# -- what is told ------------------------------------------------------------------------------------------------


def test_events_tell_the_whole_story_and_beat_while_nothing_happens(playground: Playground) -> None:
    running = playground.comparer.start(ASK, [script(text="a b", step_s=0.5)])
    heard = list(running.events(timeout=0.1))
    assert heard.count(None) >= 2
    kinds = [event.kind for event in heard if event]
    assert list(dict.fromkeys(kinds)) == ["queued", "loading", "prefill", "token", "done"]
    assert list(running.events(timeout=0.1)) == []


def test_snapshots_grow_to_the_final_text(playground: Playground) -> None:
    running = playground.comparer.start(ASK, ["slow"])
    seen = []
    while not running.done:
        seen.append(running.snapshot().lives[0])
        time.sleep(0.02)
    seen.append(running.snapshot().lives[0])
    texts = [each.text for each in seen]
    assert len(set(texts)) >= 5
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    final = seen[-1]
    assert (final.kind, final.text, final.run) == ("done", texts[-1], running.result().runs[0])
    first, last = final.first_token_at, final.last_token_at
    assert final.started_at < first < last
    stamps = final.run.timings.token_stamps
    assert last - first == pytest.approx(stamps[-1] - stamps[0], abs=0.001)


def test_a_comparison_is_a_value_with_its_circumstances(playground: Playground) -> None:
    comparison = compare(playground, "fast", "fails")
    assert comparison.request == ASK
    assert comparison.created_at.endswith("Z")
    assert comparison.environment.cores >= 1
    assert Comparison.from_json(comparison.to_json()) == comparison
    later = compare(playground, "fast")
    assert later.id > comparison.id or later.id[:15] == comparison.id[:15]
    playground.store.save(comparison)
    assert playground.store.get(comparison.id) == comparison


def test_the_run_says_what_really_ran_and_why(settings: Settings, fake_catalog: Catalog, pool: Pool) -> None:
    fidelity = Fidelity("torch-fp32", 600, 0.96, 0.005, 1.5, "faithful")
    artifact = Artifact(
        Variant("fast", "fake", "other"),
        "",
        "optimum",
        "1",
        "",
        0,
        fidelity=fidelity,
        fallbacks=("fused: too far off",),
    )
    comparer = Comparer(Machine(settings, fake_catalog, OneArtifact(artifact), pool))  # type: ignore[arg-type]
    running = comparer.start(ASK, ["fast"])
    assert {event.model for event in everything(running)} == {"fast@fake-none"}
    run: ModelRun = running.result().runs[0]
    assert (run.error, run.text) == (None, "Paris is the capital of France.")
    assert str(run.variant) == "fast@fake-none"
    assert (run.runtime, run.precision) == ("fake", "other")
    assert run.fallbacks == ("fused: too far off",)
    told_twice = running._complete(running._lanes[0], run)  # a worker that read the artifact gives the reason as well
    assert told_twice.fallbacks == ("fused: too far off",)
    assert (run.recipe, run.fidelity) == ("optimum", fidelity)


def test_visitors_of_a_space_may_not_see_by_reuse_what_others_asked(make_settings: Callable[..., Settings]) -> None:
    asked = replace(ASK, reuse=True)
    with Playground(make_settings(SPACE_ID="a/b")) as shared, pytest.raises(UsageError, match="what another has asked"):
        shared.comparer.start(asked, ["fast"])
