"""Which stored figures a verdict rests on: measurements before single runs, of this machine only, never fast ones."""

from __future__ import annotations

from dataclasses import replace

from playground.choose.evidence import gather, measured_variants, with_engines
from playground.records import Comparison, Environment, Fidelity, ModelRun, Request, Timings, Variant
from playground.results.figures import Measured, Measurement, figure

HERE = Environment("Some CPU", 2, 4000.0)
A, B = Variant("a", "onnx", "int8"), Variant("b", "onnx", "int8")


def measurement(id: str, *variants: Variant, speed: float = 10, **other: object) -> Measurement:
    figures = {"decode_tok_s": figure("decode_tok_s", "tokens/s", [speed - 1, speed, speed + 1])}
    models = tuple(Measured(v, v.runtime, v.precision, prompt_tokens=40, figures=figures) for v in variants)
    return replace(Measurement(id, f"2026-11-24T09:{id}:00Z", Request("hi"), 3, models, HERE), **other)  # type: ignore[arg-type]


def comparison(id: str, *variants: Variant, mode: str = "fair", **timings: object) -> Comparison:
    known = {"decode_tok_s": 7.0, "ttft_s": 0.5, "peak_memory_mb": 300.0, "prompt_tokens": 11} | timings
    runs = tuple(ModelRun(v, v.runtime, v.precision, "x", "stop", Timings(**known)) for v in variants)  # type: ignore[arg-type]
    return Comparison(id, f"2026-11-24T09:{id}:00Z", Request("hi"), runs, HERE, mode)  # type: ignore[arg-type]


def test_the_newest_measurement_that_has_all_models_is_taken_before_newer_ones_that_have_some() -> None:
    newest, together = measurement("02", A, speed=99), measurement("01", A, B, speed=10)
    found = gather([A, B], [newest, together], [], HERE)
    assert {by["decode_tok_s"].id for by in found.figures.values()} == {"01"}
    assert found.notes == (
        "Measured again since, but without the others: a@onnx-int8. Measure all of them to use new figures.",
    )
    alone = gather([A], [newest, together], [], HERE)
    assert alone.figures[A]["decode_tok_s"].id == "02"
    assert not alone.notes


def test_figures_that_were_not_taken_together_are_told_so() -> None:
    found = gather([A, B], [measurement("02", A), measurement("01", B)], [], HERE)
    assert any("not taken together" in note for note in found.notes)


def test_a_single_fair_run_fills_in_what_no_measurement_has_and_says_that_it_is_one() -> None:
    found = gather([A], [measurement("01", A)], [comparison("02", A)], HERE)
    assert found.figures[A]["decode_tok_s"].kind == "measurement"
    memory = found.figures[A]["peak_memory_mb"]
    assert (memory.kind, memory.figure.values) == ("comparison", (300.0,))
    assert "n = 1, no spread" in memory.words
    assert any("single runs" in note for note in found.notes)
    assert any("11 to 40 tokens" in note for note in found.notes)


def test_figures_of_different_engines_are_told_so() -> None:
    def notes(first: str | None, second: str | None) -> str:
        taken = measurement("01", A, B)
        parts = tuple(replace(part, engine=by) for part, by in zip(taken.models, (first, second), strict=True))
        return " ".join(map(str, with_engines(gather([A, B], [replace(taken, models=parts)], [], HERE)).notes))

    assert "engines" in notes("kernels avx2", "ONNX Runtime") and "kernels avx2" in notes("kernels avx2", None)
    assert "unknown" in notes("kernels avx2", None)
    assert "engines" not in notes("kernels avx2", "kernels avx2") + notes(None, None)


def test_the_newest_fair_run_counts_and_fast_ones_never_do() -> None:
    runs = [comparison("03", A, mode="fast", decode_tok_s=50.0), comparison("02", A), comparison("01", A, ttft_s=9.0)]
    found = gather([A], [], runs, HERE)
    assert found.figures[A]["decode_tok_s"].id == "02"
    assert found.figures[A]["ttft_s"].figure.median == 0.5
    assert measured_variants([], runs[:1], HERE) == ()


def test_a_prompt_that_was_partly_in_the_cache_says_nothing_of_the_first_token() -> None:
    found = gather([A], [], [comparison("01", A, reused_tokens=8)], HERE)
    assert set(found.figures[A]) == {"decode_tok_s", "peak_memory_mb"}


def test_an_answer_that_was_gone_on_with_says_nothing_of_the_first_token() -> None:
    whole = comparison("01", A)
    run = replace(whole.runs[0], request=replace(whole.request, answer_ids=(1, 2)))
    found = gather([A], [], [replace(whole, runs=(run,))], HERE)
    assert set(found.figures[A]) == {"decode_tok_s", "peak_memory_mb"}


def test_chunks_of_a_server_are_not_tokens() -> None:
    assert "decode_tok_s" not in gather([A], [], [comparison("01", A, unit="chunk")], HERE).figures[A]
    chunks = {"decode_tok_s": figure("decode_tok_s", "chunks/s", [5.0])}
    taken = replace(measurement("01", A), models=(Measured(A, figures=chunks),))
    assert gather([A], [taken], [], HERE).figures[A] == {}


def test_what_was_taken_on_another_machine_is_no_evidence_here() -> None:
    elsewhere = replace(HERE, cpu="Another CPU")
    found = gather([A], [measurement("01", A, environment=elsewhere)], [], HERE)
    assert found.figures == {A: {}}
    assert found.notes == ("Not used: 1 stored on another machine or under other limits of CPU or memory.",)
    assert measured_variants([measurement("01", A, environment=replace(HERE, memory_limit_mb=2000.0))], [], HERE) == ()


def test_a_failed_model_of_a_measurement_has_no_figures() -> None:
    failed = replace(measurement("02", A), models=(Measured(A, error="It died."),))
    found = gather([A], [failed, measurement("01", A)], [], HERE)
    assert found.figures[A]["decode_tok_s"].id == "01"
    assert measured_variants([failed], [], HERE) == ()


def test_cautions_of_a_measurement_and_a_runtime_that_stood_in_are_told() -> None:
    stood_in = Measured(A, "torch", "fp32", figures=measurement("01", A).models[0].figures)
    found = gather([A], [measurement("01", A, models=(stood_in,), warnings=("The machine was busy.",))], [], HERE)
    assert "The machine was busy." in found.notes
    assert "a@onnx-int8 was run by torch-fp32; the figures are those of that." in found.notes


def test_the_fidelity_of_what_was_measured_comes_along() -> None:
    known = Fidelity("torch-fp32", 512, 0.9, 0.01, 1.0, "faithful")
    part = replace(measurement("01", A).models[0], fidelity=known)
    assert gather([A], [measurement("01", A, models=(part,))], [], HERE).fidelity == {A: known}


def test_nothing_stored_is_nothing_known() -> None:
    assert gather([A], [], [], HERE).figures == {A: {}}
    assert gather([], [measurement("01", A)], [], HERE).figures == {}
