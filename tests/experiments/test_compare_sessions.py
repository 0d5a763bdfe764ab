"""Several browser sessions share the machine: they take turns, see no text of each other, and hold up nobody."""

from __future__ import annotations

import pytest

from playground.records import LoadSpec, Request
from playground.service import Playground
from tests.support.watching import ASK, everything, interval, live, until

pytestmark = [pytest.mark.waits, pytest.mark.alone]


def test_comparisons_of_two_sessions_take_turns_and_share_no_text(playground: Playground) -> None:
    first = playground.comparer.start(Request("one"), ["slow", "base"])
    until(lambda: live(first, "slow").kind != "queued")
    second = playground.comparer.start(Request("two two"), ["slow", "fast"])
    until(lambda: live(second, "slow").message == "1 comparison ahead")
    third = playground.comparer.start(ASK, ["fast"], "fast")
    until(lambda: live(third, "fast").message == "2 comparisons ahead")
    assert third.snapshot().ahead == 2
    events = [everything(running) for running in (first, second, third)]
    assert interval(events[0], "base")[1] <= interval(events[1], "slow")[0]
    assert interval(events[1], "fast")[1] <= interval(events[2], "fast")[0]
    texts = [[run.text for run in running.result().runs] for running in (first, second)]
    thought = "Let me think about this for quite a while before I say Paris."
    assert texts == [[thought, "and so on and so forth"], [thought, "Paris is the capital of France."]]
    for running, mine in zip((first, second), events, strict=False):
        for run in running.result().runs:
            tokens = [event for event in mine if event.kind == "token" and event.model == str(run.variant)]
            assert "".join(event.text for event in tokens) == run.text
    assert first.result().runs[0].timings.prompt_tokens + 1 == second.result().runs[0].timings.prompt_tokens
    assert second.result().runs[0].timings.queue_s > 0.4


def test_a_waiting_comparison_can_be_stopped_and_holds_up_nobody(playground: Playground) -> None:
    first = playground.comparer.start(ASK, ["slow"])
    until(lambda: live(first, "slow").kind != "queued")
    second = playground.comparer.start(ASK, ["fast"])
    third = playground.comparer.start(ASK, ["base"])
    second.stop()
    assert second.result().runs[0].finish_reason == "stopped"
    assert not first.done
    assert third.result().runs[0].text == "and so on and so forth"
    assert first.result().runs[0].error is None


def test_a_session_whose_model_is_prepared_does_not_hold_the_machine(playground: Playground) -> None:
    first = playground.comparer.start(ASK, ["slow-to-prepare"])
    until(lambda: live(first, "slow-to-prepare").kind == "preparing")
    second = playground.comparer.start(ASK, ["fast"])
    assert second.result().runs[0].timings.queue_s < 0.3
    assert not first.done
    assert first.result().runs[0].text == "Ready at last."


def test_looking_at_a_prompt_loads_no_model_while_figures_are_taken(playground: Playground) -> None:
    spec, variant = playground.catalog.resolve("base")
    artifact = playground.preparer.prepare(variant, lambda step, share: None, lambda: False)
    running = playground.comparer.start(ASK, ["slow"])
    until(lambda: live(running, "slow").kind != "queued")
    view = playground.pool.inspect(LoadSpec(spec, artifact, 2), ASK)
    assert running.done
    assert view.rendered == ASK.prompt
    running = playground.comparer.start(ASK, ["slow"])
    until(lambda: live(running, "slow").kind == "token")
    assert playground.pool.inspect(LoadSpec(spec, artifact, 2), ASK) == view
    assert not running.done  # a warm worker answers at once
