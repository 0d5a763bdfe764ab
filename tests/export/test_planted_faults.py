"""Faults planted in each link of the chain from the files to the logits are caught; right ones pass.

Whether the fault is in what is judged or in the original makes no difference to a comparison: faults of weights,
windows and positions are put into the original, so that one export of each precision serves for all of them. Those of
the cache are put around the engine.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playground.errors import Reason
from playground.export import check, kernels, reference
from playground.export.recipes import fused
from playground.export.recipes.base import Work
from playground.export.reference import Reference
from playground.records import Fidelity
from playground.runtimes.generation.engine import Engine, Logits
from playground.runtimes.onnx import runtime
from playground.runtimes.torch.networks import Network, load_network
from tests.families import FAMILIES, write
from tests.support import tiny

pytestmark = [pytest.mark.integration, pytest.mark.parallel, pytest.mark.xdist_group("planted faults")]

PRECISIONS = ("fp32", "int8", "int4")
Plant = Callable[[Any], object]
Answers = Callable[[str], Reference]
FAULTS: dict[str, Plant] = {
    "a matrix of zeros": lambda model: model.model.layers[1].self_attn.o_proj.weight.data.zero_(),
    "keys of zeros": lambda model: model.model.layers[1].self_attn.k_proj.weight.data.zero_(),
    "layers in another order": lambda model: swap(model.model.layers),
    "another window": lambda model: set_window(model, 64),
    "positions that jump behind the prompt": lambda model: shift(model.model.rotary_emb),
}
IN_THE_ORIGINAL = FAULTS | {"no window": lambda model: set_window(model, None)}
CAUGHT = [
    (precision, fault)
    for precision in PRECISIONS
    for fault in FAULTS
    # The width of int4 hides this one.
    if (precision, fault) != ("int4", "positions that jump behind the prompt")
]


def swap(layers: Any) -> None:
    first, second = layers[0].state_dict(), layers[1].state_dict()
    kept = {name: tensor.clone() for name, tensor in first.items()}
    layers[0].load_state_dict(second)
    layers[1].load_state_dict(kept)


def set_window(model: Any, window: int | None) -> None:
    model.config.sliding_window = window
    for layer in model.model.layers:
        layer.self_attn.sliding_window = window


def shift(rotary: Any) -> None:
    """Positions from the end of the short prompts on are one too high."""
    forward = rotary.forward
    rotary.forward = lambda x, position_ids: forward(x, position_ids + (position_ids >= 48))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    family = next(each for each in FAMILIES if each.name == "mistral")
    return write(family, tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="module")
def exports(original: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for precision in PRECISIONS:
        target = tmp_path_factory.mktemp(precision)
        options = fused.FUSED_PRECISIONS[precision]
        fused.build_fused(Work(original, original, target, precision, options, target, lambda *_: None))
        kernels.attach(target, lambda *_: None)
        made[precision] = target
    return made


def is_caught(folder: Path, asked: Reference, precision: str) -> bool:
    """Whether the comparison rejects it, or ends because tokens are not the same alone and in company."""
    try:
        return judged(folder, asked, precision).verdict == "rejected"
    except Reason:
        return True


def plant(monkeypatch: pytest.MonkeyPatch, fault: Plant) -> None:
    def faulty(folder: Path, *, deferred: bool) -> Network:  # a fault is written into weights, which must be real
        network = load_network(folder)
        fault(network.model)
        return network

    monkeypatch.setattr(reference, "load_network", faulty)


@pytest.fixture(scope="module")
def answers(original: Path) -> Answers:
    """What the original answers with a fault planted in it, or without; asked once for all precisions."""

    @cache
    def asked(fault: str) -> Reference:
        with pytest.MonkeyPatch.context() as patch:
            if fault:
                plant(patch, IN_THE_ORIGINAL[fault])
            return check.answers_of(original, original, lambda *_: None)

    return asked


def judged(folder: Path, asked: Reference, precision: str) -> Fidelity:
    return check.compared(folder, asked, precision, lambda *_: None)


@pytest.mark.parametrize(("precision", "verdict"), [("fp32", "exact"), ("int8", "faithful"), ("int4", "lossy")])
def test_right_exports_pass(exports: dict[str, Path], original: Path, precision: str, verdict: str) -> None:
    found = check.fidelity(exports[precision], original, precision, lambda *_: None)
    assert found.verdict == verdict, found.reason
    assert found.positions >= 512
    assert set(found.kl_by_text) == {"prose", "code", "Japanese", "long text", check.GREEDY_KIND}


@pytest.mark.parametrize(("precision", "fault"), CAUGHT)
def test_a_fault_in_weights_windows_or_positions_is_caught(
    exports: dict[str, Path], answers: Answers, precision: str, fault: str
) -> None:
    found = judged(exports[precision], answers(fault), precision)
    assert found.verdict == "rejected", found.reason


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_window_that_only_one_of_both_has_is_caught(
    exports: dict[str, Path], answers: Answers, precision: str
) -> None:
    found = judged(exports[precision], answers("no window"), precision)
    assert found.verdict == "rejected", found.reason
    assert "long text" in found.reason


class Around(Engine):
    """An engine with something done to its calls."""

    def __init__(self, inner: Engine) -> None:
        self.inner, self.chunk, self.starts_with = inner, inner.chunk, inner.starts_with
        self.alike_in_parts = inner.alike_in_parts

    def reset(self, length: int) -> None:
        self.inner.reset(length)

    def rewind(self, kept: int, length: int) -> bool:
        return self.inner.rewind(kept, length)

    def reads_in_parts(self, total: int) -> bool:
        return self.inner.reads_in_parts(total)

    def prefill(self, ids: Sequence[int]) -> Logits:
        return self.inner.prefill(ids)

    def step(self, token: int) -> Logits:
        return self.inner.step(token)

    def rows(self, ids: Sequence[int], wanted: int) -> Iterator[Logits]:
        return self.inner.rows(ids, wanted)

    def close(self) -> None:
        self.inner.close()


class GoesBackTooFar(Around):
    """A cache that forgets one token more than it says."""

    def rewind(self, kept: int, length: int) -> bool:
        return self.inner.rewind(kept - 1, length)


class ForgetsParts(Around):
    """Each part of a prompt is read as if nothing came before it."""

    def prefill(self, ids: Sequence[int]) -> Logits:
        self.inner.reset(1024)
        return self.inner.prefill(ids)


class SkipsTokens(Around):
    """Every eighth step leaves nothing in the cache."""

    def __init__(self, inner: Engine) -> None:
        super().__init__(inner)
        self.steps, self.last = 0, np.empty(0)

    def step(self, token: int) -> Logits:
        self.steps += 1
        if self.steps % 8:
            self.last = self.inner.step(token).copy()
        return self.last


class StepsByAHair(Around):
    """One logit of a token that is read alone is another in its last bit."""

    def step(self, token: int) -> Logits:
        row = self.inner.step(token).copy()
        row[7] = np.nextafter(row[7], np.float32(np.inf), dtype=np.float32)
        return row


class StepsOtherwiseAcrossAnEdge(Around):
    """The same of those that are the 65th of a text alone."""

    def __init__(self, inner: Engine) -> None:
        super().__init__(inner)
        self.length = 0

    def reset(self, length: int) -> None:
        super().reset(length)
        self.length = 0

    def rewind(self, kept: int, length: int) -> bool:
        self.length = kept
        return super().rewind(kept, length)

    def prefill(self, ids: Sequence[int]) -> Logits:
        self.length += len(ids)
        return super().prefill(ids)

    def rows(self, ids: Sequence[int], wanted: int) -> Iterator[Logits]:
        self.length += len(ids)
        return super().rows(ids, wanted)

    def step(self, token: int) -> Logits:
        self.length += 1
        row = self.inner.step(token).copy()
        if self.length == 2 * check.EDGE + 1:
            row[7] = np.nextafter(row[7], np.float32(np.inf), dtype=np.float32)
        return row


class ReadsInAnotherOrder(Around):
    """What is read in company comes with the last two tokens' logits exchanged."""

    def rows(self, ids: Sequence[int], wanted: int) -> Iterator[Logits]:
        found = [row.copy() for row in self.inner.rows(ids, wanted)]
        yield from (*found[:-2], *reversed(found[-2:]))


