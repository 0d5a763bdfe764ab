"""A measurement: equal work in rotated order, ranks only where they show, trouble kept to the model that has it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from playground.cli import main
from playground.config.settings import Limits
from playground.errors import UsageError
from playground.experiments.admission import check_request
from playground.experiments.benchmark import BenchmarkJob, figures
from playground.records import Environment, Event, ModelRun, Remote, Request, Timings, Variant
from playground.results.figures import Measured, Measurement, figure, ranks_of
from playground.runtimes.generation.decoding import DecodingRuntime
from playground.runtimes.generation.engine import Engine, Logits
from playground.runtimes.remote.request import request_body
from playground.service import Playground
from playground.system import contention
from playground.system.contention import Counters, CpuContention
from tests.support import tiny
from tests.support.scripted_models import scripted
from tests.support.watching import script, until

ASK = Request("What is the capital of France?", max_new_tokens=6)
HERE = Environment("cpu", 2, 1000.0)
EOS = 2


def model(name: str, *values: float, unit: str = "tokens/s", tokens: int = 6) -> Measured:
    taken = {"decode_tok_s": figure("decode_tok_s", unit, values)} if values else {}
    return Measured(Variant(name), output_tokens=tokens, figures=taken, error=None if values else "it failed")


def ranked(*models: Measured, name: str = "decode_tok_s") -> list[str]:
    found = ranks_of(Measurement("a", "", ASK, 3, models, HERE), name)
    return ["-" if place is None else f"{place.rank}{'=' * place.shared}" for place in found]


# -- ranks --------------------------------------------------------------------------------------------------------


def test_models_whose_spreads_are_apart_are_ranked_the_quickest_first() -> None:
    assert ranked(model("a", 10, 11, 12), model("b", 30, 31, 32), model("c", 20, 21, 22)) == ["3", "1", "2"]


def test_models_whose_spreads_overlap_share_a_rank_and_the_next_one_counts_them() -> None:
    assert ranked(model("a", 10, 11, 12), model("b", 11, 12, 13), model("c", 5, 5, 5)) == ["1=", "1=", "3"]


def test_no_difference_is_handed_on_from_one_to_the_next() -> None:
    """a and c are apart, but b overlaps both: an order of a and c would be told beside a b that is equal to each."""
    chain = model("a", 10, 10, 12, 12), model("b", 11, 11, 14, 14), model("c", 13, 13, 15, 15)
    assert ranked(*chain) == ["1=", "1=", "1="]


def test_what_can_not_be_compared_is_not_ranked() -> None:
    good, other = model("a", 10, 11, 12), model("b", 20, 21, 22)
    assert ranked(good, other, model("c", 30, 31, 32, unit="chunks/s")) == ["2", "1", "-"]
    assert ranked(good, other, model("c", 30, 31, 32, tokens=5)) == ["2", "1", "-"]
    assert ranked(good, other, model("c", 30, 31)) == ["2", "1", "-"]
    assert ranked(good, other, model("c")) == ["2", "1", "-"]
    assert ranked(good) == ["-"]


def test_a_shorter_time_is_better_and_a_higher_rate() -> None:
    def timed(name: str, *values: float) -> Measured:
        return Measured(Variant(name), output_tokens=6, figures={"ttft_s": figure("ttft_s", "s", values)})

    assert ranked(timed("a", 1, 1.1, 1.2), timed("b", 2, 2.1, 2.2), name="ttft_s") == ["1", "2"]


def test_characters_a_second_compare_tokenizers_that_cut_differently() -> None:
    def run(text: str, tokens: int, rate: float) -> ModelRun:
        return ModelRun(Variant("m"), "", "", text, "length", Timings(output_tokens=tokens, decode_tok_s=rate))

    long, short = figures([run("x" * 40, 10, 50.0)]), figures([run("x" * 40, 20, 80.0)])
    assert long["decode_char_s"].median == 200
    assert short["decode_char_s"].median == 160


def test_a_figure_that_one_repeat_lacks_is_left_out() -> None:
    taken = ModelRun(Variant("m"), "", "", "hi", "length", Timings(ttft_s=1.0, total_s=2.0))
    assert set(figures([taken, replace(taken, timings=Timings(total_s=2.0))])) == {"total_s"}


# -- equal length -------------------------------------------------------------------------------------------------


class Terse(Engine):
    """Wants to end at once, always; token 70 is its second choice."""

    def reset(self, length: int) -> None:
        pass

    def prefill(self, ids: object) -> Logits:
        return self.step(0)

    def step(self, token: int) -> Logits:
        logits = np.zeros(tiny.VOCAB, np.float32)
        logits[[self.eos, 70]] = 2, 1
        return logits

    eos = EOS


class TerseRuntime(DecodingRuntime):
    def open_engine(self, load: object) -> Engine:
        return Terse()


@pytest.fixture
def terse(tmp_path: Path) -> TerseRuntime:
    tiny.write_tokenizer(tmp_path, template=None)
    runtime = TerseRuntime()
    load = scripted("fake:", size_bytes=1)
    runtime.load(replace(load, artifact=replace(load.artifact, path=str(tmp_path))))
    assert runtime._loaded
    Terse.eos = min(runtime._loaded.prompter.eos_ids)
    return runtime


def answer(runtime: TerseRuntime, request: Request) -> ModelRun:
    *_, last = runtime.generate(request, lambda: False)
    assert last.run
    return last.run


def test_an_answer_goes_on_past_its_end_of_turn_until_its_least_length(terse: TerseRuntime) -> None:
    run = answer(terse, Request("hello", max_new_tokens=9, min_new_tokens=5))
    assert (run.timings.output_tokens, run.finish_reason) == (6, "stop")
    assert answer(terse, Request("hello", max_new_tokens=9)).timings.output_tokens == 1


def test_an_answer_of_fixed_length_has_it_also_when_it_is_drawn(terse: TerseRuntime) -> None:
    run = answer(terse, Request("hello", max_new_tokens=7, min_new_tokens=7, temperature=0.3, seed=1))
    assert (run.timings.output_tokens, run.finish_reason) == (7, "length")


def test_a_server_can_not_be_asked_for_a_least_length_and_the_run_says_so() -> None:
    served = Remote("r", "m", "http://127.0.0.1:9/v1")
    body, warnings = request_body(served, Request("hello", max_new_tokens=7, min_new_tokens=7))
    assert "min_new_tokens" not in json.dumps(body)
    assert any("least length" in warning for warning in warnings)
    assert request_body(served, Request("hello"))[1] == []


def test_a_least_length_above_the_most_is_refused() -> None:
    with pytest.raises(UsageError, match="min_new_tokens is 8"):
        check_request(Request("hello", max_new_tokens=7, min_new_tokens=8), Limits())


# -- whether the machine is idle ----------------------------------------------------------------------------------


def test_our_own_work_does_not_count_as_disturbance() -> None:
    found = contention.between(Counters(10.0, 100.0, 50.0), Counters(12.0, 103.0, 52.5))
    assert found.cores == pytest.approx(0.25)
    assert found.busy
    assert not contention.between(Counters(10.0, 100.0, 50.0), Counters(12.0, 103.0, 53.0)).busy


def test_disturbances_add_up_by_their_time() -> None:
    assert (CpuContention(1.0, 0.5) + CpuContention(3.0, 0.5)).cores == pytest.approx(0.25)
    assert CpuContention().cores is None


def test_a_process_of_ours_that_computes_is_ours() -> None:
    before = contention.read()
    until = time.thread_time() + 0.3
    while time.thread_time() < until:
        pass
    after = contention.read()
    assert after.own - before.own == pytest.approx(0.3, abs=0.05)
    assert after.used - before.used > 0.2


# -- the whole ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "models", "repeats", "words"),
    [
        (ASK, [], 3, "No model is chosen"),
        (ASK, ["fast", "fast@fake-none"], 3, "chosen twice"),
        (ASK, ["fast"], 0, "0 repeats"),
        (ASK, ["fast"], 51, "51 repeats"),
        (Request(""), ["fast"], 3, "prompt is empty"),
        (Request("a", max_new_tokens=10**9), ["fast"], 3, "max_new_tokens"),
        (ASK, ["fast", "slow", "base", "fails", "endless", "dies", "stalls", "fails-to-load", "a"], 3, "too many"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(
    playground: Playground, request_: Request, models: list[str], repeats: int, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        playground.measurer.start(request_, models, repeats)
    assert not playground.pool.loaded()


@pytest.mark.waits
def test_models_take_turns_and_each_round_begins_with_another(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    generate = playground.pool.generate

    def note(load: object, request: Request, cancelled: object) -> Iterator[Event]:
        asked.append(load.spec.id)  # type: ignore[attr-defined]
        assert (request.min_new_tokens, request.max_new_tokens, request.stop) == (6, 6, ())
        return generate(load, request, cancelled)  # type: ignore[arg-type]

    monkeypatch.setattr(playground.pool, "generate", note)
    steps: list[tuple[str, float | None]] = []
    tell = BenchmarkJob._tell
    monkeypatch.setattr(
        BenchmarkJob,
        "_tell",
        lambda job, *said: (steps.append((*said, None)[:2]), tell(job, *said)),  # type: ignore[func-returns-value]
    )
    found = playground.measurer.start(replace(ASK, stop=("is",)), ["fast", "base", "fails"], 3).result()
    assert asked == ["fast", "base", "fails", "fast", "base", "base", "fast", "fast", "base"]
    fast, base, fails = found.models
    assert "token 3 fails" in (fails.error or "")
    assert not fails.figures
    assert {len(taken.values) for taken in (*fast.figures.values(), *base.figures.values())} == {3}
    assert (fast.output_tokens, base.output_tokens) == (6, 6)
    shares = [share for _, share in steps if share is not None]
    assert shares == sorted(shares)
    assert steps[-1][0] == "base@fake-none: repeat 3 of 3"


@pytest.mark.waits
@pytest.mark.alone
def test_a_measurement_holds_the_machine_and_a_comparison_waits(playground: Playground) -> None:
    measuring = playground.measurer.start(ASK, ["slow"], 3)
    until(lambda: "repeat" in measuring.snapshot().step, 20)
    running = playground.comparer.start(ASK, ["base"])
    measuring.result()
    ended = time.monotonic()
    started = [event.at for event in running.events() if event and event.kind == "loading"]
    assert started[0] >= ended - 0.2


@pytest.mark.waits
@pytest.mark.alone
def test_stop_ends_it_within_two_seconds_and_keeps_the_rounds_there_are(playground: Playground) -> None:
    slow = script(text="a b c d e f", step_s=0.3)
    measuring = playground.measurer.start(ASK, [slow, "fast"], 9)
    until(lambda: slow in measuring.snapshot().step and "repeat 2" in measuring.snapshot().step, 30)
    time.sleep(0.3)
    asked_at = time.monotonic()
    measuring.stop()
    found = measuring.result()
    assert time.monotonic() - asked_at < 2
    first, second = found.models
    assert len(first.figures["ttft_s"].values) == 1
    assert first.notes[0] == "Stopped after 1 of 9 repeats."
    assert 1 <= len(second.figures["ttft_s"].values) <= 2
    assert "Stopped before the last repeat." in found.warnings


@pytest.mark.waits
def test_stopped_while_it_waits_for_the_machine_nothing_was_measured(playground: Playground) -> None:
    ahead = playground.comparer.start(replace(ASK, max_new_tokens=30), ["endless"])
    until(lambda: ahead.snapshot().lives[0].kind == "token")
    measuring = playground.measurer.start(ASK, ["fast"], 3)
    until(lambda: measuring.snapshot().step == "waiting for the machine: 1 ahead")
    measuring.stop()
    (found,) = measuring.result().models
    assert (found.error, found.figures) == ("Stopped before it was measured.", {})
    ahead.stop()
    ahead.result()


@pytest.mark.waits
def test_a_model_that_has_to_be_loaded_again_answers_once_for_nothing(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate, asked = playground.pool.generate, []

    def unload_before_the_second_repeat(*given: object) -> Iterator[Event]:
        asked.append(given)
        if len(asked) == 3:
            playground.pool.unload("fast@fake-none")
        return generate(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(playground.pool, "generate", unload_before_the_second_repeat)
    (found,) = playground.measurer.start(ASK, ["fast"], 3).result().models
    assert len(found.figures["ttft_s"].values) == 3
    assert any("Loaded again 1 time," in note for note in found.notes)


@pytest.mark.waits
def test_a_measurement_is_kept_and_comes_back_as_it_was(playground: Playground) -> None:
    found = playground.measurer.start(ASK, ["fast", "fails"], 1).result()
    playground.store.save_measurement(found)
    assert playground.store.measurement(found.id) == found
    assert playground.store.measurements(5) == [found]
    assert playground.store.measurement("b") is None
    assert playground.store.count() == 0  # it is no comparison


# -- the terminal -------------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = Path(__file__).parents[1] / "data"
    monkeypatch.setenv("PLAYGROUND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLAYGROUND_SPACE", str(data / "fake_space.yaml"))
    monkeypatch.setenv("PLAYGROUND_CATALOG", str(data / "fake_catalog.yaml"))


@pytest.mark.waits
@pytest.mark.usefixtures("terminal")
def test_bench_models_prints_one_document_and_says_by_its_code_that_a_model_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["bench", "models", "-m", "fast", "-m", "fails", "--repeats", "3", "--tokens", "6", "--json"]
    assert main(command) == 1
    printed = json.loads(capsys.readouterr().out)
    fast, fails = printed["models"]
    assert len(fast["figures"]["decode_tok_s"]["values"]) == 3
    assert "token 3 fails" in fails["error"]["text"]
    assert printed["receipts"]["models"][0]["start"] == "warm"


@pytest.mark.waits
@pytest.mark.usefixtures("terminal")
def test_bench_models_shows_medians_quartiles_and_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "models", "-m", "fast", "-m", "slow", "--repeats", "3", "--tokens", "4"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"decode, tok/s +\d+\.\d\d \[\d+\.\d\d … \d+\.\d\d\] +#1 +(?:19\.9|20\.\d)\d \[.*#2", printed)
    assert "Cores: " in printed


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Missing option"),
        (["-m", "fats"], "Unknown model 'fats'"),
        (["-m", "fast", "--json", "--markdown"], "Choose one"),
        (["-m", "fast", "--repeats", "0"], "0 repeats"),
    ],
)
def test_bench_models_refuses_what_is_wrong(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "models", *arguments]) == 2
    printed = capsys.readouterr()
    assert words in printed.err + printed.out
