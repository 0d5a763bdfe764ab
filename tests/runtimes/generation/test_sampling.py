"""The filtered distribution is transformers'; choosing from it is deterministic for a seed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from playground.records import Request
from playground.runtimes.generation.sampling import Sampler
from playground.runtimes.generation.settings import read_settings

SETTINGS = [
    {"temperature": 0.7},
    {"temperature": 1.0, "top_k": 40},
    {"temperature": 1.3, "top_p": 0.9},
    {"temperature": 1.0, "min_p": 0.05},
    {"temperature": 1.0, "repetition_penalty": 1.3},
    {"temperature": 1.0, "repetition_penalty": 0.8},
    {"temperature": 0.8, "top_k": 50, "top_p": 0.95, "min_p": 0.02, "repetition_penalty": 1.1},
    {"temperature": 2.0, "top_k": 5000, "top_p": 0.999},
    {"temperature": 1.0, "top_p": 1e-6},
    {"temperature": 1.0, "min_p": 1.0},
    {"temperature": 1.0, "top_k": 1},
    {"temperature": 1.0, "top_k": 10**9},
]


def random_logits(vocab: int, seed: int, spread: float = 3.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(vocab) * spread).astype(np.float32)


def reference(settings: dict, logits: np.ndarray, history: list[int]) -> np.ndarray:
    """Probabilities after the processors that ``generate`` would build, in its order."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
    from transformers.generation import LogitsProcessorList

    tiny = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    given = {"top_k": 0, **settings}
    config = GenerationConfig(do_sample=True, **given)
    processors = LlamaForCausalLM(tiny)._get_logits_processor(
        config, input_ids_seq_length=len(history), logits_processor=LogitsProcessorList()
    )
    scores = processors(torch.tensor([history]), torch.tensor(logits)[None].clone())
    return torch.softmax(scores.double(), dim=-1)[0].numpy()


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: ",".join(f"{k}={v}" for k, v in settings.items()))
@pytest.mark.parametrize(("vocab", "spread"), [(257, 3.0), (50_000, 3.0), (262_144, 0.5)])
def test_the_filtered_distribution_is_that_of_transformers(settings: dict, vocab: int, spread: float) -> None:
    logits = random_logits(vocab, seed=vocab, spread=spread)
    history = [3, 200, 3, int(logits.argmax()), int(logits.argmin())]

    ids, probabilities = Sampler(Request("x", **settings)).distribution(logits, history)

    expected = reference(settings, logits, history)
    ours = np.zeros(vocab)
    ours[ids] = probabilities
    # The nucleus is found in float64 here and in float32 there: tokens at its very edge may differ, no others.
    differing = (ours > 0) != (expected > 0)
    assert expected[differing].sum() + ours[differing].sum() < 2e-4
    assert np.allclose(ours[~differing], expected[~differing], atol=1e-6, rtol=1e-3)
    assert ours[int(expected.argmax())] > 0


def test_greedy_takes_the_best_and_the_lowest_id_among_equals() -> None:
    assert Sampler(Request("x")).next(np.array([0.0, 2.0, 1.0, 2.0], dtype=np.float32), []) == 1


def test_greedy_heeds_the_repetition_penalty_over_prompt_and_answer() -> None:
    sampler = Sampler(Request("x", repetition_penalty=2.0))
    logits = np.array([4.0, 3.0, 2.5, -1.0], dtype=np.float32)
    history = [0]
    chosen = []
    for _ in range(3):
        chosen.append(sampler.next(logits, history))
        history.append(chosen[-1])
    assert chosen == [1, 2, 0]


def test_the_penalty_does_not_change_the_callers_logits() -> None:
    logits = np.array([4.0, 3.0], dtype=np.float32)
    Sampler(Request("x", repetition_penalty=2.0)).next(logits, [0])
    assert logits.tolist() == [4.0, 3.0]


def test_a_seed_gives_the_same_tokens_again_and_another_seed_others() -> None:
    rows = [random_logits(5000, seed) for seed in range(30)]

    def drawn(seed: int | None) -> list[int]:
        sampler = Sampler(Request("x", temperature=1.5, top_p=0.95, seed=seed))
        return [sampler.next(row, []) for row in rows]

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)
    assert drawn(None) != drawn(None)


