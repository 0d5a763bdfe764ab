"""The prompt formats the catalogue carries, each against what its source documents, character by character."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jinja2
import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from playground import paths
from playground.catalog.entries import CatalogEntry, load_catalog
from playground.records import Request
from playground.runtimes.generation.prompt import Prompter
from tests.support.tiny import spec, write_tokenizer

CATALOG = load_catalog(paths.CATALOG)
TEMPLATED = [entry for entry in CATALOG if entry.spec.chat_template]

ASK = {"role": "user", "content": "Hi"}
SYSTEM = {"role": "system", "content": "Be kind."}
ANSWER = {"role": "assistant", "content": "Hello."}
AGAIN = {"role": "user", "content": "More?"}
ELYZA = "あなたは誠実で優秀な日本人のアシスタントです。"
OPENMATH = (
    "You're an expert Python programmer and mathematician. Help the user to solve this problem using code when "
    "necessary. Make sure to put the answer (and only answer) inside \\boxed{}."
)


def render(model: str, *messages: dict[str, str], generate: bool = True) -> str:
    template = CATALOG.entry(model).spec.chat_template
    rendered, _ = render_jinja_template(
        [list(messages)], chat_template=template, add_generation_prompt=generate, bos_token="<s>", eos_token="</s>"
    )
    text: str = rendered[0]
    return text


CASES = [
    ("llama-2-7b-chat", [ASK], "<s>[INST] Hi [/INST]"),
    ("llama-2-7b-chat", [SYSTEM, ASK], "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST]"),
    (
        "llama-2-7b-chat",
        [SYSTEM, ASK, ANSWER, AGAIN],
        "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello. </s><s>[INST] More? [/INST]",
    ),
    ("elyza-japanese-llama-2-7b-instruct", [ASK], f"<s>[INST] <<SYS>>\n{ELYZA}\n<</SYS>>\n\nHi [/INST] "),
    ("elyza-japanese-llama-2-7b-instruct", [SYSTEM, ASK], "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] "),
    (
        "elyza-japanese-llama-2-7b-instruct",
        [SYSTEM, ASK, ANSWER, AGAIN],
        "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello. </s><s>[INST] More? [/INST] ",
    ),
    ("llama-pro-8b-instruct", [ASK], "<s><|user|>\nHi\n<|assistant|>\n"),
    (
        "llama-pro-8b-instruct",
        [SYSTEM, ASK, ANSWER, AGAIN],
        "<s><|system|>\nBe kind.\n<|user|>\nHi\n<|assistant|>\nHello.\n<|user|>\nMore?\n<|assistant|>\n",
    ),
    ("openmath-mistral-7b", [ASK], f"<s>System:\n{OPENMATH}\n\nUser:\nHi\n\nAssistant:\n"),
    ("openmath-mistral-7b", [SYSTEM, ASK], "<s>System:\nBe kind.\n\nUser:\nHi\n\nAssistant:\n"),
    ("openassistant-falcon-40b", [ASK], "<|prompter|>Hi<|endoftext|><|assistant|>"),
    (
        "openassistant-falcon-40b",
        [ASK, ANSWER, AGAIN],
        "<|prompter|>Hi<|endoftext|><|assistant|>Hello.<|endoftext|><|prompter|>More?<|endoftext|><|assistant|>",
    ),
    ("gpt4all-falcon", [ASK], "### Instruction: Hi\n### Response:"),
    (
        "gpt4all-falcon",
        [ASK, ANSWER, AGAIN],
        "### Instruction: Hi\n### Response: Hello.\n### Instruction: More?\n### Response:",
    ),
]


@pytest.mark.parametrize(("model", "messages", "text"), CASES)
def test_a_format_is_rendered_as_documented(model: str, messages: list[dict[str, str]], text: str) -> None:
    assert render(model, *messages) == text


@pytest.mark.parametrize("model", ["openassistant-falcon-40b", "gpt4all-falcon"])
def test_a_format_without_a_place_for_a_system_prompt_refuses_one(model: str) -> None:
    with pytest.raises(jinja2.TemplateError, match="no place for a system prompt"):
        render(model, SYSTEM, ASK)


def test_openmath_refuses_a_second_question() -> None:
    with pytest.raises(jinja2.TemplateError, match="one question at a time"):
        render("openmath-mistral-7b", ASK, ANSWER, AGAIN)


def test_every_format_has_a_case_here_and_a_source() -> None:
    assert {entry.spec.id for entry in TEMPLATED} == {model for model, _, _ in CASES}
    for entry in TEMPLATED:
        assert entry.prompt_format is not None
        assert entry.prompt_format.source.startswith("https://")
        assert entry.spec.kind == "chat"


# -- in the prompter -----------------------------------------------------------------------------------------------


def test_the_catalogues_format_is_used_where_the_tokenizer_brings_none_and_the_reader_is_told(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, template="")
    documented = CATALOG.entry("gpt4all-falcon").spec.chat_template
    prompter = Prompter(folder, dataclasses.replace(spec(), chat_template=documented))
    view = prompter.view(Request("Hi", system="Be kind."))
    assert view.rendered == "### Instruction: Hi\n### Response:"
    assert any("documented for this model" in warning for warning in view.warnings)
    assert any("no place for a system prompt" in warning for warning in view.warnings)


def test_the_tokenizers_own_template_counts_before_the_catalogues(tmp_path: Path) -> None:
    prompter = Prompter(write_tokenizer(tmp_path), dataclasses.replace(spec(), chat_template="never"))
    view = prompter.view(Request("Hi", system="Be kind."))
    assert view.rendered.startswith("<|turn|>system\nBe kind.")
    assert view.warnings == ()


def test_a_base_model_is_sent_no_format_at_all(tmp_path: Path) -> None:
    plain = dataclasses.replace(spec(), kind="base", chat_template="never")
    assert "never" not in Prompter(write_tokenizer(tmp_path, template=""), plain).view(Request("Hi")).rendered


@pytest.mark.parametrize("entry", TEMPLATED, ids=lambda entry: entry.spec.id)
def test_a_format_survives_a_tokenizer_without_named_tokens(entry: CatalogEntry) -> None:
    rendered, _ = render_jinja_template([[ASK]], chat_template=entry.spec.chat_template, add_generation_prompt=True)
    assert "Hi" in rendered[0]
