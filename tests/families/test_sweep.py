"""The sweep over transformers' architectures: its judgement, processes and page, and the most used ones for real."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from playground.runtimes.generation.engine import Logits
from playground.runtimes.generation.prefix_cache import PrefixCache
from playground.runtimes.generation.sampling import Sampler
from tests.families.report import PAGE
from tests.families.sweep import page, rows
from tests.families.sweep.child import attempt, keep_to_one_core
from tests.families.sweep.children import Child, Job, Reply, work_through
from tests.families.sweep.judge import CLOSE, Expected
from tests.families.sweep.names import LISTS, Architecture, ListName, architectures, chosen
from tests.families.sweep.rows import FAULTS, ROUNDED_KL, Row, compared, judged

USED: dict[ListName, str] = {
    "causal": "llama qwen2 qwen3 mistral gemma gemma2 gemma3_text gemma3n_text gemma4_text phi phi3 gpt2 gpt_neo"
    " gpt_neox opt bloom falcon mpt olmo olmo2 olmo3 granite granitemoehybrid~dense smollm3 lfm2 mamba mamba2"
    " falcon_mamba rwkv bamba jamba zamba2 recurrent_gemma nemotron_h mixtral qwen3_moe qwen3_5 deepseek_v3 gpt_oss"
    " stablelm starcoder2 cohere glm4 exaone4",
    "seq2seq": "t5 bart marian",
    "image-text": "gemma3 qwen2_5_vl llava mistral3",
}
"""The architectures of the most downloaded checkpoints; among them is each kind of cache."""

EXPECTED = Expected(ids=[5, 6], new=[7, 8, 9], text="abc", leads=[3.0, 1.0, 2.0], consistent=True)


def facts(got: list[int], text: str = "abc", expected: Expected = EXPECTED, **more: object) -> dict[str, object]:
    return compared(got, text, [5, 6], expected) | more


# -- judgement --------------------------------------------------------------------------------------------------------


def test_the_same_tokens_and_text_are_right() -> None:
    assert judged({"short": facts([7, 8, 9])}, rounded=False) == ("right", "")


def test_the_same_tokens_with_another_text_are_wrong() -> None:
    outcome, reason = judged({"short": facts([7, 8, 9], text="ab")}, rounded=True)
    assert outcome == "wrong"
    assert "another text" in reason


def test_another_prompt_is_wrong_whatever_was_answered() -> None:
    answers = {"short": compared([7, 8, 9], "abc", [4, 5, 6], EXPECTED)}
    assert judged(answers, rounded=True)[0] == "wrong"


def test_another_token_is_wrong_and_the_first_one_is_named() -> None:
    assert judged({"short": facts([7, 1, 9])}, rounded=False) == ("wrong", "short: token 1 differs")


def test_an_answer_that_ends_early_is_wrong_at_its_end() -> None:
    assert judged({"short": facts([7, 8])}, rounded=False) == ("wrong", "short: token 2 differs")
    assert judged({"short": facts([7, 8, 9, 1])}, rounded=False) == ("wrong", "short: token 3 differs")


def test_a_near_tie_is_a_tie_only_where_the_first_difference_is() -> None:
    near = Expected([5, 6], [7, 8, 9], "abc", [3.0, CLOSE / 2, 2.0], consistent=True)
    assert judged({"short": facts([7, 1, 1], expected=near)}, rounded=False)[0] == "tie"
    assert judged({"short": facts([7, 8, 1], expected=near)}, rounded=False)[0] == "wrong"


def test_rounding_explains_other_tokens_only_at_a_small_divergence() -> None:
    assert judged({"short": facts([7, 1, 9], kl=ROUNDED_KL / 2)}, rounded=True)[0] == "differs"
    assert judged({"short": facts([7, 1, 9], kl=ROUNDED_KL * 2)}, rounded=True)[0] == "wrong"
    assert judged({"short": facts([7, 1, 9], kl=float("nan"))}, rounded=True)[0] == "wrong"
    assert judged({"short": facts([7, 1, 9], kl=ROUNDED_KL / 2)}, rounded=False)[0] == "wrong"


def test_divergence_that_could_not_be_measured_explains_nothing() -> None:
    assert judged({"short": facts([7, 1, 9], kl=None)}, rounded=True)[0] == "wrong"


def test_where_transformers_contradicts_itself_nothing_is_judged_but_its_own_answer_is_right() -> None:
    torn = Expected([5, 6], [7, 8, 9], "abc", [3.0, 1.0, 2.0], consistent=False)
    assert judged({"short": facts([7, 1, 9], expected=torn)}, rounded=False)[0] == "not judged"
    assert judged({"short": facts([7, 8, 9], expected=torn)}, rounded=False)[0] == "right"


# -- rows and the page ------------------------------------------------------------------------------------------------


def row(
    name: str, outcome: rows.Outcome, precision: str = "onnx-fp32", listed: ListName = "causal", **more: str
) -> Row:
    return Row(listed, name, precision, outcome, **more)


def test_the_newest_row_of_an_architecture_counts(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    lines = [row("llama", "wrong"), row("gpt2", "right"), row("llama", "right"), row("llama", "tie", "onnx-int8")]
    file.write_text("".join(each.to_line() + "\n" for each in lines), encoding="utf-8")
    found = {each.key: each.outcome for each in rows.read(file)}
    assert found == {
        ("causal", "gpt2", "onnx-fp32"): "right",
        ("causal", "llama", "onnx-fp32"): "right",
        ("causal", "llama", "onnx-int8"): "tie",
    }


def test_the_last_row_of_an_architecture_is_that_of_the_last_variant_or_a_fault() -> None:
    both = ["onnx-fp32", "onnx-int8"]
    assert not row("llama", "right").last(both)
    assert row("llama", "right").last(["onnx-fp32"])
    assert row("llama", "differs", "onnx-int8").last(both)
    assert row("llama", "wrong").last(both)
    assert row("llama", "not judged").last(both)


def test_the_page_names_each_architecture_in_its_group_and_each_reason_once() -> None:
    found = [
        row("llama", "right", way="fused", engine="onnxruntime"),
        row("gpt2", "right", way="fused", engine="onnxruntime"),
        row("xlm", "refused", reason="causal-xlm can't be served"),
        row("rwkv", "refused", reason="causal-rwkv can't be served"),
        row("t5", "right", listed="seq2seq", way="torch", engine="torch"),
    ]
    text = page.section(found)
    assert "- right, by fused (onnxruntime), 2: gpt2, llama\n" in text
    assert "- right, by torch, 1: t5\n" in text
    assert "- rwkv (Causal, onnx-fp32), xlm (Causal, onnx-fp32): NAME can't be served\n" in text
    assert "| Causal | onnx-fp32 | 2 | – | – | – | 2 | – | – |" in text
    assert page.named(text) == {
        ("Causal", "onnx-fp32"): ["gpt2", "llama", "rwkv", "xlm"],
        ("Sequence to sequence", "onnx-fp32"): ["t5"],
    }


def test_the_section_replaces_the_one_before_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("# Families\n\n| a | b |\n", encoding="utf-8")
    page.write([row("llama", "wrong")], file)
    page.write([row("llama", "right"), row("llama~odd", "crash")], file)
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# Families\n\n| a | b |\n\n")
    assert text.count(page.START) == text.count(page.END) == 1
    assert "- right, 1: llama\n" in text
    assert "- wrong" not in text
    assert "odd" not in text
    assert page.kept(text) == text[text.index(page.START) :]


def test_the_lists_are_those_of_the_installed_transformers() -> None:
    assert {"llama", "mamba", "gemma3"} <= set(architectures("causal"))
    assert {"t5", "bart"} <= set(architectures("seq2seq"))
    assert {"gemma3", "llava"} <= set(architectures("image-text"))
    shape = chosen("causal", ("llama~llama3-rope", "t5"))
    assert [(each.name, each.model_type) for each in shape] == [("llama~llama3-rope", "llama")]


def test_the_page_has_every_architecture_of_the_lists_once_and_no_fault() -> None:
    text = PAGE.read_text(encoding="utf-8")
    found = page.named(text)
    for listed in LISTS:
        names = found[page.titled(listed), "onnx-fp32"]
        assert sorted(names) == sorted(architectures(listed))
    groups = [line for line in page.kept(text).splitlines() if line.startswith(tuple(f"- {fault}" for fault in FAULTS))]
    assert groups == []


# -- processes --------------------------------------------------------------------------------------------------------

SCRIPT = """
import json, os, sys, time
for line in sys.stdin:
    job = json.loads(line)
    if job["name"] == "dies":
        os._exit(3)
    if job["name"] == "killed":
        os.kill(os.getpid(), 11)
    if job["name"] == "sleeps":
        time.sleep(60)
    print(json.dumps({"name": job["name"], "pid": os.getpid()}), flush=True)
    print(json.dumps({"done": job["name"]}), flush=True)