def test_draws_follow_the_distribution_over_a_vocabulary_of_several_blocks() -> None:
    logits = np.full(5000, -np.inf, dtype=np.float32)
    shares = {3: 0.5, 1023: 0.2, 1024: 0.2, 4999: 0.1}
    logits[list(shares)] = np.log(list(shares.values()))
    sampler = Sampler(Request("x", temperature=1.0))
    counts = Counter(sampler.next(logits, []) for _ in range(4000))
    assert set(counts) == set(shares)
    for token, share in shares.items():
        assert counts[token] / 4000 == pytest.approx(share, abs=0.035)


def test_equal_tokens_at_the_edge_of_the_nucleus_stay_by_ascending_id() -> None:
    ids, _ = Sampler(Request("x", temperature=1.0, top_p=0.5)).distribution(np.zeros(8, dtype=np.float32), [])
    assert ids.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("temperature", [1e-300, 1e-45, 1e-10])
def test_a_temperature_near_zero_is_greedy_instead_of_overflowing(temperature: float) -> None:
    logits = random_logits(1000, seed=1)
    assert Sampler(Request("x", temperature=temperature)).next(logits, []) == int(logits.argmax())


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_an_error_not_a_token(temperature: float, bad: float) -> None:
    logits = random_logits(100, seed=1)
    logits[40] = bad
    with pytest.raises(FloatingPointError):
        Sampler(Request("x", temperature=temperature)).next(logits, [])


def test_half_precision_logits_are_read_as_they_are() -> None:
    logits = random_logits(1000, seed=2).astype(np.float16)
    ids, probabilities = Sampler(Request("x", temperature=1.0, top_k=5)).distribution(logits, [])
    assert set(ids) >= set(np.argsort(logits)[-5:].tolist())
    assert probabilities.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("own", "drawn"),
    [
        ({"no_repeat_ngram_size": 2, "suppress_tokens": [1, 2, 3]}, {"temperature": 0.8, "top_k": 9}),
        ({"forced_eos_token_id": 5}, {"temperature": 1.0, "top_p": 0.9}),
        (
            {"sequence_bias": [[[4], 6.0], [[7, 9], 8.0]], "repetition_penalty": 1.3},
            {"temperature": 1.2, "min_p": 0.05},
        ),
        ({"encoder_repetition_penalty": 1.5, "bad_words_ids": [[7, 11]]}, {"temperature": 1.0, "top_k": 40}),
    ],
)
def test_rules_of_a_models_files_come_before_the_filters_as_in_transformers(
    tmp_path: Path, own: dict, drawn: dict
) -> None:
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
    from transformers.generation import LogitsProcessorList

    history = [3, 7, 9, 3, 12, 7]
    logits = random_logits(64, seed=4)
    (tmp_path / "generation_config.json").write_text(json.dumps(own))
    request = Request("x", max_new_tokens=1, **drawn)
    rules = read_settings(tmp_path).rules(request, history, begun=len(history), most=1, ends={5})
    ids, probabilities = Sampler(request, rules).distribution(logits, history)
    tiny = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    config = GenerationConfig(do_sample=True, max_length=len(history) + 1, **({"top_k": 0} | own | drawn))
    config._eos_token_tensor = torch.tensor([5])
    processors = LlamaForCausalLM(tiny)._get_logits_processor(
        config,
        input_ids_seq_length=len(history),
        encoder_input_ids=torch.tensor([history]),
        logits_processor=LogitsProcessorList(),
    )
    scores = processors(torch.tensor([history]), torch.tensor(logits)[None].clone())
    found = np.zeros(len(logits))
    found[ids] = probabilities
    np.testing.assert_allclose(found, torch.softmax(scores.double(), dim=-1)[0].numpy(), atol=1e-6)


# -- against a plain oracle -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Logits and how a token is drawn from them."""

    logits: np.ndarray
    history: list[int]
    request: Request


