"""What the check reads: kinds of text, how long, and what becomes of them where a model holds little."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from playground.export import passages
from playground.export.fidelity import MIN_POSITIONS
from playground.export.passages import QUICK_PROMPT, QUICK_STEPS, STEPS, TEXTS, context_of, quick_passages


class Config(SimpleNamespace):
    """As much of a configuration as is asked for."""

    def get_text_config(self, decoder: bool) -> Any:
        return getattr(self, "text_config", self)


def bytes_of(text: str) -> list[int]:
    return list(text.encode())


def words_of(text: str) -> list[int]:
    return [len(word) for word in text.split()]


def test_texts_of_four_kinds_give_the_usual_number_of_positions() -> None:
    found = passages.passages(bytes_of, Config())
    assert [each.kind for each in found] == ["prose", "code", "Japanese", "long text"]
    positions = sum(1 + len(each.steps) + max(0, each.greedy - 1) for each in found)
    assert MIN_POSITIONS <= positions < MIN_POSITIONS * 1.02


def test_the_long_text_leaves_a_window_of_512_tokens_behind_as_a_prompt_and_in_steps() -> None:
    long = next(each for each in passages.passages(bytes_of, Config()) if each.kind == "long text")
    assert long.prompt > 512
    assert len(long.steps) == STEPS


def test_each_text_has_tokens_enough_for_a_vocabulary_of_a_quarter_of_a_million() -> None:
    for text in TEXTS:
        content = text.path.read_text(encoding="utf-8")
        # Large vocabularies were measured at up to 4.4 characters of English a token, and 2.2 of Japanese.
        assert len(content) / (2.2 if text.kind == "Japanese" else 4.4) >= text.prompt + STEPS


@pytest.mark.parametrize("context", [600, 100, 64, 16, 8, 3, 2])
def test_a_short_context_cuts_texts_into_parts_that_fit_and_costs_few_positions(context: int) -> None:
    found = passages.passages(bytes_of, Config(max_position_embeddings=context))
    assert all(2 <= len(each.ids) <= context and 1 <= each.prompt < len(each.ids) for each in found)
    assert all(each.prompt + each.greedy <= context for each in found)
    assert sum(1 + len(each.steps) for each in found) >= 4 * STEPS
    assert {each.kind for each in found} == {text.kind for text in TEXTS}


def test_parts_follow_each_other_without_a_gap() -> None:
    parts = [each for each in passages.passages(bytes_of, Config(n_positions=64)) if each.kind == "code"]
    whole = [token for each in parts for token in each.ids]
    assert len(parts) > 1
    assert whole == bytes_of(TEXTS[1].path.read_text(encoding="utf-8"))[: len(whole)]


def test_tokens_without_an_embedding_are_left_out() -> None:
    found = passages.passages(bytes_of, Config(), vocabulary=128)
    assert found
    assert all(token < 128 for each in found for token in each.ids)


def test_a_vocabulary_of_words_gives_what_there_is_and_nothing_where_there_is_nothing() -> None:
    found = passages.passages(words_of, Config())
    assert found
    assert all(each.steps for each in found)
    assert passages.passages(lambda _: [], Config()) == []
    assert passages.passages(lambda _: [7], Config()) == []


@pytest.mark.parametrize(
    ("config", "context"),
    [
        (Config(), None),
        (Config(max_position_embeddings=2048), 2048),
        (Config(max_position_embeddings=-1), None),
        (Config(n_ctx=1024), 1024),
        (Config(max_position_embeddings=8, text_config=Config(max_position_embeddings=4096)), 4096),
    ],
)
def test_the_context_is_the_language_models(config: Config, context: int | None) -> None:
    assert context_of(config) == context


@pytest.mark.parametrize("window", ["sliding_window", "attention_chunk_size", "original_max_position_embeddings"])
def test_a_slow_runtime_reads_little_but_beyond_a_short_window(window: str) -> None:
    (usual,) = quick_passages(bytes_of, Config())
    assert (usual.prompt, len(usual.steps)) == (QUICK_PROMPT, QUICK_STEPS)
    (beyond,) = quick_passages(bytes_of, Config(**{window: 200}))
    assert 200 < beyond.prompt < 250
    (bounded,) = quick_passages(bytes_of, Config(**{window: 100_000}))
    assert bounded.prompt == max(text.prompt for text in TEXTS)