"""


@pytest.mark.waits
def test_a_child_that_dies_or_takes_too_long_is_replaced_and_the_rest_goes_on(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    jobs: list[Job] = [{"name": name} for name in ("one", "dies", "killed", "sleeps", "two")]
    got: list[tuple[str, Reply]] = []
    with (tmp_path / "log").open("wb") as log:
        child = Child((sys.executable, str(script)), log)
        work_through(jobs, [child], timeout=5.0, take=lambda job, reply: got.append((job["name"], reply)))
    said = {name: reply.get("died", "") for name, reply in got}
    assert said == {
        "one": "",
        "dies": "the process ended with 3",
        "killed": "the process was ended by SIGSEGV",
        "sleeps": "took longer than 5 s",
        "two": "",
    }
    pids = {name: reply["pid"] for name, reply in got if "pid" in reply}
    assert pids["one"] != pids["two"]
    for pid in pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.waits
def test_two_children_share_the_jobs_and_each_is_done_once(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(textwrap.dedent(SCRIPT), encoding="utf-8")
    names = [f"job-{number}" for number in range(8)]
    got: list[str] = []
    with (tmp_path / "log").open("wb") as log:
        team = [Child((sys.executable, str(script)), log) for _ in range(2)]
        work_through([{"name": name} for name in names], team, 30.0, lambda job, reply: got.append(reply["name"]))
    assert sorted(got) == names


# -- the most used architectures --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_core() -> Iterator[None]:
    """Threads of such small networks mostly wait for each other. Each worker has a core of its own: these tests go to
    whoever is free.
    """
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    keep_to_one_core(int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")))
    yield
    if before:
        os.sched_setaffinity(0, before)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def prepared(one_core: None, work: Path) -> Path:
    """Where the plain Llama is ready: what is broken afterwards was right when it was judged."""
    assert plain(work).outcome == "right"
    return work


def most_used() -> list[Architecture]:
    return [each for listed in LISTS for each in chosen(listed, tuple(USED[listed].split()))]


def test_forty_architectures_are_among_the_most_used() -> None:
    assert len({each.model_type for each in most_used()}) >= 40
    assert len(most_used()) == sum(len(names.split()) for names in USED.values())


@pytest.mark.integration
@pytest.mark.parallel
@pytest.mark.usefixtures("one_core")
@pytest.mark.parametrize("architecture", most_used(), ids=lambda each: each.folder)
def test_the_torch_runtime_answers_as_generate_does(architecture: Architecture, work: Path) -> None:
    (found,) = attempt(architecture, ["torch-fp32"], work / "models", work / "home")
    assert found.outcome == "right", found.reason
    assert found.way == "torch"
    assert found.answers["shared start"]["behind"] == "stopped"
    assert found.answers["long"]["distinct"] > 30  # an answer of one token, again and again, would prove little


def plain(work: Path) -> rows.Row:
    (llama,) = chosen("causal", ("llama",))
    (found,) = attempt(llama, ["torch-fp32"], work / "models", work / "home")
    return found


@pytest.mark.integration
@pytest.mark.parallel
@pytest.mark.usefixtures("one_core")
def test_one_other_token_somewhere_in_an_answer_is_found(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choose = Sampler.next

    def slips(self: Sampler, logits: Logits, history: Sequence[int]) -> int:
        token = choose(self, logits, history)
        return (token + 1 if token < 300 else token - 1) if len(history) == 310 else token

    monkeypatch.setattr(Sampler, "next", slips)
    found = plain(prepared)
    assert found.outcome == "wrong"
    assert found.reason.startswith("long: token ")


@pytest.mark.integration
@pytest.mark.parallel
@pytest.mark.usefixtures("one_core")
def test_a_cache_that_keeps_too_much_of_the_prompt_before_is_found(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = PrefixCache.begin

    def greedy(self: PrefixCache, ids: Sequence[int], length: int, reuse: bool, answer: Sequence[int] = ()) -> int:
        kept = begin(self, ids, length, reuse, answer)
        return min(kept + 9, len(ids) - 2) if kept else 0

    monkeypatch.setattr(PrefixCache, "begin", greedy)
    found = plain(prepared)
    assert found.outcome == "wrong"
    assert found.reason.startswith("shared start: token ")
    assert found.answers["long"]["equal"]


@pytest.mark.integration
@pytest.mark.parallel
@pytest.mark.usefixtures("one_core")
def test_an_exception_of_the_product_is_a_row_with_its_place(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PrefixCache, "begin", lambda *_, **__: 1 // 0)
    found = plain(prepared)
    assert found.outcome == "crash"
    assert found.reason.startswith("ZeroDivisionError")
    assert "test_sweep.py" in found.reason
    assert found.stage == "load"
