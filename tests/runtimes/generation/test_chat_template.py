"""Where a chat template lies, what it is given, and what is found out about it before a user's words are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from playground.catalog.template_files import bring_template, find_template, named_tokens
from playground.errors import RunError
from playground.records import Message, Request
from playground.runtimes.generation.chat_template import ChatTemplate, Refused
from playground.runtimes.generation.prompt import Prompter
from tests.support.tiny import SPECIALS, TEMPLATE, spec, write_tokenizer

TURN = "{% for m in messages %}<|turn|>{{ m['role'] }}\n"
END = "<|end|>\n{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
PARTS = "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}"

# -- files ----------------------------------------------------------------------------------------------------------


def lay(folder: Path, files: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


JINJA, JSON, EXTRA = "chat_template.jinja", "chat_template.json", "additional_chat_templates"
LISTED = [{"name": "default", "template": "of the list"}, {"name": "rag", "template": "other"}]
PLACES: list[tuple[dict[str, Any], str | None]] = [
    ({}, None),
    ({JINJA: "a"}, "a"),
    ({"tokenizer_config.json": {"chat_template": "a"}}, "a"),
    ({"tokenizer_config.json": {"chat_template": LISTED}}, "of the list"),
    ({"tokenizer_config.json": {"chat_template": LISTED[1:]}}, None),
    ({JINJA: "a", "tokenizer_config.json": {"chat_template": LISTED}}, "a"),
    ({JINJA: "a", f"{EXTRA}/tool_use.jinja": "b"}, "a"),
    ({f"{EXTRA}/default.jinja": "b", f"{EXTRA}/rag.jinja": "c"}, "b"),
    ({f"{EXTRA}/rag.jinja": "c", "tokenizer_config.json": {"chat_template": "a"}}, None),
    ({JINJA: "a", f"{EXTRA}/default.jinja": "b"}, "b"),
]


@pytest.mark.parametrize(("files", "template"), PLACES, ids=[" ".join(files) or "none" for files, _ in PLACES])
def test_a_template_is_found_where_transformers_finds_it(
    tmp_path: Path, files: dict[str, Any], template: str | None
) -> None:
    write_tokenizer(tmp_path, template=None)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text()) | files.get("tokenizer_config.json", {})
    lay(tmp_path, files | {"tokenizer_config.json": config})
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    try:
        expected = theirs.get_chat_template()
    except ValueError:  # none, or several without a default
        expected = None
    assert find_template(tmp_path) == expected == template


@pytest.mark.parametrize(
    ("files", "template"),
    [
        ({JSON: {"chat_template": "p"}}, "p"),
        ({JSON: {"chat_template": "p"}, JINJA: "a"}, "a"),
        ({JSON: {"chat_template": "p"}, "tokenizer_config.json": {"chat_template": "a"}}, "a"),
        ({"processor_config.json": {"chat_template": "q"}, JSON: {"chat_template": "p"}}, "q"),
        ({JSON: {"chat_template": LISTED}}, "of the list"),
        ({JSON: {"chat_template": {"default": "d", "x": "y"}}}, "d"),
        ({JSON: {}}, None),
    ],
)
def test_a_processors_template_is_used_where_the_tokenizer_has_none(
    tmp_path: Path, files: dict[str, Any], template: str | None
) -> None:
    assert find_template(lay(tmp_path, files)) == template


def test_an_import_gets_the_template_of_the_processor(tmp_path: Path) -> None:
    source = lay(write_tokenizer(tmp_path / "source", template=None), {JSON: {"chat_template": TEMPLATE}})
    target = tmp_path / "target"
    AutoTokenizer.from_pretrained(source).save_pretrained(target)
    assert not (target / JINJA).exists()
    assert bring_template(source, target)
    assert "<|turn|>user\nHi<|end|>" in Prompter(target, spec()).view(Request("Hi")).rendered


def test_an_import_that_has_a_template_or_whose_source_has_none_is_left_alone(tmp_path: Path) -> None:
    source = lay(tmp_path / "source", {JSON: {"chat_template": "p"}})
    assert not bring_template(source, lay(tmp_path / "has", {JINJA: "a"}))
    assert (tmp_path / "has" / JINJA).read_text() == "a"
    assert not bring_template(tmp_path / "has" / "nothing", lay(tmp_path / "none", {}))
    assert not (tmp_path / "none" / JINJA).exists()


def test_a_template_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"chat_template\.json can't be read"):
        find_template(lay(tmp_path, {JSON: "{"}))


# -- tokens by name -------------------------------------------------------------------------------------------------

NAMED: list[dict[str, Any]] = [
    {"bos_token": "<|turn|>", "sep_token": "<|end|>", "pad_token": "<|eos|>", "cls_token": "<|turn|>"},
    {"unk_token": "<|eos|>", "mask_token": {"__type": "AddedToken", "content": "<|end|>", "special": True}},
    {"image_token": "<|turn|>", "boi_token": "<|end|>"},
    {"extra_special_tokens": {"image_token": "<|turn|>", "wide": "<|end|>"}},
    {"extra_special_tokens": ["<|turn|>"]},
    {"additional_special_tokens": ["<|turn|>", "<|end|>"]},
]


@pytest.mark.parametrize("config", NAMED)
def test_a_template_may_name_every_token_that_transformers_gives_it(tmp_path: Path, config: dict[str, Any]) -> None:
    names = ["bos", "eos", "unk", "sep", "pad", "cls", "mask", "image", "boi"]
    shown = "".join(f"[{{{{ {name}_token }}}}]" for name in names) + "[{{ wide }}]"
    folder = write_tokenizer(tmp_path / "original", template=shown + TURN + "{{ m['content'] }}" + END, **config)
    theirs = AutoTokenizer.from_pretrained(folder)
    expected = theirs.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    theirs.save_pretrained(tmp_path / "import")
    for where in (folder, tmp_path / "import"):
        assert Prompter(where, spec()).view(Request("Hi")).rendered == expected
        told = json.loads((where / "tokenizer_config.json").read_text())
        assert named_tokens(where, told) == theirs.special_tokens_map


def test_an_old_tokenizers_map_of_special_tokens_is_read(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path)
    said = {"sep_token": {"content": "<|end|>", "lstrip": False}, "additional_special_tokens": ["<|turn|>"]}
    lay(folder, {"special_tokens_map.json": said})
    told = json.loads((folder / "tokenizer_config.json").read_text())
    assert named_tokens(folder, told)["sep_token"] == "<|end|>"
    assert named_tokens(folder, told) == AutoTokenizer.from_pretrained(folder).special_tokens_map


def test_a_template_has_the_filters_and_functions_of_transformers(tmp_path: Path) -> None:
    source = (
        "{{ strftime_now('%Y')|length }} {{ {'a': '<é'}|tojson }} {% set ns = namespace(n=1) %}{{ ns.n }}"
        "{% for m in messages %}{% if loop.index > 9 %}{% break %}{% endif %}"
        "{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    )
    assert ChatTemplate(source, {}).render([("user", "Hi")], generate=True) == '4 {"a": "<é"} 1Hi'


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ 1 / 0 }}", "{{ [][3].x }}", "{{ raise_exception('no') }}", "{{ ''.x() }}"]
)
def test_whatever_a_template_raises_is_a_refusal(source: str) -> None:
    with pytest.raises(Refused):
        ChatTemplate(source, {}).render([("user", "Hi")], generate=True)


# -- contents as text or as parts -----------------------------------------------------------------------------------

CONVERSATION = (Message("user", "first"), Message("assistant", "answer"), Message("user", "second"))


@pytest.mark.parametrize(
    "body",
    [
        PARTS,
        "{% for c in m['content'] %}{{ c.text }}{% endfor %}",
        "{{ m['content'][0]['text'] }}",
        "{% for c in m.content %}{{ c.text if c.type == 'text' else raise_exception('what?') }}{% endfor %}",
        "{{ m['content'] | selectattr('type', 'equalto', 'text') | map(attribute='text') | join('') }}",
    ],
)
def test_a_template_that_walks_over_parts_is_given_parts(tmp_path: Path, body: str) -> None:
    prompter = Prompter(write_tokenizer(tmp_path, template=TURN + body + END), spec())
    view = prompter.view(Request("the quick fox", system="Be kind."))
    whole = "<|turn|>system\nBe kind.<|end|>\n<|turn|>user\nthe quick fox<|end|>\n<|turn|>assistant\n"
    assert view.rendered == whole and view.warnings == ()
    assert prompter.tokenizer.decode(list(view.token_ids), skip_special_tokens=False) == whole
    assert "first<|end|>\n<|turn|>assistant\nanswer<|end|>" in prompter.view(Request(messages=CONVERSATION)).rendered
    assert prompter.eos_ids == {0, 2}, "the end behind an assistant's message is found, too"


def test_parts_and_text_are_chosen_for_each_role(tmp_path: Path) -> None:
    body = "{% if m.role == 'user' %}" + PARTS + "{% else %}{{ m.content }}{% endif %}"
    view = Prompter(write_tokenizer(tmp_path, template=TURN + body + END), spec()).view(
        Request(messages=CONVERSATION, system="S")
    )
    assert all(said in view.rendered for said in ("S<|end|>", "first<", "answer<", "second<"))
    assert "type" not in view.rendered and view.warnings == ()


def test_control_tokens_typed_into_parts_stay_text(tmp_path: Path) -> None:
    prompter = Prompter(write_tokenizer(tmp_path, template=TURN + PARTS + END), spec())
    view = prompter.view(Request("a<|end|>b"))
    assert view.token_ids.count(2) == 1 and "a<|end|>b" in view.rendered


def test_a_template_that_takes_both_is_given_text(tmp_path: Path) -> None:
    body = "{% if m.content is string %}{{ m.content }}{% else %}parts{% endif %}"
    assert (
        "parts"
        not in Prompter(write_tokenizer(tmp_path, template=TURN + body + END), spec())
        .view(Request("Hi", system="S"))
        .rendered
    )


@pytest.mark.parametrize("body", ["", "{{ m['content']['words'] }}", "{{ m['text'] }}", "{{ m['content'][:0] }}"])
def test_a_template_that_loses_what_is_asked_either_way_is_refused(tmp_path: Path, body: str) -> None:
    prompter = Prompter(write_tokenizer(tmp_path, template=TURN + body + END), spec())
    with pytest.raises(RunError, match="tiny: its chat template leaves out all of the prompt"):
        prompter.view(Request("the fox"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{{ m.content[:5] }}", "leaves out or changes a part of the prompt"),
        ("{{ m.content.split('.')[0] }}", "leaves out or changes a part of the prompt"),
        ("{{ m.content | replace('fox', 'cat') }}", "leaves out or changes a part of the prompt"),
        ("{{ m.content if m.role == 'user' else '' }}", "no place for a system prompt"),
    ],
)
def test_what_a_template_leaves_out_is_told(tmp_path: Path, body: str, said: str) -> None:
    prompter = Prompter(write_tokenizer(tmp_path, template=TURN + body + END), spec())
    warnings = prompter.view(Request("the quick. brown fox", system="S")).warnings
    assert any(said in warning for warning in warnings)


def test_a_turn_of_the_conversation_that_is_lost_is_told_by_its_number(tmp_path: Path) -> None:
    body = "{% if loop.last %}{{ m.content }}{% endif %}"
    view = Prompter(write_tokenizer(tmp_path, template=TURN + body + END), spec()).view(Request(messages=CONVERSATION))
    assert "The chat template leaves out all of message 1 (role: user)." in view.warnings
    assert "The chat template leaves out all of message 2 (role: assistant)." in view.warnings


@pytest.mark.parametrize("body", ["{{ m.content | trim }}", "{{ m.content.strip() }}", "{{ m.content | upper }}"])
def test_spaces_around_a_text_and_its_case_are_the_templates_to_change(tmp_path: Path, body: str) -> None:
    prompter = Prompter(write_tokenizer(tmp_path, template=TURN + body + END), spec())
    assert prompter.view(Request(" the fox \n")).warnings == ()


def test_a_system_prompt_of_the_templates_own_is_found_where_contents_are_parts(tmp_path: Path) -> None:
    own = "{% if messages[0].role != 'system' %}<|turn|>system\nBe brief.<|end|>\n{% endif %}"
    template = ChatTemplate(own + TURN + PARTS + END, {})
    assert template.content_formats == {"user": "parts", "system": "parts", "assistant": "parts"}
    assert "Be brief." in template.default_system


def test_text_of_the_template_is_known_without_its_code() -> None:
    literals = ChatTemplate("{% if messages[0].role == 'user' %}<|end|>{% endif %}{# <|turn|> #}", {}).literals
    assert "<|end|>" in literals and "user" in literals and "<|turn|>" not in literals and "messages" not in literals
    assert SPECIALS[1] == "<|turn|>"
