"""Streamed pieces joined are the text decoded at once, and stop strings never show."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import byte_fallback_tokenizer, byte_level_tokenizer
from tokenizers import Tokenizer

from playground.textstream import Detokenizer, TextStream

TOKENIZERS = {
    "byte-level": byte_level_tokenizer(),
    "byte-fallback": byte_fallback_tokenizer(strip=False),
    "byte-fallback-strip": byte_fallback_tokenizer(strip=True),
}
DETOKENIZERS = {name: Detokenizer(tokenizer) for name, tokenizer in TOKENIZERS.items()}
SAMPLES = [
    "Hello world",
    "日本語のテキスト",
    "👨‍👩‍👧‍👦 family 🏳️‍🌈",
    "naïve café ñ",
    "  two  spaces ",
    "\n\ttabs\n",
    "🙂" * 9,
]


def stream(detokenizer: Detokenizer, ids: list[int], stop: tuple[str, ...] = ()) -> list[str]:
    text = TextStream(detokenizer, stop)
    return [*(text.push(token) for token in ids), text.finish()]


def at_once(tokenizer: Tokenizer, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_pieces_of_any_ids_joined_are_the_text_decoded_at_once(name: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[name]
    ids = data.draw(st.lists(st.integers(0, tokenizer.get_vocab_size() + 5), max_size=40))
    assert "".join(stream(DETOKENIZERS[name], ids)) == at_once(tokenizer, ids)


@given(data=st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_runs_of_arbitrary_bytes_come_out_as_the_tokenizer_would_write_them(data: bytes) -> None:
    for name, tokenizer in TOKENIZERS.items():
        detokenizer = DETOKENIZERS[name]
        spelt = {detokenizer.token_bytes(index): index for index in range(3, 259)}
        ids = [spelt[bytes([byte])] if name == "byte-level" else byte + 8 for byte in data]
        assert "".join(stream(detokenizer, ids)) == at_once(tokenizer, ids)


@pytest.mark.parametrize("text", SAMPLES)
@pytest.mark.parametrize("name", ["byte-level", "byte-fallback"])
def test_no_piece_ever_shows_half_a_character(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(text.replace(" ", "▁") if name == "byte-fallback" else text).ids
    pieces = stream(DETOKENIZERS[name], ids)
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_whole_character_shows_with_its_last_token() -> None:
    ids = TOKENIZERS["byte-level"].encode("é日").ids
    text = TextStream(DETOKENIZERS["byte-level"])
    assert [text.push(token) for token in ids] == ["", "é", "", "", "日"]


def test_unfinished_bytes_are_flushed_at_the_end() -> None:
    ids = TOKENIZERS["byte-level"].encode("a日").ids[:-1]
    assert stream(DETOKENIZERS["byte-level"], ids)[-1] == "\ufffd"


def test_special_tokens_are_not_shown_even_inside_a_character() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    first, *rest = tokenizer.encode("é").ids
    assert "".join(stream(DETOKENIZERS["byte-level"], [0, first, 1, *rest, 2])) == "é"


def test_a_stop_string_spread_over_tokens_never_leaks() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    pieces = stream(DETOKENIZERS["byte-level"], tokenizer.encode("before###END after").ids, stop=("###END",))
    assert "".join(pieces) == "before"
    assert not any("#" in piece for piece in pieces)


def test_the_beginning_of_a_stop_string_shows_once_it_turns_out_to_be_none() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    text = TextStream(DETOKENIZERS["byte-level"], ("###END",))
    pieces = [text.push(token) for token in tokenizer.encode("x##y#").ids]
    assert "".join(pieces) == "x##y"
    assert text.finish() == "#" and not text.stopped


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_text_ends_before_the_first_completed_stop_string(data: st.DataObject) -> None:
    text = data.draw(st.text("ab#é", max_size=30))
    stop = tuple(data.draw(st.lists(st.text("ab#é", min_size=1, max_size=4), min_size=1, max_size=3)))
    ids = TOKENIZERS["byte-level"].encode(text).ids
    ends = [(text.find(word) + len(word), text.find(word)) for word in stop if word in text]
    shown = "".join(stream(DETOKENIZERS["byte-level"], ids, stop))
    assert not any(word in shown for word in stop)
    assert text.startswith(shown)
    if not ends:
        assert shown == text
    else:
        assert len(shown) <= min(ends)[0] - 1


def test_a_stream_stays_stopped() -> None:
    ids = TOKENIZERS["byte-level"].encode("a#b").ids
    text = TextStream(DETOKENIZERS["byte-level"], ("#",))
    assert "".join(text.push(token) for token in ids) + text.finish() == "a"
    assert text.stopped and text.push(ids[0]) == ""


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_cost_of_a_token_does_not_grow_with_the_text(name: str) -> None:
    def cost(tokens: int) -> float:
        ids = TOKENIZERS[name].encode("a" * 4).ids[:1] * tokens
        began = time.perf_counter()
        stream(DETOKENIZERS[name], ids, stop=("never",))
        return time.perf_counter() - began

    cost(2000)
    assert min(cost(16_000) for _ in range(3)) < 24 * min(cost(2000) for _ in range(3)), "8 times the tokens"


def test_a_token_is_readable_on_its_own() -> None:
    detokenizer = DETOKENIZERS["byte-level"]
    ids = TOKENIZERS["byte-level"].encode("the é").ids
    assert "".join(detokenizer.readable(token) for token in ids) == "the <0xC3><0xA9>"
    assert detokenizer.readable(1) == "<|turn|>"
    assert detokenizer.readable(10**6) == "<1000000>"
    assert DETOKENIZERS["byte-fallback"].readable(4) == " a"
