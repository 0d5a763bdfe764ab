"""Recurrences of transformers as linear attention: the same numbers by torch, by the formula, by the operator."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

torch = pytest.importorskip("torch")
recurrences = pytest.importorskip("playground.export.recipes.recurrences")

TOKENS, HEADS, GROUPS, KEY, VALUE = 6, 4, 2, 8, 16


def numbers(*shape: int) -> Any:
    return torch.randn(*shape)


def delta(keys: int = GROUPS, each: int = 0) -> dict[str, Any]:
    """Arguments of a gated delta rule; ``each``: decays for so many numbers of a key."""
    return {
        "query": numbers(1, TOKENS, keys, KEY),
        "key": numbers(1, TOKENS, keys, KEY),
        "value": numbers(1, TOKENS, HEADS, VALUE),
        "g": -numbers(1, TOKENS, HEADS, *([each] if each else [])).abs(),
        "beta": torch.sigmoid(numbers(1, TOKENS, HEADS)),
        "output_final_state": True,
        "use_qk_l2norm_in_kernel": True,
    }


def mamba_2() -> dict[str, Any]:
    return {
        "hidden_states": numbers(1, TOKENS, HEADS, VALUE),
        "dt": numbers(1, TOKENS, HEADS),
        "A": -numbers(HEADS).exp(),
        "B": numbers(1, TOKENS, GROUPS, KEY),
        "C": numbers(1, TOKENS, GROUPS, KEY),
        "chunk_size": 4,
        "D": numbers(HEADS),
        "dt_bias": numbers(HEADS),
        "dt_softplus": True,
        "dt_limit": (0.01, 0.7),
        "return_final_states": True,
    }


def mamba() -> dict[str, Any]:
    return {
        "hidden_states": numbers(1, HEADS, TOKENS),
        "dt": numbers(1, HEADS, TOKENS),
        "A": -numbers(HEADS, KEY).exp(),
        "B": numbers(1, KEY, TOKENS),
        "C": numbers(1, KEY, TOKENS),
        "D": numbers(HEADS),
        "z": numbers(1, HEADS, TOKENS),
        "delta_bias": numbers(HEADS),
        "delta_softplus": True,
        "return_last_state": True,
    }


def usual(module: str, name: str) -> Any:
    import importlib

    return getattr(importlib.import_module(f"transformers.models.{module}.modeling_{module}"), name)


CASES = [
    ("qwen3_5", "torch_chunk_gated_delta_rule", delta),
    ("kimi_linear", "chunk_kimi_delta_attention", lambda: delta(HEADS, KEY)),
    ("granitemoehybrid", "mamba2_chunk_scan", mamba_2),
    ("mamba", "mamba_selective_scan", mamba),
]


def case(module: str, name: str, make: Any) -> tuple[Any, Any]:
    """What the operator would be given, and what transformers' function gives."""
    torch.manual_seed(3)
    given, function = make(), usual(module, name)
    steps = recurrences.steps_of(name, inspect.signature(function), (), given)
    return steps, function(**given)


@pytest.mark.parametrize(("module", "name", "make"), CASES, ids=[name for _, name, _ in CASES])
def test_a_function_of_transformers_is_linear_attention(module: str, name: str, make: Any) -> None:
    steps, found = case(module, name, make)
    assert recurrences.gives_the_same(steps, found)


@pytest.mark.parametrize(("module", "name", "make"), CASES, ids=[name for _, name, _ in CASES])
def test_a_function_that_computes_something_else_is_found_out(module: str, name: str, make: Any) -> None:
    steps, (made, state) = case(module, name, make)
    assert not recurrences.gives_the_same(steps, (made * 1.01, state))
    assert not recurrences.gives_the_same(steps, (made, state * 1.01))
    assert not recurrences.gives_the_same(steps, made)


@pytest.mark.parametrize("traced", [False, True])
def test_steps_of_mamba_2_are_the_same_where_operators_are_written(traced: bool) -> None:
    torch.manual_seed(3)
    given, function = mamba_2(), usual("granitemoehybrid", "mamba2_chunk_scan")
    signature, state = inspect.signature(function), torch.zeros(1, HEADS, KEY, VALUE)
    found, _ = function(**given)

    def written(start: Any) -> Any:
        steps = recurrences.steps_of("mamba2_chunk_scan", signature, (), given, traced=traced)
        made, kept = recurrences.written(steps, start)
        return steps.finish(made), kept

    got, _ = ran(written, state)
    assert np.abs(got - found.numpy()).max() < 1e-4 * np.abs(found.numpy()).max()


@pytest.mark.parametrize("behind", [False, True])
def test_a_norm_with_a_gate_is_found_by_what_it_gives(behind: bool) -> None:
    torch.manual_seed(5)
    source, gate = numbers(1, TOKENS, VALUE), numbers(1, TOKENS, VALUE)

    def norm(given: Any, gate: Any) -> Any:
        by = torch.nn.functional.silu(gate)
        given = given if behind else given * by
        given = given * torch.rsqrt(given.pow(2).mean(-1, keepdim=True) + 1e-6)
        return given * by if behind else given

    found = norm(source, gate)
    assert recurrences.gated_where(norm, source, gate, found) == ("behind" if behind else "before")
    assert recurrences.gated_where(norm, source, gate, found * 1.01) is None
    assert recurrences.gated_where(norm, source, gate[..., :1], found) is None


@pytest.mark.parametrize(("module", "name", "make"), CASES, ids=[name for _, name, _ in CASES])
def test_the_operator_computes_what_is_taken_for_it_behind_any_state(module: str, name: str, make: Any) -> None:
    steps, _ = case(module, name, make)
    state = numbers(*steps.held)
    made, after = recurrences.computed(steps, state)
    got, kept = ran(lambda given: recurrences.written(steps, given), state)
    assert np.abs(got - made.numpy()).max() < 1e-4 * np.abs(made.numpy()).max()
    assert np.abs(kept - after.numpy()).max() < 1e-4 * np.abs(after.numpy()).max()


def test_the_convolution_is_that_of_transformers_behind_what_came_before() -> None:
    torch.manual_seed(4)
    source, weight, bias = numbers(1, HEADS, TOKENS), numbers(HEADS, 4), numbers(HEADS)
    function = usual("granitemoehybrid", recurrences.CONVOLUTION)
    whole = function(source, weight, bias, activation="silu")
    assert recurrences.is_causal(source, weight, bias, "silu", whole)
    assert not recurrences.is_causal(source, weight, None, "silu", whole)
    assert not recurrences.is_causal(source, weight, bias, "gelu", whole)
    state = torch.zeros(1, HEADS, 3)
    for first, last in ((0, 1), (1, 5), (5, TOKENS)):
        part = source[..., first:last]
        got, kept = ran(lambda given, new=part: recurrences.convolved(new, given, weight, bias, "silu"), state)
        assert np.abs(got - whole[..., first:last].numpy()).max() < 1e-5
        state = torch.tensor(kept)
    assert torch.equal(state, source[..., -3:])


def ran(written: Any, state: Any) -> list[Any]:
    """What ONNX Runtime makes of a graph of these operators, given ``state``."""

    class Step(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, given: Any) -> Any:
            return written(given)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, at tracing
        program = torch.onnx.export(Step().eval(), (state,), dynamo=True, verbose=False, input_names=["state"])
    session = ort.InferenceSession(program.model_proto.SerializeToString())
    return list(session.run(None, {"state": state.numpy()}))
