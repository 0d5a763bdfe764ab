"""Layers that keep a state instead of keys, written with ONNX Runtime's two operators for them.

transformers computes such layers in functions that have one name wherever they are used: a convolution over the last
tokens, and a recurrence (Mamba's two, gated delta rules). Each recurrence is linear attention with a decay,
``S = exp(g) S + k vᵀ`` and ``o = Sᵀ q``, or that with a correction of what ``k`` already finds; ``Steps`` says which
numbers are which. What a function gives is compared with real numbers before the operator takes its place. No family
is named.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch

from playground.export.recipes.experts import same
from playground.export.recipes.reasons import NoOperator
from playground.messages import msg

FLOAT = 1
"""ONNX's number for fp32."""

CONVOLUTION = "causal_conv1d_fn"

SILU = frozenset(("silu", "swish"))

BEFORE, BEHIND = "before", "behind"
"""Where a norm has its gate."""
UNGATED = 1.2784645427610738
"""SiLU of it is one."""

UNIT_EPSILON = 1e-6
"""Added to the squares of queries and keys that are made as long as one, by transformers' functions."""

Given = Mapping[str, Any]


@dataclass(frozen=True)
class Steps:
    """A recurrence as the operator has it. A state is ``[1, heads, key size, value size]``.

    Attributes:
        query, key: fp32 ``[1, tokens, groups, key size]``; each group serves as many heads as another.
        value: fp32 ``[1, tokens, heads, value size]``.
        decay: Logarithms, fp32 ``[1, tokens, heads]`` or ``[1, tokens, heads, key size]``.
        beta: How much is corrected, fp32 ``[1, tokens, heads]``; None for a recurrence that corrects nothing.
        scale: Of what comes out.
        initial: The state before, as the function has it; None for zeros, or where it is not told.
        finish: Makes the function's output of the operator's, ``[1, tokens, heads, value size]``.
        outward: Makes the function's form of a state of the operator's.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    decay: torch.Tensor
    beta: torch.Tensor | None
    scale: float
    initial: torch.Tensor | None
    finish: Callable[[torch.Tensor], torch.Tensor] = lambda made: made
    outward: Callable[[torch.Tensor], torch.Tensor] = lambda state: state

    @property
    def held(self) -> tuple[int, ...]:
        """The shape of a state."""
        return 1, self.value.shape[2], self.key.shape[3], self.value.shape[3]


def computed(steps: Steps, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the operator computes behind ``state``: its output and the next state, token by token."""
    heads = steps.value.shape[2]
    each = heads // steps.key.shape[2]
    outputs = []
    for token in range(steps.value.shape[1]):
        key, query = (given[:, token].repeat_interleave(each, 1) for given in (steps.key, steps.query))
        decay = steps.decay[:, token].reshape(1, heads, -1, 1).exp()
        value, state = steps.value[:, token], state * decay
        if steps.beta is not None:
            value = (value - (state * key[..., None]).sum(2)) * steps.beta[:, token, :, None]
        state = state + key[..., None] * value[:, :, None]
        outputs.append(steps.scale * (state * query[..., None]).sum(2))
    return torch.stack(outputs, 1), state


