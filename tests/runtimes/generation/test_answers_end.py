"""What ends an answer: stop strings, control tokens among them, and the end of a turn, none of which is shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer

from playground.records import LoadSpec, ModelRun, Request
from playground.runtimes.generation.decoding import DecodingRuntime
from playground.runtimes.generation.engine import Engine, Logits
from tests.support import tiny

TEMPLATE = (
    "{% for m in messages %}<|turn|>{{ m['role'] }}\n{{ m['content'] }}<|close|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)


class Saying(Engine):
    """Says the given ids one after the other, whatever it reads."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids, self.at = list(ids), 0

    def reset(self, length: int) -> None:
        self.at = 0

    def prefill(self, ids: Sequence[int]) -> Logits:
        self.at = 0
        return self.step(0)

    def step(self, token: int) -> Logits:
        logits = np.zeros(tiny.VOCAB + 1, np.float32)
        logits[self.ids[min(self.at, len(self.ids) - 1)]] = 1
        self.at += 1
        return logits


class SayingRuntime(DecodingRuntime):
    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def open_engine(self, load: LoadSpec) -> Engine:
        return self.engine


def answer(folder: Path, text: str, *, special: bool = True, stop: tuple[str, ...] = ()) -> ModelRun:
    """The run of a chat model that says ``text``, in which <|close|> is a token, special or not."""
    tiny.write_tokenizer(folder, template=TEMPLATE)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken("<|close|>", special=special, normalized=False)])
    tokenizer.save(str(folder / "tokenizer.json"))
    runtime = SayingRuntime(Saying(tokenizer.encode(text).ids))
    runtime.load(LoadSpec(tiny.spec(), tiny.artifact(folder, "onnx"), threads=1))
    events = list(runtime.generate(Request("Hi", max_new_tokens=12, stop=stop), lambda: False))
    run = events[-1].run
    assert run is not None and "".join(event.text for event in events if event.kind == "token") == run.text
    return run


@pytest.mark.parametrize("special", [True, False])
def test_the_templates_end_of_a_turn_ends_the_answer_and_is_not_shown(tmp_path: Path, special: bool) -> None:
    run = answer(tmp_path, "the fox<|close|> and more", special=special)
    assert (run.text, run.finish_reason) == ("the fox", "stop")


@pytest.mark.parametrize(
    ("stop", "text"),
    [("<|end|>", "the fox"), ("fox<|end|>", "the "), ("<|end|><|turn|>", "the fox"), ("fox<|close|>", "the fox and ")],
)
def test_a_stop_string_that_holds_control_tokens_ends_the_answer_before_it(
    tmp_path: Path, stop: str, text: str
) -> None:
    run = answer(tmp_path, "the fox<|end|><|turn|> and fox<|close|>", stop=(stop,))
    assert (run.text, run.finish_reason) == (text, "stop")


def test_a_control_token_that_nobody_asked_to_stop_at_is_passed_over(tmp_path: Path) -> None:
    assert answer(tmp_path, "the fox<|end|> and<|close|>", stop=("<|turn|>",)).text == "the fox and"