def case_of(number: int) -> Case:
    """The same case for a number each time; values are drawn evenly, where hypothesis would prefer simple ones."""
    random = np.random.default_rng(number)

    def one_of(*values: Any) -> Any:
        return values[random.integers(len(values))]

    vocab = one_of(1, 2, 7, 40, 40, 300, 3000)
    logits = random.normal(scale=one_of(0.0, 0.3, 1.0, 1.0, 3.0, 40.0), size=vocab).astype(np.float32)
    if one_of(True, False):
        logits = logits.round()  # equal ones
    banned = random.random(vocab) < one_of(0.0, 0.0, 0.3, 0.95)
    banned[int(logits.argmax())] = False
    logits[banned] = -np.inf
    request = Request(
        "x",
        temperature=one_of(1e-30, 0.5, 0.7, 1.0, 1.0, 2.0, 1e6),
        top_k=one_of(0, 0, 1, 2, 5, 299, 3000, 10**9),
        top_p=one_of(1.0, 1.0, 1e-9, 0.1, 0.5, 0.9, 0.999),
        min_p=one_of(0.0, 0.0, 0.0, 1e-9, 0.05, 0.5, 1.0),
        repetition_penalty=one_of(1.0, 0.5, 1.3, 10.0),
        seed=int(random.integers(2**63)),
    )
    return Case(logits, random.integers(vocab + 3, size=one_of(0, 3, 8)).tolist(), request)


def penalised(case: Case) -> np.ndarray:
    scores, penalty = case.logits.copy(), np.float32(case.request.repetition_penalty)
    for token in {token for token in case.history if token < len(scores)} if penalty != 1 else ():
        scores[token] = scores[token] / penalty if scores[token] > 0 else scores[token] * penalty
    return scores


def weights_of(case: Case) -> tuple[np.ndarray, bool]:
    """Each token's weight, 0 where it may not be drawn, one step after the other over the whole row; and whether a step
    was so close that rounding decides it."""
    request, scores, close = case.request, penalised(case), False
    with np.errstate(over="ignore"):
        scores = (scores - scores.max()) / np.float32(request.temperature)
    if 0 < request.top_k < len(scores):
        scores[scores < np.sort(scores)[-request.top_k]] = -np.inf
    weights = np.exp(scores).astype(np.float64)
    if request.top_p < 1:
        order = np.argsort(-weights, kind="stable")
        before, goal = np.cumsum(weights[order]) - weights[order], request.top_p * weights.sum()
        close = bool((np.abs(before - goal)[weights[order] > 0] < 1e-9 * goal).any())
        weights[order[1:][before[1:] >= goal]] = 0.0
    weights[weights < request.min_p] = 0.0
    return weights, close


@pytest.mark.parametrize("hundred", range(4))
def test_distribution_and_draw_are_those_of_a_plain_oracle(hundred: int) -> None:
    checked = [check_against_the_oracle(case_of(100 * hundred + number)) for number in range(100)]
    assert sum(checked) > 70, "rounding decides few of them"


def check_against_the_oracle(case: Case) -> bool:
    """Whether there was something to be checked."""
    before = case.logits.copy()
    ids, probabilities = Sampler(case.request).distribution(case.logits, case.history)
    assert (np.diff(ids) > 0).all() and probabilities.sum() == pytest.approx(1.0, abs=1e-12)
    assert (case.logits == before).all()
    weights, close = weights_of(case)
    if close:
        return False
    found = np.zeros(len(weights))
    found[ids] = probabilities
    assert np.allclose(found, weights / weights.sum(), rtol=1e-5, atol=1e-9)
    sampler, shares = Sampler(case.request), np.cumsum(weights / weights.sum())
    drawn = [sampler.next(case.logits, case.history) for _ in range(4)]
    for token, share in zip(drawn, np.random.default_rng(case.request.seed).random(4), strict=True):
        assert weights[token] > 0
        assert (shares[token - 1] if token else 0.0) - 1e-6 <= share <= shares[token] + 1e-6
    again = Sampler(case.request, chosen=2)
    assert [again.next(case.logits, case.history) for _ in range(2)] == drawn[2:]
    return True


def test_greedy_is_the_best_after_the_penalty_whatever_the_filters_say() -> None:
    for case in map(case_of, range(1000, 1200)):
        greedy = replace(case.request, temperature=0.0)
        assert Sampler(greedy).next(case.logits, case.history) == int(penalised(case).argmax())
