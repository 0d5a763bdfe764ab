"""The torch engine of encoder-decoder models: each class gives the numbers that ``generate`` gets of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from playground.runtimes.generation.engine import Interrupted
from playground.runtimes.generation.ids_scorer import IdsScorer, wrong_start
from playground.runtimes.generation.prefix_cache import PrefixCache
from playground.runtimes.generation.token_scores import ScoreIds
from tests.families.sweep.names import architectures
from tests.families.sweep.networks import write

if TYPE_CHECKING:
    from playground.runtimes.torch.networks import Network

KINDS = (
    *(
        "t5",
        "bart",
        "marian",
        "m2m_100",
        "fsmt",
        "prophetnet",
        "led",
        "bigbird_pegasus",
        "longt5",
        "switch_transformers",
    ),
    *("t5gemma", "t5gemma2", "encoder-decoder", "seamless_m4t"),
)

pytestmark = [pytest.mark.integration, pytest.mark.parallel]


def tiny_network(folder: Path, name: str) -> Network:
    from playground.runtimes.torch.networks import load_network

    write(architectures("seq2seq")[name], folder / name)
    if name == "prophetnet":  # positions are counted from the id of padding, which its class takes to be 0
        path = folder / name / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token_id": 0}))
    return load_network(folder / name)


@pytest.mark.parametrize("name", KINDS)
def test_torch_gives_the_logits_of_generate_whatever_the_class_keeps(tmp_path: Path, name: str) -> None:
    import torch
    from transformers import LogitsProcessor

    from playground.runtimes.torch.seq2seq import TorchSeq2SeqEngine

    network = tiny_network(tmp_path, name)
    assert network.has_encoder
    prompt, answer = [(37 * place + 11) % 250 for place in range(150)], [(53 * place + 7) % 250 for place in range(12)]

    class Written(LogitsProcessor):
        """Whatever the network says, ``answer`` is written."""

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            row = torch.full_like(scores, -1e9)
            row[:, answer[input_ids.shape[1] - 1]] = 0
            return row

    ids = torch.tensor([prompt])
    wanted = network.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=len(answer),
        do_sample=False,
        num_beams=1,
        logits_processor=[Written()],
        eos_token_id=None,
        output_logits=True,
        return_dict_in_generate=True,
    ).logits
    engine = TorchSeq2SeqEngine(network.model)
    for _ in range(2):  # a second answer knows nothing of the first
        engine.reset(0)
        rows = [engine.prefill(prompt), *(engine.step(token) for token in answer[:-1])]
        for row, expected in zip(rows, wanted, strict=True):
            np.testing.assert_array_equal(row, expected[0].numpy())


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_what_stands_before_a_start_is_encoded_and_the_rest_scored(tmp_path: Path, name: str) -> None:
    import torch

    from playground.runtimes.torch.seq2seq import TorchSeq2SeqEngine

    network = tiny_network(tmp_path, name).model
    engine = TorchSeq2SeqEngine(network)
    prompt, answer = [(37 * place + 11) % 250 for place in range(30)], [(53 * place + 7) % 250 for place in range(6)]
    task = ScoreIds(((*prompt, *answer), (*prompt, 5)), top=1, starts=(30, 30))
    scored = IdsScorer(PrefixCache(engine)).score(task, lambda: False, lambda _: None)
    written = torch.tensor([[*(engine.starts_with or ()), *answer[:-1]]])
    with torch.inference_mode():
        rows = network(input_ids=torch.tensor([prompt]), decoder_input_ids=written).logits[0].log_softmax(-1)
    true = [float(row[token]) for row, token in zip(rows, answer, strict=True)]
    assert list(scored.logprobs[0]) == pytest.approx(true, abs=1e-4)
    assert scored.logprobs[1][0] == pytest.approx(float(rows[0, 5]), abs=1e-4)
    assert wrong_start(ScoreIds(((1, 2),)), engine) and not wrong_start(task, engine)


def test_stop_is_heard_while_a_prompt_is_encoded(tmp_path: Path) -> None:
    from playground.runtimes.torch.seq2seq import TorchSeq2SeqEngine

    engine = TorchSeq2SeqEngine(tiny_network(tmp_path, "t5").model)
    engine.reset(0)
    first = engine.prefill([5, 9, 30]).copy()
    layers = engine._model.encoder.block
    hook = layers[0].register_forward_hook(lambda *_: engine.interrupt())  # somebody stops behind the first layer
    later: list[int] = []
    other = layers[1].register_forward_hook(lambda *_: later.append(1))
    engine.reset(0)
    with pytest.raises(Interrupted):
        engine.prefill([5, 9, 30])
    assert not later
    hook.remove()
    other.remove()
    engine.reset(0)
    np.testing.assert_array_equal(engine.prefill([5, 9, 30]), first)
