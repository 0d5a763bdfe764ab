"""What the page says: records become words, panels, charts and tables. No gradio, no browser."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from playground.catalog.entries import Catalog, Terms
from playground.experiments.progress import LiveRun
from playground.export import Preparation
from playground.records import (
    Artifact,
    Comparison,
    Environment,
    Fact,
    Fidelity,
    Message,
    ModelFacts,
    ModelRun,
    Openness,
    Request,
    Timings,
    Variant,
)
from playground.ui.html import charts, format, growing, tables
from playground.ui.html import panel as view
from playground.ui.html.receipts import popovers

ANSWER = Variant("smollm2-135m-instruct", "onnx", "int8")
LABEL = view.Label("SmolLM2 135M", ANSWER)
BASE = view.Label("Gemma 3 270M", Variant("gemma", "onnx", "int4"), 1, "base", Terms("Be good.", "https://a.example/t"))
TAKEN = Timings(
    queue_s=0.5,
    load_s=1.0,
    cold=True,
    tokenize_s=0.001,
    prompt_tokens=12,
    output_tokens=30,
    ttft_s=0.08,
    prefill_tok_s=150.0,
    decode_tok_s=61.25,
    total_s=0.58,
    peak_memory_mb=312.4,
    memory_method="VmHWM",
    threads=2,
    mode="fair",
)
RUN = ModelRun(ANSWER, "onnx", "int8", "Hello.", "stop", TAKEN, recipe="fused")


def compared(*runs: ModelRun) -> Comparison:
    return Comparison("a", "2026-11-24T10:00:00Z", Request("Hi"), runs, Environment("A CPU", 2, 8000.0))


class Balanced(HTMLParser):
    """Fails on a tag that is not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def text_of(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def tags_of(markup: str) -> set[str]:
    parser = Balanced()
    parser.feed(markup)
    assert parser.open == []
    return set(parser.tags)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.00001, "under 0.1 ms"),
        (0.0024, "2.4 ms"),
        (0.0534, "53 ms"),
        (0.9996, "1.00 s"),
        (1.236, "1.24 s"),
        (12.34, "12.3 s"),
        (59.99, "1 min 00 s"),
        (125.0, "2 min 05 s"),
    ],
)
def test_seconds_show_the_digits_that_matter(value: float | None, shown: str) -> None:
    assert format.seconds(value) == shown


def test_chunks_are_never_called_tokens() -> None:
    assert format.rate(12.5, "chunk") == "12.5 chunks/s"
    assert format.rate(123.4) == "123 tok/s"
    assert "chunks" in view.run_panel(replace(RUN, timings=replace(TAKEN, unit="chunk")), LABEL)


def test_model_output_can_do_nothing_and_is_there_as_it_is() -> None:
    hostile = "<script>alert(1)</script> <img src=https://evil.example/x.png> **bold** ![x](https://evil.example)"
    panel = view.run_panel(replace(RUN, text=hostile), LABEL)
    assert tags_of(panel).isdisjoint({"script", "img", "b", "a"})
    assert hostile in text_of(panel)


def raw_of(panel: str) -> str:
    return text_of(panel.partition('<pre class="raw" dir="auto">')[2].partition("</pre>")[0])


@pytest.mark.parametrize("text", ["Hi.", "<think>\nhm\n</think>\n\n**Paris**", "```\n<pre>\n```\n\n</pre>"])
def test_what_is_copied_is_the_text_of_the_model(text: str) -> None:
    assert raw_of(view.run_panel(replace(RUN, text=text), LABEL)) == text
    assert raw_of(growing.growing(LiveRun(ANSWER, "token", text, 3), LABEL).html) == text


def test_thinking_stands_folded_above_the_answer_and_open_while_it_goes_on() -> None:
    done = view.run_panel(replace(RUN, text="<think>\nhm so\n</think>\n\nParis"), LABEL)
    assert "Thought · 2 words" in done
    counted = replace(RUN, text="<think>\nhm so\n</think>\n\nParis", thinking_tokens=5)
    assert "Thought · 5 tokens" in view.run_panel(counted, LABEL)
    assert '<div class="rendered"><div data-key="0" dir="auto"><p>Paris</p>' in done
    going = growing.growing(LiveRun(ANSWER, "token", "<think>\nhm", 5), LABEL).html
    assert "Thinking · 5 tokens" in going
    assert " open>" in going


