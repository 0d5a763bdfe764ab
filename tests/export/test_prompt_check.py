"""The check of an import's prompts passes where they are transformers' and catches a fault in each link."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, pre_tokenizers, processors
from transformers import AutoTokenizer

from playground.catalog.template_files import bring_template
from playground.export import prompt_check
from playground.export.prompt_check import check_prompts
from playground.records import Request
from playground.runtimes.generation.encoding import Encoder
from playground.runtimes.generation.prompt import Prompter
from tests.support.tiny import SPECIALS, TEMPLATE, spec, write_tokenizer

TURN = "{% for m in messages %}<|turn|>{{ m['role'] }}\n"
END = "<|end|>\n{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
PARTS = "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
ONE_BY_ONE = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}"
    "{% endif %}{% endfor %}"
)
TEMPLATES = {
    "usual": TEMPLATE,
    "with a beginning": "{{ bos_token }}" + TEMPLATE,
    "parts": TURN + PARTS + END,
    "trims": TURN + "{{ m.content | trim }}" + END,
    "no system": NO_SYSTEM + TURN + "{{ m.content }}" + END,
    "strict turns": NO_SYSTEM + ONE_BY_ONE + TURN + "{{ m.content }}" + END,
    "needs a system prompt": "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}"
    + TURN
    + "{{ m.content }}"
    + END,
    "upper case": TURN + "{{ m.content | upper }}" + END,
    "system ignored": TURN.replace("<|turn|>", "{% if m.role != 'system' %}<|turn|>")
    + "{{ m.content }}{% endif %}"
    + END,
    "cuts at a control token": TURN + "{{ m.content.split('<|end|>')[0] }}" + END,
    "named tokens": "{{ sep_token }}{{ image_token }}" + TURN + "{{ m.content }}" + END,
}
CONFIG = {"bos_token": "<|turn|>", "sep_token": "<|end|>", "image_token": "<|eos|>"}


def with_beginning(folder: Path) -> Path:
    """Its tokenizer writes <|turn|> before a text and <|eos|> behind it."""
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    named = [(name, SPECIALS.index(name)) for name in SPECIALS]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|turn|> $A <|eos|>", pair="<|turn|> $A $B <|eos|>", special_tokens=named
    )
    tokenizer.save(str(path))
    return folder


def imported(folder: Path, template: str | None = TEMPLATE) -> tuple[Any, Path]:
    """transformers' tokenizer of the original, and the folder an import writes of it."""
    original = with_beginning(write_tokenizer(folder / "original", template=template, **CONFIG))
    tokenizer = AutoTokenizer.from_pretrained(original)
    tokenizer.save_pretrained(folder / "import")
    bring_template(original, folder / "import")
    return tokenizer, folder / "import"


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_import_as_it_should_be_has_no_difference(tmp_path: Path, name: str) -> None:
    verdict = check_prompts(*imported(tmp_path, TEMPLATES[name]), spec())
    assert verdict.differences == ()
    assert verdict.compared >= 18, "chats, with a system prompt, of two turns, and with control tokens typed"


@pytest.mark.parametrize("kind", ["base", "text2text", "chat"])
def test_plain_prompts_are_compared_where_there_is_no_template(tmp_path: Path, kind: str) -> None:
    verdict = check_prompts(*imported(tmp_path, None), spec(kind=kind))
    assert verdict.differences == () and verdict.compared >= 14


