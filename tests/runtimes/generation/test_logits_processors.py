"""Each rule computes what transformers' processor of the same purpose computes, on random rows, number by number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from playground.runtimes.generation import logits_processors

VOCAB = 40
ids = some.integers(0, VOCAB - 1)
few_ids = some.lists(ids, min_size=1, max_size=4)
histories = some.lists(some.integers(0, 7), min_size=1, max_size=24)  # few different tokens: n-grams come again
penalties = some.floats(0.3, 3.0)
seeds = some.integers(0, 2**32 - 1)
unhurried = settings(max_examples=60, deadline=None)  # the first example loads torch


def row(seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(VOCAB) * 4).astype(np.float32)


def same(rule: logits_processors.Rule, processor: Callable[..., Any], history: list[int], scores: np.ndarray) -> None:
    """Both give the same numbers, and so does the rule when it is asked again."""
    import torch

    expected = processor(torch.tensor([history]), torch.tensor(scores)[None].clone())[0].numpy()
    for _ in range(2):
        got = scores.copy()
        rule(got, history)
        np.testing.assert_array_equal(got, expected)


@unhurried
@given(history=histories, penalty=penalties, seed=seeds)
def test_repetition(history: list[int], penalty: float, seed: int) -> None:
    from transformers.generation import RepetitionPenaltyLogitsProcessor

    same(logits_processors.Repetition(penalty), RepetitionPenaltyLogitsProcessor(penalty), history, row(seed))


@unhurried
@given(prompt=histories, history=histories, penalty=penalties, seed=seeds)
def test_preferring_the_prompt(prompt: list[int], history: list[int], penalty: float, seed: int) -> None:
    import torch
    from transformers.generation import EncoderRepetitionPenaltyLogitsProcessor

    processor = EncoderRepetitionPenaltyLogitsProcessor(penalty, torch.tensor([prompt]))
    same(logits_processors.prefer_prompt(prompt, penalty), processor, history, row(seed))


@unhurried
@given(history=histories, size=some.integers(1, 5), seed=seeds)
def test_no_n_gram_twice(history: list[int], size: int, seed: int) -> None:
    from transformers.generation import NoRepeatNGramLogitsProcessor

    same(logits_processors.NoRepeat(size), NoRepeatNGramLogitsProcessor(size), history, row(seed))


@unhurried
@given(prompt=histories, history=histories, size=some.integers(1, 5), seed=seeds)
def test_no_n_gram_of_the_prompt(prompt: list[int], history: list[int], size: int, seed: int) -> None:
    import torch
    from transformers.generation import EncoderNoRepeatNGramLogitsProcessor

    processor = EncoderNoRepeatNGramLogitsProcessor(size, torch.tensor([prompt]))
    same(logits_processors.NoRepeat(size, prompt), processor, history, row(seed))


@unhurried
@given(history=some.lists(some.integers(0, 3), min_size=1, max_size=16), seed=seeds)
def test_rules_that_remember_are_right_at_every_token_of_a_growing_history(history: list[int], seed: int) -> None:
    import torch
    from transformers.generation import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

    rules = (logits_processors.Repetition(1.3), logits_processors.NoRepeat(2))
    processors = (RepetitionPenaltyLogitsProcessor(1.3), NoRepeatNGramLogitsProcessor(2))
    for length in range(1, len(history) + 1):
        for rule, processor in zip(rules, processors, strict=True):
            got = row(seed + length)
            expected = processor(torch.tensor([history[:length]]), torch.tensor(got)[None].clone())[0].numpy()
            rule(got, history[:length])
            np.testing.assert_array_equal(got, expected)


sequences = some.dictionaries(
    some.lists(some.integers(0, 7), min_size=1, max_size=4).map(tuple), some.floats(-9, 9), min_size=1, max_size=12
)


@unhurried
@given(history=histories, biases=sequences, seed=seeds)
def test_sequence_bias(history: list[int], biases: dict[tuple[int, ...], float], seed: int) -> None:
    from transformers.generation import SequenceBiasLogitsProcessor

    same(logits_processors.Bias(biases), SequenceBiasLogitsProcessor(dict(biases)), history, row(seed))


@unhurried
@given(history=histories, biases=sequences, seed=seeds)
def test_banned_sequences(history: list[int], biases: dict[tuple[int, ...], float], seed: int) -> None:
    from transformers.generation import NoBadWordsLogitsProcessor

    processor = NoBadWordsLogitsProcessor([list(sequence) for sequence in biases])
    same(logits_processors.Bias(dict.fromkeys(biases, -math.inf)), processor, history, row(seed))


@unhurried
@given(history=histories, banned=few_ids, length=some.integers(1, 26), seed=seeds)
def test_bans_and_forced_tokens(history: list[int], banned: list[int], length: int, seed: int) -> None:
    from transformers import generation

    same(logits_processors.ban(banned), generation.SuppressTokensLogitsProcessor(banned), history, row(seed))
    same(
        logits_processors.ban_at(length, banned),
        generation.SuppressTokensAtBeginLogitsProcessor(banned, length),
        history,
        row(seed),
    )
    same(
        logits_processors.ban_before(length, banned),
        generation.MinLengthLogitsProcessor(length, banned),
        history,
        row(seed),
    )
    same(
        logits_processors.force_at(length - 1, banned),
        generation.ForcedEOSTokenLogitsProcessor(length, banned),
        history,
        row(seed),
    )
    same(
        logits_processors.force_at(1, banned[:1]),
        generation.ForcedBOSTokenLogitsProcessor(banned[0]),
        history[:1],
        row(seed),
    )


@unhurried
@given(history=histories, start=some.integers(0, 12), factor=some.floats(0.8, 2), ends=few_ids, seed=seeds)
def test_favouring_the_end(history: list[int], start: int, factor: float, ends: list[int], seed: int) -> None:
    from transformers.generation import ExponentialDecayLengthPenalty

    scores = row(seed)
    scores[ends[0]] = [-np.inf, scores[ends[0]]][seed % 2]  # what may not end yet stays so
    processor = ExponentialDecayLengthPenalty((start, factor), ends, input_ids_seq_length=1)
    same(logits_processors.favour_end(start + 1, factor, ends), processor, history, scores)


@unhurried
@given(places=some.lists(ids, min_size=3, max_size=3), seed=seeds)
def test_removing_invalid_numbers(places: list[int], seed: int) -> None:
    from transformers.generation import InfNanRemoveLogitsProcessor

    scores = row(seed)
    scores[places] = (np.nan, np.inf, -np.inf)
    same(logits_processors.remove_invalid, InfNanRemoveLogitsProcessor(), [1], scores)


@pytest.mark.parametrize(
    "rule",
    [
        logits_processors.Repetition(1.5),
        logits_processors.NoRepeat(1),
        logits_processors.Bias({(VOCAB + 3,): -math.inf, (VOCAB + 3, VOCAB + 4): 1.0}),
        logits_processors.ban([VOCAB, VOCAB + 3, -1]),
        logits_processors.force_at(1, [VOCAB]),
        logits_processors.favour_end(0, 2.0, [VOCAB]),
        logits_processors.prefer_prompt([VOCAB + 3], 2.0),
    ],
)
def test_ids_without_a_score_change_nothing(rule: logits_processors.Rule) -> None:
    scores = row(1)
    rule(scores, [VOCAB + 3])
    np.testing.assert_array_equal(scores, row(1))


def test_an_end_favoured_for_thousands_of_tokens_comes_and_breaks_nothing() -> None:
    scores = row(2)
    logits_processors.favour_end(0, 2.0, [3])(scores, [1] * 5000)
    assert scores.argmax() == 3 and np.isfinite(scores).all()
