"""A receipt says how a figure was taken, invents nothing, and travels with the figures wherever they go."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from playground.catalog.tokenizer_source import tokenizer_words
from playground.records import Artifact, Comparison, Environment, Fidelity, ModelRun, Remote, Request, Timings, Variant
from playground.results import receipts
from playground.results.figures import Measured, Measurement, figure
from playground.results.receipts import condition_lines, figure_lines, machine_lines
from playground.results.report import markdown
from playground.service import Playground
from playground.ui.html.receipts import ReceiptPopovers, downloads, popovers, save_menu_html
from tests.support.measurements import by_engines
from tests.support.scripted_models import scripted
from tests.support.watching import compare

HERE = Environment("A CPU", 2, 8000.0, {"onnxruntime": "1.32.0"}, "abc123", cores_affinity=4, cores_cgroup=2.5)
CHECKED = Fidelity("torch-fp32", 512, 0.96, 0.0047, 1.5, "faithful")
TAKEN = Timings(
    queue_s=0.5, load_s=0.0, cold=False, prompt_tokens=8, output_tokens=4, ttft_s=0.1, decode_tok_s=20.0, total_s=0.25,
    cpu_s=0.4, peak_memory_mb=300.0, memory_method="VmHWM", threads=2, mode="fair",
)  # fmt: skip
RUN = ModelRun(
    Variant("m", "onnx", "int8"), "onnx", "int8", "four words in all", "length", TAKEN, recipe="fused",
    fidelity=CHECKED, tokenizer="the model's own: tokenizer.json",
)  # fmt: skip


def comparison(*runs: ModelRun, id: str = "a") -> Comparison:
    return Comparison(id, "2026-11-24T10:00:00.000Z", Request("Hello?"), runs, HERE)


def lines_of(model: receipts.ModelReceipt) -> dict[str, str]:
    return dict(condition_lines(model))


def test_a_receipt_says_everything_the_issue_of_trust_is_about() -> None:
    made = receipts.of_comparison(comparison(RUN))
    said = lines_of(made.models[0])
    assert said["Start"] == "warm"
    assert said["Mode"].startswith("fair")
    assert said["Threads"] == "2"
    assert said["Ran on"] == "onnx, int8, recipe fused"
    assert said["Counted in"] == "the model's tokens; by the model's own: tokenizer.json"
    assert said["Export check"].startswith("faithful: 96.0 % same top token as torch-fp32, mean KL 0.0047")
    assert said["Memory read as"] == "VmHWM"
    machine = dict(machine_lines(made.machine))
    assert machine["Cores"] == "2 used; by affinity 4, by cgroup 2.5"
    assert (machine["Processor"], machine["Commit"]) == ("A CPU", "abc123")
    assert machine["Versions"] == "onnxruntime 1.32.0"


def test_a_figure_taken_once_has_no_spread() -> None:
    said = dict(figure_lines(receipts.of_comparison(comparison(RUN)).models[0], "ttft_s"))
    assert said["Value"] == "0.1 s, taken once: no spread is known"
    assert "no load, no queue" in said["Definition"]
    assert "Median" not in said


def test_repeats_become_one_receipt_with_all_values_and_their_quartiles() -> None:
    quick = replace(RUN, timings=replace(TAKEN, ttft_s=0.2, cold=True, load_s=1.5))
    failed = replace(RUN, error="it broke", timings=Timings())
    made = receipts.of_comparisons([comparison(run) for run in (quick, RUN, failed, RUN)]).models[0]
    assert made.figures["ttft_s"].values == (0.2, 0.1, 0.1)
    assert (made.repeats, made.start) == (3, "cold, then warm")
    assert made.figures["load_s"].values == (1.5,)  # a warm model was not loaded: no 0 s among the loads
    assert dict(figure_lines(made, "ttft_s"))["Median"] == "0.1 s of 3 repeats"


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    bare = ModelRun(Variant("m"), "torch", "fp32", "", "error", error="it broke")
    made = receipts.of_comparison(comparison(bare))
    assert made.models[0].figures == {}
    assert made.models[0].error == "it broke"
    said = lines_of(made.models[0])
    assert {said[name] for name in ("Start", "Threads", "Memory read as")} == {receipts.UNKNOWN}
    old = dict(machine_lines(Environment("A CPU", 2, 8000.0)))
    assert old["Cores"] == "2 used; by affinity not noted down, by cgroup not noted down"


def test_chunks_of_a_server_are_never_called_tokens() -> None:
    served = replace(RUN, timings=replace(TAKEN, unit="chunk"))
    made = receipts.of_comparison(comparison(served)).models[0]
    assert made.figures["decode_tok_s"].unit == "chunks/s"
    assert made.figures["output_tokens"].unit == "chunks"
    assert made.figures["prompt_tokens"].unit == "tokens"
    assert "not tokens" in lines_of(made)["Counted in"]


def test_a_measurements_receipt_tells_of_warm_up_and_disturbance() -> None:
    taken = {"ttft_s": figure("ttft_s", "s", [0.1, 0.2, 0.3])}
    model = Measured(Variant("m"), "onnx", "int8", output_tokens=4, figures=taken, other_cpu_cores=0.25, load_s=1.0)
    made = receipts.of_measurement(Measurement("b", "", Request("a"), 3, (model,), HERE, warnings=("busy",)))
    said = lines_of(made.models[0])
    assert said["Start"] == "warm, after 1 answer that does not count"
    assert said["Repeats"] == "3"
    assert said["Other programs"] == "used 25 % of a core meanwhile"
    assert made.warnings == ("busy",)
    assert {"ttft_s", "output_tokens", "load_s"} == set(made.models[0].figures)


def test_the_tokenizer_is_named_by_its_file(tmp_path: Path) -> None:
    load = scripted("hub:a/b")
    artifact = Artifact(Variant("m", "onnx", "int8"), str(tmp_path), "fused", "0123456789abcdef0123456789abcdef", "", 1)
    spec = replace(load.spec, source="hub:a/b")
    assert tokenizer_words(spec, artifact) == "the model's own (hub:a/b, weights at 0123456789abcdef012)"
    (tmp_path / "tokenizer.json").write_text("{}")
    digest = hashlib.sha256(b"{}").hexdigest()[:12]
    assert tokenizer_words(replace(spec, upstream="a/b"), artifact) == (
        f"the model's own: tokenizer.json of a/b, weights at 0123456789abcdef012, sha256 {digest}"
    )
    (tmp_path / "tokenizer.json").write_text('{"a": 1}')
    assert digest not in tokenizer_words(spec, artifact)
    served = replace(spec, remote=Remote("r", "m", "http://127.0.0.1/v1"))
    assert tokenizer_words(served, artifact).startswith("the server of")


def test_markdown_is_not_broken_by_what_models_and_readers_write() -> None:
    nasty = replace(RUN, text="```\n# no heading\n````", error="a | b\n<script>")
    page = markdown(replace(comparison(nasty), request=Request("```end")))
    assert "\n`````text\n```\n# no heading\n````\n`````\n" in page
    assert "\n````text\n```end\n````\n" in page
    assert r"a \| b \<script\>" in page
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert all(line.replace(r"\|", "").count("|") in (3, 5) for line in rows)


def test_markdown_of_a_measurement_has_medians_quartiles_and_order() -> None:
    def model(name: str, *values: float) -> Measured:
        return Measured(Variant(name), output_tokens=4, figures={"ttft_s": figure("ttft_s", "s", values)})

    asked = Request("a", max_new_tokens=4)
    page = markdown(Measurement("b", "", asked, 3, (model("x", 0.1, 0.2, 0.3), model("y", 1.0, 1.1, 1.2)), HERE))
    assert "| Time to first token | 0.2 (0.15 … 0.25) s | 1.1 (1.05 … 1.15) s |" in page
    assert "| Time to first token | 1 | 2 |" in page


def test_a_rank_between_engines_is_marked_and_a_note_names_them() -> None:
    def page(*engines: str | None) -> str:
        return markdown(by_engines(*engines))

    differ = page("kernels avx2", "ONNX Runtime")
    assert "| Time to first token | 1† | 2† |" in differ
    assert "†: Different engines took these figures: ONNX Runtime, kernels avx2." in differ
    assert "kernels avx2, unknown" in page("kernels avx2", None)  # stored before engines were written down
    for same in (page("kernels avx2", "kernels avx2"), page(None, None)):
        assert "| Time to first token | 1 | 2 |" in same and "†" not in same


def test_on_the_page_a_figure_opens_the_receipt_of_that_figure_and_model() -> None:
    other = replace(RUN, variant=Variant("n", "onnx", "int4"), timings=replace(TAKEN, ttft_s=None))
    drawn = popovers(comparison(RUN, other), "here")
    opener = drawn.wrap(0, "ttft_s", "100 ms")
    assert drawn.wrap(1, "ttft_s", "–") == "–"  # no figure, no receipt
    assert 'popovertarget="slip-here-a-0-ttft_s"' in opener
    page = drawn.html()
    assert page.count(" popover ") == 1
    assert 'id="slip-here-a-0-ttft_s"' in page
    assert "m@onnx-int8" in page
    assert "n@onnx-int4" not in page


def test_what_a_model_or_a_file_is_called_can_not_become_markup() -> None:
    nasty = replace(RUN, tokenizer="<img src=x>", warnings=('"><script>alert(1)</script>',))
    made = receipts.of_comparison(comparison(nasty, id='"><b>'))
    drawn = ReceiptPopovers(made, "here")
    page = drawn.wrap(0, "ttft_s", "100 ms") + drawn.html() + downloads(comparison(nasty, id='"><b>'))
    assert not {"<img", "<script", "<b>"} & set(re.findall(r"<\w+>?", page))


def test_a_comparison_is_saved_by_links_and_no_file_is_in_the_page() -> None:
    links = re.findall(r'href="([^"]+)"', save_menu_html("a-1_B") + downloads(comparison(RUN, id="a-1_B")))
    files = [f"export/a-1_B.{ending}" for ending in ("html", "md", "csv", "jsonl", "json")]
    assert links == [*files, "export/a-1_B/code", *files]
    assert save_menu_html("") == ""
    assert "<b>" not in save_menu_html('"><b>')


@pytest.mark.waits
def test_a_comparison_that_ran_has_a_receipt_for_each_of_its_figures(playground: Playground) -> None:
    done = compare(playground, "fast", "fails")
    document = json.loads(json.dumps(receipts.with_receipts(done), allow_nan=False))
    fast, fails = document["receipts"]["models"]
    taken = done.runs[0].timings.to_json()
    shown = {name for name in receipts.RECEIPTS if name != "decode_char_s"}
    assert shown | {"decode_char_s"} == set(fast["figures"])
    assert all(fast["figures"][name]["values"] == [taken[name]] for name in shown)
    assert (fast["start"], fast["tokenizer"]["text"]) == ("cold", "the script's words")
    assert "token 3 fails" in fails["error"]["text"]
    assert Comparison.from_json(document) == done  # an older reader passes over what it does not know