def written(steps: Steps, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The operator: as ``computed``.

    Raises:
        NoOperator: The state is another one.
    """
    if tuple(state.shape) != steps.held:
        raise NoOperator(msg("its layers keep a state that no operator continues"))
    batch, tokens, heads, size = steps.value.shape
    rows = [each.reshape(batch, tokens, -1) for each in (steps.query, steps.key, steps.value)]
    inputs = [*rows, state, steps.decay.reshape(batch, tokens, -1)]
    if steps.beta is not None:
        inputs.append(steps.beta)
    made, present = torch.onnx.ops.symbolic_multi_out(
        "com.microsoft::LinearAttention",
        inputs,
        {
            "q_num_heads": steps.key.shape[2],
            "kv_num_heads": heads,
            "update_rule": "gated" if steps.beta is None else "gated_delta",
            "scale": steps.scale,
        },
        dtypes=[FLOAT] * 2,
        shapes=[(batch, tokens, heads * size), tuple(state.shape)],
        version=1,
    )
    return made.reshape(batch, tokens, heads, size), present


def norm(operator: str, source: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    """The operator for a norm over the last axis."""
    return cast(
        torch.Tensor,
        torch.onnx.ops.symbolic(
            operator,
            [source, weight],
            {"epsilon": epsilon, "axis": -1, "stash_type": 1},
            dtype=source.dtype,
            shape=source.shape,
            version=1,
        ),
    )


def convolved(
    source: torch.Tensor, state: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: str | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The operator for a convolution over each channel's last tokens, and what is kept for the next.

    Args:
        source: fp32 ``[1, channels, tokens]``.
        state: Those before, ``[1, channels, taps - 1]``.
        weight: ``[channels, taps]``.
    """
    made, present = torch.onnx.ops.symbolic_multi_out(
        "com.microsoft::CausalConvWithState",
        [source, weight[:, None], bias, state],
        {"ndim": 1, "activation": "silu" if activation in SILU else "none"},
        dtypes=[FLOAT] * 2,
        shapes=[tuple(source.shape), tuple(state.shape)],
        version=1,
    )
    return made, present


def is_causal(
    source: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, activation: str | None, found: torch.Tensor
) -> bool:
    """Whether the operator would give what a convolution gave of ``source`` with nothing before it."""
    if activation is not None and activation not in SILU:
        return False
    channels, taps = weight.shape
    padded = torch.nn.functional.pad(source, (taps - 1, 0))
    made = torch.nn.functional.conv1d(padded, weight[:, None], bias, groups=channels)
    made = torch.nn.functional.silu(made) if activation else made
    return same(made, found[..., -source.shape[-1] :])


def steps_of(name: str, signature: inspect.Signature, args: Any, named: Any, *, traced: bool = False) -> Steps:
    """What the function of this name is asked for.

    Args:
        traced: There are no numbers, and operators are written.
    """
    bound = signature.bind(*args, **named)
    bound.apply_defaults()
    return RECURRENCES[name](bound.arguments, traced)


def gives_the_same(steps: Steps, found: Any) -> bool:
    """Whether the operator would give what the function gave from nothing: its output and the state behind it."""
    if not (isinstance(found, tuple) and len(found) == 2) or steps.initial is not None:
        return False
    made, state = computed(steps, torch.zeros(steps.held))
    return same(steps.finish(made), found[0]) and same(steps.outward(state), found[1])


def gated_where(usual: Callable[..., Any], source: torch.Tensor, gate: torch.Tensor, found: Any) -> str | None:
    """Whether SiLU of ``gate`` is multiplied with what a norm is given (``BEFORE``) or with what it gives (``BEHIND``),
    where the norm gave ``found``; None where it is neither.

    Args:
        usual: The norm, which takes a gate.
    """
    if source.shape != gate.shape:
        return None
    by, alone = torch.nn.functional.silu(gate), torch.full_like(gate, UNGATED)
    if same(usual(source * by, alone), found):
        return BEFORE
    return BEHIND if same(usual(source, alone) * by, found) else None


# -- the functions, by transformers' names -----------------------------------------------------------------------------


def _gated_delta(given: Given, traced: bool) -> Steps:
    """``g`` for each head, or for each number of its keys."""
    query, key = given["query"], given["key"]
    if given["use_qk_l2norm_in_kernel"]:
        query, key = _unit(query, traced), _unit(key, traced)
    scale = cast(float, key.shape[-1] ** -0.5)
    return Steps(query, key, given["value"], given["g"], given["beta"], scale, given["initial_state"])


def _mamba2(given: Given, _traced: bool) -> Steps:
    """What is multiplied stands in rows, a head in each or all of them, as the kernels read it."""
    hidden, skipped = given["hidden_states"], given["D"]
    step = given["dt"]
    if given["dt_bias"] is not None:
        step = step + given["dt_bias"]
    if given["dt_softplus"]:
        step = torch.nn.functional.softplus(step)
    low, high = given["dt_limit"]
    if low > 0.0 or high != float("inf") or not given["dt_softplus"]:
        step = step.clamp(low, high)

    batch, tokens, heads, size = hidden.shape

    def finish(made: torch.Tensor) -> torch.Tensor:
        if skipped is None:
            return made
        row = skipped[:, None].expand(heads, size).reshape(-1)
        whole = made.reshape(batch, tokens, -1) + hidden.reshape(batch, tokens, -1) * row
        return whole.reshape(batch, tokens, heads, size)

    def turned(state: torch.Tensor) -> torch.Tensor:
        return state.transpose(2, 3)

    value = (hidden.reshape(-1, size) * step.reshape(-1, 1)).reshape(batch, tokens, heads, size)
    decay, initial = given["A"] * step, given["initial_states"]
    return Steps(given["C"], given["B"], value, decay, None, 1.0, initial, finish, turned)


def _mamba(given: Given, _traced: bool) -> Steps:
    """Each channel is a head of one number, with decays of its own."""
    hidden, step = given["hidden_states"].transpose(1, 2), given["dt"].transpose(1, 2)
    if given["delta_bias"] is not None:
        step = step + given["delta_bias"]
    if given["delta_softplus"]:
        step = torch.nn.functional.softplus(step)
    key, query = (given[name].transpose(1, 2)[:, :, None] for name in ("B", "C"))
    skipped, gate = given["D"], given["z"]

    def finish(made: torch.Tensor) -> torch.Tensor:
        made = made[..., 0] if skipped is None else made[..., 0] + hidden * skipped
        made = made.transpose(1, 2)
        return made if gate is None else made * torch.nn.functional.silu(gate)

    def outward(state: torch.Tensor) -> torch.Tensor:
        return state[..., 0]

    value, decay = (hidden * step)[..., None], step[..., None] * given["A"]
    return Steps(query, key, value, decay, None, 1.0, None, finish, outward)


def _unit(vectors: torch.Tensor, traced: bool) -> torch.Tensor:
    """Each of length one: the root mean square is the length by the root of the size."""
    if not traced:
        return vectors * torch.rsqrt((vectors * vectors).sum(-1, keepdim=True) + UNIT_EPSILON)
    size = vectors.shape[-1]
    weight = torch.full((size,), size**-0.5)
    return norm("SimplifiedLayerNormalization", vectors, weight, UNIT_EPSILON / size)


RECURRENCES: Mapping[str, Callable[[Given, bool], Steps]] = {
    "torch_chunk_gated_delta_rule": _gated_delta,
    "chunk_kimi_delta_attention": _gated_delta,
    "mamba2_chunk_scan": _mamba2,
    "mamba_selective_scan": _mamba,
}
"""What a function computes over many tokens, from its arguments by name."""