def test_a_documented_format_and_a_processors_template_are_compared_too(tmp_path: Path) -> None:
    tokenizer, folder = imported(tmp_path, None)
    documented = dataclasses.replace(spec(), chat_template=TEMPLATE)
    assert check_prompts(tokenizer, folder, documented).differences == ()
    (tmp_path / "original" / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    assert bring_template(tmp_path / "original", folder)
    verdict = check_prompts(tokenizer, folder, spec())
    assert verdict.differences == () and verdict.compared >= 18


def test_a_template_that_loses_what_is_asked_is_not_the_imports_fault(tmp_path: Path) -> None:
    assert check_prompts(*imported(tmp_path, TURN + END), spec()).differences == ()


def test_a_template_that_tells_a_running_time_is_not_a_difference(tmp_path: Path) -> None:
    tokenizer, folder = imported(tmp_path, "{{ strftime_now('%H:%M:%S.%f') }}" + TEMPLATE)
    verdict = check_prompts(tokenizer, folder, spec())
    assert verdict.differences == () and verdict.compared >= 18


# -- planted faults -------------------------------------------------------------------------------------------------


def change_tokenizer(change: Callable[[Tokenizer], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        change(tokenizer)
        tokenizer.save(str(folder / "tokenizer.json"))

    return apply


def change_template(before: str, after: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "chat_template.jinja"
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))

    return apply


def forget_the_end(tokenizer: Tokenizer) -> None:
    named = [("<|turn|>", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<|turn|> $A", pair="$A $B", special_tokens=named)


def forget_the_beginning(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.ByteLevel()


def split_elsewhere(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def swap_ids(folder: Path) -> None:
    path = folder / "tokenizer.json"
    told = json.loads(path.read_text())
    vocab = told["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    path.write_text(json.dumps(told))


FAULTS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "no beginning": ("base", change_tokenizer(forget_the_beginning)),
    "no end": ("base", change_tokenizer(forget_the_end)),
    "a prefix space": ("base", change_tokenizer(split_elsewhere)),
    "a prefix space in chats": ("chat", change_tokenizer(split_elsewhere)),
    "swapped ids": ("base", swap_ids),
    "an added word": ("base", change_tokenizer(lambda t: t.add_tokens([AddedToken("quick")]) and None)),
    "no newline behind a role": ("chat", change_template("{{ m['role'] }}\n", "{{ m['role'] }} ")),
    "no end of a turn": ("chat", change_template("<|end|>\n{% endfor %}", "\n{% endfor %}")),
    "no generation prompt": ("chat", change_template("{% if add_generation_prompt %}", "{% if false %}")),
    "another system prompt of its own": ("chat", change_template("Be brief.", "Be long.")),
    "no template": ("chat", lambda folder: (folder / "chat_template.jinja").unlink()),
    "no tokenizer": ("chat", lambda folder: (folder / "tokenizer.json").unlink()),
    "a broken template": ("chat", change_template("{% endif %}", "")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_import_is_caught(tmp_path: Path, name: str) -> None:
    kind, plant = FAULTS[name]
    tokenizer, folder = imported(tmp_path)
    assert check_prompts(tokenizer, folder, spec(kind=kind)).differences == ()
    plant(folder)
    assert check_prompts(tokenizer, folder, spec(kind=kind)).differences


def test_a_named_token_that_the_import_lost_is_caught(tmp_path: Path) -> None:
    tokenizer, folder = imported(tmp_path, TEMPLATES["named tokens"])
    told = json.loads((folder / "tokenizer_config.json").read_text())
    del told["sep_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    assert "the text differs at character" in check_prompts(tokenizer, folder, spec()).differences[0]


def test_a_prompter_that_reads_typed_control_tokens_as_such_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, folder = imported(tmp_path)
    monkeypatch.setattr(Encoder, "encode_apart", lambda self, text, users: list(self.encode(text).ids))
    found = check_prompts(tokenizer, folder, spec()).differences
    assert len(found) == 2 and all("control token" in difference for difference in found)


def test_a_prompter_that_leaves_the_system_prompt_out_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, folder = imported(tmp_path)
    before = Prompter.view
    monkeypatch.setattr(Prompter, "view", lambda self, request: before(self, dataclasses.replace(request, system="")))
    found = check_prompts(tokenizer, folder, spec()).differences
    assert any(difference.startswith("a system prompt:") for difference in found)


def test_a_prompter_that_raises_is_a_difference_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, folder = imported(tmp_path)

    def fail(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(Prompter, "view", fail)
    verdict = check_prompts(tokenizer, folder, spec())
    assert "can't be made (KeyError" in verdict.differences[0]
    assert verdict.differences[-1].startswith("and ") and len(verdict.differences) == 4


def test_the_texts_are_of_several_kinds() -> None:
    texts = "".join(prompt_check.TEXTS.values())
    assert all(mark in texts for mark in ("日", "م", "भ", "é", "🙂", "def ", "\n", "\t", "<", "{"))
    assert all(Request(text).prompt.strip() for text in prompt_check.TEXTS.values())
