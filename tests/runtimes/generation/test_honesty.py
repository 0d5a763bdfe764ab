"""Known delays come back as figures, and no model's misfortune gets into another figure.

A scripted model sleeps; what it reports is stamped, never computed from its script. A busy machine may wake it late, so
each figure is the median of several answers, and a test may try again: it can be late by chance, never early.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from playground.records import ModelRun, Request
from playground.results.figures import Measured
from playground.service import Playground
from tests.conftest import MakeSettings
from tests.support.watching import ASK, compare, script

pytestmark = [pytest.mark.waits, pytest.mark.alone]

TOKENS, PREFILL_S, STEP_S = 20, 0.1, 0.02
TEXT = " ".join(f"word{number}" for number in range(TOKENS))
STEADY = script(text=TEXT, prefill_s=PREFILL_S, step_s=STEP_S)
TOTAL_S = PREFILL_S + (TOKENS - 1) * STEP_S
EQUAL = Request(ASK.prompt, max_new_tokens=TOKENS)


def close(value: float | None, truth: float) -> bool:
    """Within 2 %, or within 2 ms of a time."""
    return value is not None and abs(value - truth) <= max(0.02 * truth, 0.002)


def eventually(check: Callable[[], bool], tries: int = 4) -> None:
    for _ in range(tries - 1):
        if check():
            return
    assert check()


def steady(run: ModelRun) -> bool:
    """The figures of ``STEADY`` and nothing else."""
    taken = run.timings
    assert taken.output_tokens == TOKENS
    return (
        close(taken.ttft_s, PREFILL_S)
        and close(taken.total_s, TOTAL_S)
        and abs((taken.decode_tok_s or 0) * STEP_S - 1) <= 0.02
        and abs((taken.prefill_tok_s or 0) * PREFILL_S / (taken.prompt_tokens or 0) - 1) <= 0.02
    )


def medians(model: Measured) -> dict[str, float]:
    assert model.error is None
    return {name: found.median for name, found in model.figures.items()}


def measured(playground: Playground, *models: str) -> list[dict[str, float]]:
    return [medians(model) for model in playground.measurer.start(EQUAL, models, 5).result().models]


def test_known_delays_are_reported_within_two_per_cent(playground: Playground) -> None:
    def check() -> bool:
        (found,) = measured(playground, STEADY)
        characters = len(TEXT) / TOKENS / STEP_S
        return (
            close(found["ttft_s"], PREFILL_S)
            and close(found["total_s"], TOTAL_S)
            and close(found["decode_tok_s"], 1 / STEP_S)
            and close(found["decode_char_s"], characters)
        )

    eventually(check)


def test_cpu_time_is_what_was_computed_and_sleeping_costs_none(playground: Playground) -> None:
    idle, busy = measured(playground, STEADY, script(text=TEXT, prefill_s=PREFILL_S, step_s=STEP_S, cpu_s=0.2))
    assert idle["cpu_s"] < 0.05
    assert busy["cpu_s"] - idle["cpu_s"] == pytest.approx(0.2, abs=0.01)


def test_two_tokens_in_one_piece_are_two_tokens(playground: Playground) -> None:
    pairs = script(text=TEXT, prefill_s=PREFILL_S, step_s=STEP_S, chunk=2)

    def check() -> bool:
        comparison = compare(playground, pairs, STEADY)
        return all(steady(run) for run in comparison.runs)

    eventually(check)


def test_the_rate_shown_while_tokens_come_is_right_for_pieces_of_two(playground: Playground) -> None:
    running = playground.comparer.start(ASK, [script(text=TEXT, step_s=STEP_S, chunk=2)])
    rates = []
    for event in running.events():
        if event and event.kind == "token":
            (live,) = running.snapshot().lives
            rates.append(live.rate)
    assert rates[0] is None or rates[0] == pytest.approx(1 / STEP_S, rel=0.2)
    assert rates[-1] == pytest.approx(1 / STEP_S, rel=0.05)


def test_a_pause_is_in_the_figures_of_its_own_model_alone(playground: Playground) -> None:
    pausing = script(text=TEXT, prefill_s=PREFILL_S, step_s=STEP_S, pause_at=7, pause_s=0.3)
    after = script(text=TEXT, prefill_s=PREFILL_S, step_s=STEP_S, load_s=0.01)

    def check() -> bool:
        first, paused, last = compare(playground, STEADY, pausing, after).runs
        taken = paused.timings
        return (
            steady(first)
            and steady(last)
            and close(taken.ttft_s, PREFILL_S)
            and close(taken.total_s, TOTAL_S + 0.3)
            and close((TOKENS - 1) / (taken.decode_tok_s or 1), TOTAL_S - PREFILL_S + 0.3)
        )

    eventually(check)


@pytest.mark.fault
def test_a_model_that_stalls_for_ever_leaves_the_others_figures_alone(make_settings: MakeSettings) -> None:
    patient = make_settings()
    settings = replace(patient, limits=replace(patient.limits, stall_timeout_s=1.0))
    after = script(text=TEXT, prefill_s=PREFILL_S, step_s=STEP_S, load_s=0.01)
    with Playground(settings) as playground:

        def check() -> bool:
            first, stalled, last = compare(playground, STEADY, script(text=TEXT, stall_at=7), after).runs
            assert stalled.error
            assert stalled.timings.decode_tok_s is None
            return steady(first) and steady(last)

        eventually(check)


def test_loading_slowly_is_in_the_loading_time_alone(make_settings: MakeSettings) -> None:
    slow = script(text=TEXT, prefill_s=PREFILL_S, step_s=STEP_S, load_s=0.7)

    def check() -> bool:
        with Playground(make_settings()) as playground:  # a new one each time, so that it loads
            loaded, next_one = compare(playground, slow, STEADY).runs
        assert loaded.timings.cold
        assert (loaded.timings.load_s or 0) >= 0.7
        assert (loaded.timings.queue_s or 0) < 0.7
        assert (next_one.timings.queue_s or 0) >= 0.7 + TOTAL_S
        return steady(loaded) and steady(next_one)

    eventually(check)


def test_waiting_in_the_queue_is_in_the_waiting_time_alone(playground: Playground) -> None:
    other = script(text=TEXT, prefill_s=PREFILL_S, step_s=STEP_S, load_s=0.01)

    def check() -> bool:
        ahead = playground.comparer.start(ASK, [STEADY])
        behind = playground.comparer.start(ASK, [other])
        (first,), (second,) = ahead.result().runs, behind.result().runs
        assert (second.timings.queue_s or 0) >= TOTAL_S
        return steady(first) and steady(second)

    eventually(check)


def test_a_reader_that_is_slow_or_looks_all_the_time_is_in_no_figure(playground: Playground) -> None:
    def check() -> bool:
        running = playground.comparer.start(ASK, [STEADY])
        watching = threading.Event()

        def look() -> None:
            while not watching.wait(0.01):
                running.snapshot()

        watcher = threading.Thread(target=look)
        watcher.start()
        for event in running.events():
            if event and event.kind == "token":
                time.sleep(2 * STEP_S)  # the page draws slower than tokens come
        watching.set()
        watcher.join()
        return steady(running.result().runs[0])

    eventually(check)


def test_what_a_measurement_waits_for_is_in_no_figure(playground: Playground) -> None:
    """Another session has the machine when the measurement begins, and its models load slowly."""
    slow = script(text=TEXT, prefill_s=PREFILL_S, step_s=STEP_S, load_s=0.4)

    def check() -> bool:
        ahead = playground.comparer.start(ASK, [script(text=TEXT, step_s=0.03)])
        (found,) = measured(playground, slow)
        assert ahead.done
        return close(found["ttft_s"], PREFILL_S) and close(found["total_s"], TOTAL_S)

    eventually(check)