def data_dos(panel: str) -> list[str]:
    return re.findall(r'data-do="([a-z-]+)"', panel)


def test_a_finished_answer_can_be_gone_on_with_and_a_stored_one_only_read() -> None:
    run = replace(RUN, finish_reason="length", token_ids=(1, 2))
    full = data_dos(view.run_panel(run, LABEL, full=True))
    assert {"go-on", "copy", "again", "read", "reply", "tokens", "parameters", "add-again", "remove"} <= set(full)
    assert {"raw", "expand", "pin", "left", "right"} <= set(full)
    only_read = data_dos(view.run_panel(run, LABEL))
    assert set(only_read) == {"copy", "raw", "expand", "pin", "left", "right"}
    assert "go-on" not in data_dos(view.run_panel(replace(run, finish_reason="stop"), LABEL, full=True))


def test_every_button_is_named_with_its_model() -> None:
    panel = view.run_panel(replace(RUN, text="word " * 300), LABEL, full=True)
    for name in re.findall(r'<button[^>]*aria-label="([^"]*)"', panel):
        assert "SmolLM2 135M" in name
    assert len(re.findall("<button", panel)) == len(re.findall(r'<button[^>]*aria-label="', panel))


def test_a_base_model_says_why_it_cannot_be_replied_to() -> None:
    panel = view.run_panel(RUN, BASE, full=True)
    assert "reply" not in data_dos(panel)
    assert "can't be replied to" in text_of(panel)


def test_the_head_says_what_this_model_was_asked_otherwise() -> None:
    own = Request("Hi", temperature=0.7, system="Be brief.")
    panel = view.run_panel(replace(RUN, request=own, taken_in="1"), LABEL, shared=Request("Hi"))
    assert "temp. 0.7 · own system prompt" in text_of(panel)
    assert "carried over" in text_of(panel)
    assert "own" not in text_of(view.run_panel(RUN, LABEL, shared=Request("Hi")))


def test_earlier_turns_stand_above_and_can_be_edited() -> None:
    asked = (Message("user", "One <b>"), Message("assistant", "Eins"), Message("user", "Two"))
    panel = view.run_panel(replace(RUN, request=Request(messages=asked)), LABEL, full=True)
    assert "1 earlier turn" in text_of(panel)
    assert "One <b>" in text_of(panel)
    assert re.findall(r'data-turn="(\d)"', panel) == ["0", "1"]
    tags_of(panel)


def test_little_context_left_is_told() -> None:
    tight = replace(LABEL, context=50)
    assert "8 tokens of its context of 50 are left." in text_of(view.run_panel(RUN, tight))
    assert "context" not in text_of(view.run_panel(RUN, replace(LABEL, context=500)))


def test_a_blind_panel_tells_nothing_of_its_model() -> None:
    base = replace(BASE, variant=Variant("gemma", "onnx", "int4"))
    run = replace(RUN, variant=base.variant, precision="int4", error="Gemma 3 270M: died", warnings=("gemma is slow",))
    live = LiveRun(base.variant, "token", "<think>x", 321, 0.5, first_token_at=1.0, last_token_at=2.0)
    panels = [
        view.run_panel(run, base, popovers(compared(run), "x"), blind="B", full=True),
        growing.growing(live, base, blind="B").html,
        view.waiting_panel(base, Preparation("preparing", "fetching gemma", 0.4), blind="B"),
        *view.finished_panels(compared(run), (base,), "outputs", blind=["B"]),
    ]
    for panel in panels:
        assert "Answer B" in panel
        hints = ("gemma", "270m", "onnx", "int4", "base", "tok/s", "tokens", "series-", "a.example", "ms", "kernels")
        assert not [hint for hint in hints if hint in panel.lower()]


def test_a_link_that_is_no_web_address_stays_text() -> None:
    assert format.link("javascript:alert(1)", "terms") == "terms"
    assert tags_of(format.link("https://a.example/?a=1&b=2", "terms")) == {"a"}


