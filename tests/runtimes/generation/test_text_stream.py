"""Streamed pieces joined are the text decoded at once, and stop strings never show."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models

from playground.runtimes.generation.text_stream import Detokenizer, StopStrings, TextStream
from tests.support.tiny import byte_fallback_tokenizer, byte_level_tokenizer

TOKENIZERS = {
    "byte-level": byte_level_tokenizer(),
    "byte-fallback": byte_fallback_tokenizer(strip=False),
    "byte-fallback-strip": byte_fallback_tokenizer(strip=True),
}

# What each decoder of the library looks for, in pieces and whole, so that random ids meet it often.
WORDS = (
    *(
        "a",
        "b",
        "ab",
        "aa",
        "é",
        "日",
        " ",
        "  a ",
        "do",
        " not",
        "don't",
        "n't",
        " n't",
        "'",
        " '",
        "'s",
        " .",
        ".",
        ",",
    ),
    *("▁", "▁a", "a▁", "▁▁b", "##", "##b", "</w>", "t</w>", "t</w>s", "</", "w>", "<pad>", "|", "Ġa", "Ã", "©"),
    *("<0x41>", "<0xE3>", "<0x81>", "<0x82>", "<0xFF>", "<0x+1>", "<0x4", "1>", "<extra>", "<end>", "<turn>"),
)
DECODERS = {
    "byte-level": decoders.ByteLevel(),
    "metaspace-always": decoders.Metaspace(prepend_scheme="always"),
    "metaspace-first": decoders.Metaspace(prepend_scheme="first"),
    "metaspace-never": decoders.Metaspace(prepend_scheme="never"),
    "word-piece": decoders.WordPiece(cleanup=False),
    "word-piece-cleanup": decoders.WordPiece(cleanup=True),
    "suffix": decoders.BPEDecoder(suffix="</w>"),
    "ctc": decoders.CTC(cleanup=False),
    "ctc-cleanup": decoders.CTC(cleanup=True),
    "byte-fallback": decoders.ByteFallback(),
    "fuse": decoders.Fuse(),
    "strip-start": decoders.Strip(" ", 1, 0),
    "strip-end": decoders.Strip("a", 0, 1),
    "replace": decoders.Replace("▁", " "),
    "replace-across-tokens": decoders.Replace("ab", "x"),
    "replace-by-pattern": decoders.Replace(Regex("a+"), "y"),
}
NO_DECODER = "none"


def of_words(decoder: decoders.Decoder | None) -> Tokenizer:
    """A tokenizer of ``WORDS`` alone: two of them special, one added and not special."""
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="a"))
    if decoder is not None:
        tokenizer.decoder = decoder
    tokenizer.add_special_tokens([AddedToken("<end>", special=True), AddedToken("<turn>", special=True)])
    tokenizer.add_tokens([AddedToken("<extra>", special=False)])
    return tokenizer


def some_ids(data: st.DataObject) -> list[int]:
    return data.draw(st.lists(st.integers(0, len(WORDS) + 3), max_size=14))


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


@pytest.mark.parametrize("name", [*DECODERS, NO_DECODER])
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_pieces_joined_are_the_text_at_once_for_every_decoder_of_the_library(name: str, data: st.DataObject) -> None:
    tokenizer = of_words(DECODERS.get(name))
    ids = some_ids(data)
    assert "".join(stream(Detokenizer(tokenizer), ids)) == at_once(tokenizer, ids)


@given(data=st.data())
@settings(max_examples=1500, deadline=None)
def test_pieces_joined_are_the_text_at_once_for_decoders_in_any_sequence(data: st.DataObject) -> None:
    # The library's own strip-end dies of an empty text; it has a case of its own below.
    names = data.draw(st.lists(st.sampled_from(sorted(DECODERS.keys() - {"strip-end"})), min_size=1, max_size=4))
    tokenizer = of_words(decoders.Sequence([DECODERS[name] for name in names]))
    ids = some_ids(data)
    assert "".join(stream(Detokenizer(tokenizer), ids)) == at_once(tokenizer, ids)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_pieces_joined_are_the_text_at_once_where_the_whole_text_is_stripped_at_its_end(data: st.DataObject) -> None:
    tokenizer = of_words(decoders.Sequence([decoders.Fuse(), decoders.Strip("a", 1, 2)]))
    ids = [WORDS.index("b"), *some_ids(data), WORDS.index("b"), *data.draw(st.lists(st.integers(0, 3), max_size=4))]
    assert "".join(stream(Detokenizer(tokenizer), ids)) == at_once(tokenizer, ids)


@pytest.mark.parametrize("name", [*sorted(DECODERS.keys() - {"strip-end"}), NO_DECODER])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_where_spaces_are_to_be_cleaned_up_pieces_joined_are_what_transformers_decodes(
    name: str, data: st.DataObject
) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer, config = of_words(DECODERS.get(name)), {"clean_up_tokenization_spaces": True}
    ids = some_ids(data)
    published = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **config).decode(ids, skip_special_tokens=True)
    assert "".join(stream(Detokenizer(tokenizer, config), ids)) == published
    assert Detokenizer(tokenizer, config).decode(ids) == published


def test_spaces_of_a_bpe_are_cleaned_up_only_where_its_files_insist() -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer, config = byte_level_tokenizer(), {"clean_up_tokenization_spaces": True}
    insisting = config | {"clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": True}
    ids = tokenizer.encode("one , two .").ids
    for given_config, text in ((config, "one , two ."), (insisting, "one, two.")):
        assert PreTrainedTokenizerFast(tokenizer_object=tokenizer, **given_config).decode(ids) == text
        assert "".join(stream(Detokenizer(tokenizer, given_config), ids)) == text


def test_a_suffix_that_ends_words_shows_as_a_space_before_the_next_word_only() -> None:
    tokenizer = of_words(DECODERS["suffix"])
    ids = [WORDS.index(word) for word in ("a", "t</w>", "b", "t</w>")]
    assert "".join(stream(Detokenizer(tokenizer), ids)) == "at bt"


def test_every_decoder_but_one_by_pattern_over_the_whole_text_gives_text_before_the_end() -> None:
    ids = [WORDS.index("b")] * 40
    for name, decoder in DECODERS.items():
        pieces = stream(Detokenizer(of_words(decoder)), ids)
        assert any(pieces[:-1]), name


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


def up_to_the_first_stop(characters: list[tuple[str, bool]], stop: list[str]) -> tuple[str, bool]:
    """What is shown of characters that come one by one, and whether a stop string was completed."""
    text = ""
    for character, _ in characters:
        text += character
        if ended := [word for word in stop if word and text.endswith(word)]:
            kept = characters[: len(text) - max(map(len, ended))]
            return "".join(each for each, shown in kept if shown), True
    return "".join(each for each, shown in characters if shown), False


@given(
    parts=st.lists(st.tuples(st.text("abé\U0001f999", min_size=1, max_size=4), st.booleans()), max_size=8),
    stop=st.lists(st.text("abé\U0001f999", max_size=4), max_size=4),
    data=st.data(),
)
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_wherever_a_text_is_cut_into_pieces_the_same_is_shown_of_it(
    parts: list[tuple[str, bool]], stop: list[str], data: st.DataObject
) -> None:
    characters = [(character, shown) for text, shown in parts for character in text]
    cuts = data.draw(st.sets(st.integers(0, len(characters))))
    expected, ends = up_to_the_first_stop(characters, stop)
    pieces: list[tuple[str, bool]] = []
    for number, (character, shown) in enumerate(characters):
        if pieces and pieces[-1][1] == shown and number not in cuts:
            pieces[-1] = (pieces[-1][0] + character, shown)
        else:
            pieces.append((character, shown))
    held = StopStrings(stop)
    given_out = [held.push(text, shown) for text, shown in pieces] + [held.finish()]
    assert ("".join(given_out), held.stopped) == (expected, ends)
    assert held.finish() == ""
    if all(shown for _, shown in parts):
        assert not any(word in expected for word in stop if word)


def test_of_stop_strings_that_a_piece_completes_the_one_completed_first_ends_the_text() -> None:
    for pieces in (["abcd"], ["ab", "cd"], ["a", "b", "c", "d"]):
        held = StopStrings(("abcd", "bc"))
        assert "".join(map(held.push, pieces)) + held.finish() == "a" and held.stopped


def named(text: str) -> list[int]:
    """Ids of the byte-level tokenizer, control tokens read as such."""
    return TOKENIZERS["byte-level"].encode(text).ids


@pytest.mark.parametrize(
    ("text", "stop", "shown"),
    [
        ("the fox<|turn|>user", "<|turn|>", "the fox"),
        ("the fox<|turn|>user", "fox<|turn|>us", "the "),
        ("the fox<|turn|><|end|> dog", "<|turn|><|end|>", "the fox"),
        ("the fox<|turn|> dog", "<|end|>", "the fox dog"),
        ("the fox<|turn|> dog", "turn", "the fox"),
        ("the fox <| turn", "<|turn|>", "the fox <| turn"),
    ],
)
def test_a_stop_string_may_hold_control_tokens_that_are_never_shown(text: str, stop: str, shown: str) -> None:
    pieces = stream(DETOKENIZERS["byte-level"], named(text), (stop,))
    assert "".join(pieces) == shown


def test_a_token_that_ends_the_answer_is_not_shown_even_if_it_is_no_special_one() -> None:
    tokenizer = of_words(DECODERS["fuse"])
    extra, word = tokenizer.token_to_id("<extra>"), tokenizer.token_to_id("a")
    text = TextStream(Detokenizer(tokenizer), (), {extra})
    assert [text.push(word), text.push(extra), text.finish()] == ["a", "", ""]
    assert "".join(stream(Detokenizer(tokenizer), [word, extra])) == "a<extra>"


def test_a_stop_string_that_the_ending_token_completes_does_not_show() -> None:
    ids = named("the fox<|end|>")
    text = TextStream(DETOKENIZERS["byte-level"], ("fox<|end|>",), {ids[-1]})
    assert "".join(text.push(token) for token in ids) + text.finish() == "the " and text.stopped


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_no_control_token_shows_whatever_the_stop_strings_are(data: st.DataObject) -> None:
    parts = data.draw(st.lists(st.sampled_from(["<|turn|>", "<|end|>", "a", "<", "|", "日"]), max_size=12))
    stop = tuple(data.draw(st.lists(st.sampled_from(["<|turn|>", "a<|end|>", "|<", "|turn"]), max_size=2)))
    whole = "".join(parts)
    shown = "".join(stream(DETOKENIZERS["byte-level"], named(whole), stop))
    found = [whole.find(word) for word in stop if word in whole]
    if not found:
        assert shown == whole.replace("<|turn|>", "").replace("<|end|>", "")
    else:
        assert len(shown) <= max(found)
        assert "<|turn|>" not in shown and "<|end|>" not in shown


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
