"""Answers held to a JSON schema parse and fit it, whatever the model would have said: by every kind of tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from playground.config.settings import Limits
from playground.errors import RunError, UsageError
from playground.experiments.admission import check_request
from playground.records import ModelRun, Request
from playground.runtimes.generation.schemas import check_schema
from tests.support import tiny
from tests.support.random_engine import RandomEngine, RandomRuntime

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a b", "é", "c"]}, "maxItems": 3},
        "near": {"anyOf": [{"type": "null"}, {"type": "boolean"}, {"$ref": "#/$defs/code"}]},
    },
    "required": ["name", "age", "near"],
    "additionalProperties": False,
    "$defs": {"code": {"type": "string", "pattern": "^[A-F][0-9]{2}$"}},
}
MOST = 400


def sentence_piece() -> Tokenizer:
    """Unigram as T5 has it: words with ▁ before them, and no bytes to fall back on."""
    pieces = ["<unk>", "<eos>", "▁", "▁a", "▁true", *'abcdefglmnrstuABCDEF0123456789{}[]":,.\\-+_', "▁{", '":', '",']
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in dict.fromkeys(pieces)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens([AddedToken("<eos>", special=True, normalized=False)])
    return tokenizer


def word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "<eos>": 1, "a": 2, "##b": 3, "{": 4}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def llama_2() -> Tokenizer:
    """Bytes to fall back on, and a space put before every text."""
    tokenizer = tiny.byte_fallback_tokenizer(strip=True)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


KINDS: dict[str, tuple[Callable[[], Tokenizer], str]] = {
    "byte-level": (tiny.byte_level_tokenizer, "<|eos|>"),
    "bytes to fall back on": (lambda: tiny.byte_fallback_tokenizer(strip=False), "<eos>"),
    "bytes to fall back on, a space cut": (lambda: tiny.byte_fallback_tokenizer(strip=True), "<eos>"),
    "a space put before": (llama_2, "<eos>"),
    "SentencePiece": (sentence_piece, "<eos>"),
}


def folder(path: Path, make: Callable[[], Tokenizer], end: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    make().save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": end}))
    (path / "config.json").write_text(json.dumps({"max_position_embeddings": 4096}))
    return path


@pytest.fixture(scope="module", params=KINDS)
def runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RandomRuntime]:
    place = folder(tmp_path_factory.mktemp("tokenizer"), *KINDS[request.param])
    yield RandomRuntime(place, RandomEngine(tiny.VOCAB + 16))


def ask(runtime: RandomRuntime, schema: Any, **more: Any) -> ModelRun:
    request = Request("a", json_schema=json.dumps(schema), max_new_tokens=more.pop("max_new_tokens", MOST), **more)
    run = list(runtime.generate(request, lambda: False))[-1].run
    assert run is not None
    return run


def fits(run: ModelRun, schema: Any) -> Any:
    """The value, which must fit."""
    assert run.finish_reason == "stop", run
    value = json.loads(run.text)
    jsonschema.validate(value, schema)
    return value


@pytest.mark.parametrize("how", [{}, {"temperature": 1.0}, {"temperature": 2.0, "top_p": 0.9, "top_k": 40}], ids=str)
def test_whatever_is_said_at_random_parses_and_fits(runtime: RandomRuntime, how: dict[str, Any]) -> None:
    texts = {json.dumps(fits(ask(runtime, PERSON, seed=seed, **how), PERSON)) for seed in range(6)}
    assert len(texts) > 1


def test_a_model_that_only_wants_to_end_or_to_say_one_thing_says_what_fits(tmp_path: Path) -> None:
    place = folder(tmp_path, *KINDS["byte-level"])
    quote = tiny.byte_level_tokenizer().token_to_id('"') or 0
    for liked in ([0], [1], [quote], [tiny.VOCAB + 3]):
        held = RandomRuntime(place, RandomEngine(tiny.VOCAB + 16, liked=liked))
        fits(ask(held, PERSON), PERSON)


@st.composite
def schemas(draw: st.DrawFn, depth: int = 0) -> dict[str, Any]:
    """Schemas whose answers have a largest size."""
    kinds = ["string", "integer", "boolean", "null", "enum", *(["object", "array"] if depth < 2 else [])]
    kind = draw(st.sampled_from(kinds))
    if kind == "string":
        return {"type": "string", "maxLength": draw(st.integers(0, 5))}
    if kind == "integer":
        least = draw(st.integers(-99, 99))
        return {"type": "integer", "minimum": least, "maximum": least + draw(st.integers(0, 300))}
    if kind == "enum":
        value = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text('ab {}"\\é\n', max_size=4))
        return {"enum": draw(st.lists(value, min_size=1, max_size=3))}
    if kind == "array":
        return {"type": "array", "items": draw(schemas(depth + 1)), "maxItems": draw(st.integers(0, 2))}
    if kind == "object":
        names = draw(st.lists(st.sampled_from(["a", "b b", "é", 'c"d']), unique=True, max_size=3))
        return {
            "type": "object",
            "properties": {name: draw(schemas(depth + 1)) for name in names},
            "required": draw(st.lists(st.sampled_from(names), unique=True)) if names else [],
            "additionalProperties": False,
        }
    return {"type": kind}


@given(schema=schemas(), seed=st.integers(0, 99), temperature=st.sampled_from([0.0, 1.0]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_schemas_at_random_are_met(runtime: RandomRuntime, schema: Any, seed: int, temperature: float) -> None:
    if any("é" in text for text in (json.dumps(schema, ensure_ascii=False),)) and is_words(runtime):
        return  # that vocabulary has no such character
    fits(ask(runtime, schema, seed=seed, temperature=temperature, max_new_tokens=1500), schema)


def is_words(runtime: RandomRuntime) -> bool:
    return runtime.encode("é", special=False) == runtime.encode("ü", special=False)


def test_any_object_is_what_an_empty_schema_asks_for(runtime: RandomRuntime) -> None:
    run = ask(runtime, {}, max_new_tokens=3000, temperature=1.0)
    if run.finish_reason == "stop":
        assert isinstance(json.loads(run.text), dict)
    else:
        assert run.text.lstrip()[0] == "{" and cut(run)


def cut(run: ModelRun) -> bool:
    return any("before its JSON was complete" in warning for warning in run.warnings)


def test_what_it_cost_is_told_and_an_answer_that_is_cut_says_so(runtime: RandomRuntime) -> None:
    whole = ask(runtime, PERSON)
    assert any("ms a token" in warning for warning in whole.warnings) and not cut(whole)
    short = ask(runtime, PERSON, max_new_tokens=5)
    assert short.finish_reason == "length" and cut(short)
    free = list(runtime.generate(Request("a", max_new_tokens=5), lambda: False))[-1].run
    assert free is not None and not any("JSON" in warning for warning in free.warnings)


def test_an_answer_can_begin_with_what_fits_and_with_nothing_else(runtime: RandomRuntime) -> None:
    given = runtime.encode('{"name"', special=False)
    if not runtime.decode(given).names[0].startswith(" "):  # some tokenizers put a space before a text
        run = ask(runtime, PERSON, answer_ids=given)
        assert run.text.startswith('{"name"')
        fits(run, PERSON)
    with pytest.raises(RunError, match="does not fit the schema"):
        ask(runtime, PERSON, answer_ids=runtime.encode("b", special=False)[-1:])


def test_a_stop_string_still_ends_an_answer_which_then_is_not_complete(runtime: RandomRuntime) -> None:
    run = ask(runtime, PERSON, stop=('"age"',))
    assert run.finish_reason == "stop" and '"age"' not in run.text and cut(run)


def test_a_tokenizer_whose_tokens_depend_on_their_neighbours_is_named_and_not_let_go_free(tmp_path: Path) -> None:
    held = RandomRuntime(folder(tmp_path, word_piece, "<eos>"), RandomEngine(5))
    with pytest.raises(RunError, match="depends on their neighbours"):
        ask(held, PERSON)


def test_penalties_and_log_probabilities_go_with_it(runtime: RandomRuntime) -> None:
    run = ask(runtime, PERSON, repetition_penalty=1.3, logprobs=2, temperature=0.7)
    fits(run, PERSON)
    assert [each.id for each in run.logprobs] == list(run.token_ids or ())
    # Of the model's own row, in which what is not allowed may be the likeliest.
    assert any(each.id not in each.top_ids for each in run.logprobs)


WRONG = {
    "no JSON": ("{", "double quotes"),
    "no block": ("[1]", "block of keys"),
    "no type": ('{"type": "strin"}', "strin"),
    "itself": ('{"properties": {"a": {"$ref": "#"}}}', "leads back to itself"),
    "itself, further down": (
        '{"$defs": {"n": {"properties": {"c": {"items": {"$ref": "#/$defs/n"}}}}}, "$ref": "#/$defs/n"}',
        "leads back to itself",
    ),
    "elsewhere": ('{"$ref": "https://example.com/schema"}', "outside of the schema"),
    "what can't be held to": ('{"not": {"type": "string"}}', "not"),
    "a way around": ('{"x-guidance": {"lenient": true}, "not": {"type": "string"}}', "not"),
    "too long": ('{"title": "' + "a" * 60_000 + '"}', "characters"),
    "too deep": ('{"items": ' * 300 + "{}" + "}" * 300, "deep"),
    "nothing fits": ('{"enum": []}', "empty"),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_a_schema_that_nothing_can_be_held_to_is_refused_before_any_work(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_schema(text)
    with pytest.raises(UsageError, match="json_schema"):
        check_request(Request("a", json_schema=text), Limits())


def test_a_shared_part_that_is_used_twice_is_no_circle() -> None:
    check_schema(
        '{"$defs": {"a": {"type": "null"}}, "items": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}'
    )


def test_a_least_length_and_a_schema_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="min_new_tokens"):
        check_request(Request("a", json_schema="{}", min_new_tokens=5), Limits())