def test_live_rate_needs_two_tokens_and_uses_the_stamps_of_the_worker() -> None:
    live = LiveRun(ANSWER, "token", "a b c", 3, first_token_at=10.0, last_token_at=10.5)
    assert live.rate == pytest.approx(4.0)
    assert replace(live, n_tokens=1, last_token_at=10.0).rate is None


@pytest.mark.parametrize(
    ("live", "said"),
    [
        (LiveRun(ANSWER, "queued", message="2 comparisons ahead"), "waiting for its turn · 2 comparisons ahead"),
        (LiveRun(ANSWER, "preparing", message="building int8", progress=0.4), "preparing · building int8 · 40 %"),
        (LiveRun(ANSWER, "prefill", progress=0.5), "reading the prompt · 50 %"),
        (LiveRun(ANSWER, "token", "Hi", 1), "answering · – · 1 token"),
    ],
)
def test_a_live_panel_says_what_the_model_is_doing(live: LiveRun, said: str) -> None:
    panel = growing.growing(live, LABEL).html
    assert said in text_of(panel)
    tags_of(panel)


def test_a_failed_run_keeps_its_text_and_says_why() -> None:
    failed = replace(RUN, text="Half an ans", finish_reason="error", error="SmolLM2: its process died (SIGKILL).")
    shown = text_of(view.run_panel(failed, LABEL))
    assert "Half an ans" in shown
    assert "SIGKILL" in shown
    assert "failed" in shown


def test_a_stopped_run_without_text_does_not_look_broken() -> None:
    shown = view.run_panel(replace(RUN, text="", finish_reason="stopped"), LABEL)
    assert "Stopped before the first token." in shown
    assert 'data-do="copy"' not in view.run_panel(replace(RUN, text="", finish_reason="stopped"), LABEL)


def test_a_panel_says_which_way_the_run_went_and_what_was_not_used() -> None:
    checked = Fidelity("torch-fp32", 640, 0.96, 0.0047, 0.9, "faithful")
    run = replace(RUN, runtime="torch", precision="fp32", fidelity=checked, fallbacks=("fused: rejected",))
    shown = text_of(view.run_panel(run, LABEL))
    assert "PyTorch · fp32" in shown
    assert "Asked foronnx-int8" in shown
    assert "fused: rejected" in shown
    assert "faithful: 96.0 % same top token as torch-fp32" in shown


def test_terms_stand_at_every_answer_of_a_model_that_has_them() -> None:
    assert "https://a.example/t" in view.waiting_panel(BASE)
    assert "https://a.example/t" in view.run_panel(RUN, BASE)
    assert "https://a.example/t" in growing.growing(LiveRun(BASE.variant, "token", "x", 1), BASE).html
    assert "Terms of use" not in view.run_panel(RUN, LABEL)


@pytest.mark.parametrize(
    ("prepared", "said"),
    [
        (Preparation("missing"), "not prepared yet"),
        (Preparation("preparing", "fetching 93 MB", 0.25), "fetching 93 MB · 25 %"),
        (Preparation("failed", error="No network. Try again."), "No network. Try again."),
        (Preparation("ready", artifact=Artifact(ANSWER, "", "fused", "", "", 259_000_000)), "ready · 259 MB"),
    ],
)
def test_the_picker_says_where_a_variant_stands(prepared: Preparation, said: str) -> None:
    line = view.state_html(ANSWER, prepared)
    assert said in text_of(line)
    assert f"is-{prepared.status}" in line
    tags_of(line)


def test_the_system_prompt_note_names_the_models_that_will_not_see_it() -> None:
    assert view.system_note((LABEL,)) == ""
    assert view.system_note((LABEL, BASE)) == "Without a chat template, and will not see it: Gemma 3 270M."
    assert view.system_note((BASE,)) == "Not used, for want of a chat template: Gemma 3 270M."


def test_bars_are_in_proportion_and_in_the_order_of_the_columns() -> None:
    drawn = charts.bars("Decode", "", [(LABEL, 10.0), (BASE, 40.0), (LABEL, None)], format.rate)
    assert re.findall(r"width:([\d.]+)%", drawn) == ["25.00", "100.00", "0.00"]
    assert drawn.index("SmolLM2") < drawn.index("Gemma")