def put(around: type[Around], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every engine that is opened stand behind a faulty one."""
    opened = runtime.open_engine
    monkeypatch.setattr(runtime, "open_engine", lambda *given, **named: around(opened(*given, **named)))


@pytest.mark.parametrize(
    ("precision", "around"),
    [
        *[(precision, ForgetsParts) for precision in PRECISIONS],
        *[(precision, SkipsTokens) for precision in PRECISIONS],
        ("fp32", GoesBackTooFar),
        ("int8", GoesBackTooFar),
    ],
)
def test_a_fault_in_the_cache_is_caught(
    exports: dict[str, Path],
    answers: Answers,
    precision: str,
    around: type[Around],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(around, monkeypatch)
    assert is_caught(exports[precision], answers(""), precision)


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("around", [StepsByAHair, StepsOtherwiseAcrossAnEdge, ReadsInAnotherOrder])
def test_kernels_that_read_a_token_otherwise_alone_than_in_company_are_caught(
    exports: dict[str, Path],
    answers: Answers,
    precision: str,
    around: type[Around],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(around, monkeypatch)
    with pytest.raises(Reason, match="other logits alone than in company"):
        judged(exports[precision], answers(""), precision)


class Counted(Around):
    """How many tokens it read alone, and how many rows it gave in company."""

    def __init__(self, inner: Engine) -> None:
        super().__init__(inner)
        self.alone = self.company = 0

    def step(self, token: int) -> Logits:
        self.alone += 1
        return super().step(token)

    def rows(self, ids: Sequence[int], wanted: int) -> Iterator[Logits]:
        self.company += wanted
        return super().rows(ids, wanted)


@pytest.mark.parametrize(("precision", "alone"), [("fp32", 515 - 4), ("int8", 15 + 3 * 24 + 20)])
def test_kernels_read_few_tokens_alone_and_all_in_company(
    exports: dict[str, Path], answers: Answers, precision: str, alone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, engines = runtime.open_engine, list[Counted]()

    def counted(*given: Any, **named: Any) -> Engine:
        engines.append(Counted(opened(*given, **named)))
        return engines[-1]

    monkeypatch.setattr(runtime, "open_engine", counted)
    found = judged(exports[precision], answers(""), precision)
    (engine,) = engines
    assert found.positions == 515
    assert engine.alone == alone
    # Every position but those behind the four prompts.
    assert engine.company == (0 if precision == "fp32" else 515 - 4)


def test_tokens_are_read_alone_behind_a_prompt_across_each_edge_and_at_the_end() -> None:
    assert check._cuts(48, 172) == [48, 62, 94, 126, 158, 168]
    assert check._cuts(516, 640) == [516, 542, 574, 606, 636]
    assert check._cuts(5, 16) == [5, 12]
    assert check._cuts(60, 70) == [60, 66]
    assert check._cuts(5, 8) == [5]
    assert check._cuts(5, 5) == []


# The torch runtime is judged as well.


def torch_judged(imported: Path, original: Path) -> Fidelity:
    return check.torch_fidelity(imported, original, lambda *_: None)


def test_torch_is_equal_to_the_original_in_few_positions(original: Path) -> None:
    found = torch_judged(original, original)
    assert found.verdict == "exact", found.reason
    assert 40 <= found.positions < 80
    assert found.reference == check.REFERENCE


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_between_the_original_and_torch_is_caught(
    original: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, FAULTS[fault])
    found = torch_judged(original, original)
    assert found.verdict == "rejected", found.reason


def test_an_import_that_lost_weights_is_caught(original: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    imported = shutil.copytree(original, tmp_path / "imported")
    weights = load_file(imported / "model.safetensors")
    weights["model.layers.0.mlp.down_proj.weight"].mul_(1.05)
    save_file(weights, imported / "model.safetensors", {"format": "pt"})
    found = torch_judged(imported, original)
    assert found.verdict == "rejected", found.reason


@pytest.mark.parametrize("around", [GoesBackTooFar, ForgetsParts, SkipsTokens])
def test_a_fault_in_torchs_cache_is_caught(
    shapes: Callable[..., Path], around: type[Around], monkeypatch: pytest.MonkeyPatch
) -> None:
    from playground.runtimes.torch.runtime import TorchRuntime

    original = shapes("llama", vocab_size=tiny.VOCAB, **LLAMA)  # no window: its cache can be rewound
    opened = TorchRuntime.open_engine
    monkeypatch.setattr(TorchRuntime, "open_engine", lambda self, load: around(opened(self, load)))
    found = torch_judged(original, original)
    assert found.verdict == "rejected", found.reason


# Models of other shapes.


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    def write_shape(kind: str, encoder: bool = False, **config: Any) -> Path:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

        folder = tiny.write_tokenizer(tmp_path_factory.mktemp(kind), template=None)
        torch.manual_seed(0)
        auto: Any = AutoModelForSeq2SeqLM if encoder else AutoModelForCausalLM
        network = auto.from_config(AutoConfig.for_model(kind, **config))
        with torch.no_grad():
            for weight in network.parameters():
                if weight.dim() > 1:
                    weight.normal_(std=0.15)
        network.save_pretrained(folder)
        return folder

    yield write_shape


TOKENS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
LLAMA = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, **TOKENS}


def test_a_context_of_few_tokens_is_read_in_parts_and_told(shapes: Callable[..., Path]) -> None:
    folder = shapes("llama", vocab_size=tiny.VOCAB, max_position_embeddings=16, **LLAMA)
    found = torch_judged(folder, folder)
    assert found.verdict == "exact", found.reason
    assert "in parts of 16 tokens" in found.reason


def test_logits_wider_than_the_tokenizer_are_compared(shapes: Callable[..., Path]) -> None:
    folder = shapes("llama", vocab_size=tiny.VOCAB + 128, **LLAMA)
    assert torch_judged(folder, folder).verdict == "exact"


def test_an_export_with_fewer_logits_than_tokens_is_an_error_that_says_so(original: Path) -> None:
    asked = reference.ask(original, check.quick_passages)
    row = np.zeros(asked.tokens - 4, np.float32)
    narrow = [check.Pair("prose", asked.expected[0].rows[0], row)]
    with pytest.raises(ValueError, match=f"{len(row)} logits for a tokenizer of {asked.tokens} tokens"):
        list(check._told(asked, narrow, lambda *_: None))


def test_padding_that_the_export_left_out_is_not_compared(shapes: Callable[..., Path]) -> None:
    asked = reference.ask(shapes("llama", vocab_size=tiny.VOCAB + 128, **LLAMA), check.quick_passages)
    row = asked.expected[0].rows[0]
    assert len(row) == tiny.VOCAB + 128
    (pair,) = check._told(asked, [check.Pair("prose", row, row[: tiny.VOCAB])], lambda *_: None)
    assert len(pair.original) == len(pair.export) == tiny.VOCAB


def test_an_encoder_reads_the_prompt_and_the_decoder_is_compared(shapes: Callable[..., Path]) -> None:
    size = {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    ids = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "decoder_start_token_id": 1}
    folder = shapes(
        "bart", encoder=True, d_model=32, encoder_layers=1, decoder_layers=1, vocab_size=tiny.VOCAB, **size, **ids
    )
    found = torch_judged(folder, folder)
    assert found.verdict == "exact", found.reason
    assert found.positions > 40


def test_where_the_plain_forward_pass_sees_the_future_generate_alone_is_believed(shapes: Callable[..., Path]) -> None:
    folder = shapes("xlnet", vocab_size=tiny.VOCAB, d_model=32, n_layer=2, n_head=2, d_inner=64)
    asked = reference.ask(folder, check.quick_passages)
    assert reference.CONTRADICTION in asked.notes
    (expected,) = asked.expected
    # Its own words, and the text by tokens that are forced on it: all of it in steps, as users get it.
    assert (len(expected.rows), len(expected.greedy)) == (1 + reference.ALONE, reference.ALONE)
    assert (expected.rows[0] == expected.greedy[0]).all()


def test_the_original_is_read_by_transformers_own_generate(original: Path) -> None:
    import torch

    (expected,) = reference.ask(original, check.quick_passages).expected
    model = load_network(original).model
    prompt = torch.tensor([expected.passage.ids[: expected.passage.prompt]])
    with torch.inference_mode():
        found = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=16)
        rows = model(torch.tensor([expected.passage.ids])).logits[0, expected.passage.prompt - 1 :]
    assert tuple(found[0, prompt.shape[1] :].tolist()) == expected.continued
    assert torch.allclose(torch.from_numpy(expected.rows), rows, atol=1e-4)