def test_a_timeline_lays_the_phases_end_to_end_on_one_axis() -> None:
    assert charts.phases(TAKEN) == [
        ("wait", 0.0, 0.5),
        ("load", 0.5, 1.5),
        ("prefill", 1.5, pytest.approx(1.58)),
        ("decode", pytest.approx(1.58), pytest.approx(2.08)),
    ]
    assert charts.timeline([(LABEL, []), (BASE, [])]) == ""


def test_a_run_that_never_answered_has_no_invented_phases() -> None:
    assert charts.phases(Timings(queue_s=2.0)) == [("wait", 0.0, 2.0)]


@pytest.mark.parametrize(("end", "step"), [(0.06, 0.01), (4.7, 1.0), (13.0, 5.0), (100.0, 20.0)])
def test_an_axis_has_round_ticks(end: float, step: float) -> None:
    assert charts.tick_step(end) == pytest.approx(step)


def test_fast_mode_is_labelled_and_tells_not_to_compare() -> None:
    fast = replace(RUN, timings=replace(TAKEN, mode="fast", threads=1))
    shown = text_of(tables.timings_html([fast], [LABEL], "fast", popovers(compared(fast), "here")))
    assert "Do not compare the models" in shown
    assert "shared, 1 thread" in shown
    assert "shared CPU" in view.run_panel(fast, LABEL)


def test_the_table_of_figures_has_units_and_says_how_each_was_taken() -> None:
    runs = replace(RUN, timings=replace(TAKEN, other_cpu_cores=0.02)), replace(RUN, timings=Timings())
    shown = tables.timings_table(runs, [LABEL, BASE], popovers(compared(*runs), "here"))
    tags_of(shown)
    told = text_of(shown)
    for figure in ("80 ms", "61.2 tok/s", "312 MB", "VmHWM", "alone, 2 threads", "cold", "12 tokens", "–"):
        assert figure in told
    assert "from the start of tokenising; no load, no queue" in told


@pytest.mark.parametrize(
    ("cores", "condition", "is_told"),
    [
        (None, "one model at a time, 2 threads", False),
        (0.08, "alone, 2 threads", False),
        (0.94, "one model at a time, 2 threadsother programs used 94 % of a core", True),
        (1.6, "one model at a time, 2 threadsother programs used 1.6 cores", True),
    ],
)
def test_a_model_was_alone_only_where_no_other_program_was_at_work(
    cores: float | None, condition: str, is_told: bool
) -> None:
    run = replace(RUN, timings=replace(TAKEN, other_cpu_cores=cores))
    shown = text_of(tables.timings_html([run], [LABEL], "fair", popovers(compared(run), "here")))
    assert condition in shown
    assert ("on an idle machine these figures may be better" in shown) == is_told


def test_facts_show_source_and_status_and_unknown_is_called_unknown() -> None:
    facts = ModelFacts(
        model="m",
        license=Fact("Apache-2.0", "card", "https://a.example/licence", "card", "No <b>limits</b>."),
        openness=Openness(weights=Fact("yes", "card", "https://a.example/w", "card"), training_data=Fact("partial")),
        quality={"MMLU": Fact(29.3, "card", "https://a.example/q", "card", "zero-shot")},
    )
    shown = tables.cards_html([facts], [LABEL])
    assert "No &lt;b&gt;limits&lt;/b&gt;." in shown
    tags_of(shown)
    told = text_of(shown)
    assert "1 of 5" in told
    assert "zero-shot" in told
    assert 'href="https://a.example/licence"' in shown
    assert told.count("unknown") >= 7


def test_a_reopened_comparison_of_a_model_the_catalogue_lost_still_reads(fake_catalog: Catalog) -> None:
    gone = replace(RUN, variant=Variant("gone-model", "onnx", "int8"))
    comparison = Comparison("1", "2026-11-23T10:00:00Z", Request("hi <b>"), (gone, RUN), Environment("cpu", 2, 8000.0))
    shown = view.labels(fake_catalog, [run.variant for run in comparison.runs])
    assert shown[0].name == "gone-model"
    tags_of(view.comparison_panels(comparison, shown))


def test_the_pure_half_of_the_page_loads_no_gradio() -> None:
    code = "import sys, playground.ui.app; from playground.ui.html import panel, tables; print('gradio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
