"""A mixture's experts as one operator, ``MoE``, in the place that transformers made for other ways to compute them.

Which experts a token goes to, and with what weights, is the network's own code, traced as it stands. What an expert
computes between its two products is looked at with numbers first, and the operator takes its place only where it gives
the same. No family is named. The module knows torch and transformers' interface; where the weights go is not its
business.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from playground.export.quantization.experts import PLAIN
from playground.export.quantization.weights import Graph
from playground.export.recipes.reasons import NoOperator
from playground.messages import msg

NEVER = -1e30
"""Of an expert that is not chosen, where the operator takes the logarithms of the weights."""

FUSED, SIDE_BY_SIDE, BY_TURNS = "swiglu_fusion", 2, 1
"""Which rows of the first product are the gate's: the first half, or every second one."""

UNGATED = ("relu", "gelu", "silu", "identity")
"""What the operator can do without a gate."""

Settings = dict[str, Any]


def settings_of(module: Any) -> Settings:
    """What the operator has to be told to compute what an expert of ``module`` computes.

    Args:
        module: One that transformers' ``use_experts_implementation`` has decorated.

    Raises:
        NoOperator: There is nothing to tell it.
    """
    if module.is_transposed or getattr(module, "has_post_expert_norm", False):
        raise NoOperator(msg("its experts are laid out in another way than the operator knows"))
    probes = torch.linspace(-9.0, 9.0, 24 * 64)[torch.randperm(24 * 64, generator=torch.Generator().manual_seed(0))]
    probes = probes.reshape(24, 64)
    if not module.has_gate:
        found = module.act_fn(probes)
        for name in UNGATED:
            if same(_plain(name, probes), found):
                return {"activation_type": name}
    else:
        found = module._apply_gate(probes)
        gate, up = probes.chunk(2, -1) if module.is_concatenated else (probes[..., ::2], probes[..., 1::2])
        told = [each for each in vars(module).values() if isinstance(each, float)]
        for alpha in (1.0, *told):
            for beta in (0.0, 1.0):
                for limit in (None, *told):
                    if found.shape == gate.shape and same(_gated(gate, up, alpha, beta, limit), found):
                        settings = {"activation_alpha": alpha, "activation_beta": beta}
                        settings[FUSED] = SIDE_BY_SIDE if module.is_concatenated else BY_TURNS
                        if limit is not None:
                            settings["swiglu_limit"] = limit
                        return {"activation_type": "swiglu"} | settings
    raise NoOperator(msg("its experts compute something that the operator does not"))


def mixed(
    module: Any, hidden: torch.Tensor, experts: torch.Tensor, weights: torch.Tensor, settings: Settings
) -> torch.Tensor:
    """The operator over all tokens.

    It takes a softmax of what it is given for each expert; of the logarithms of the chosen ones' weights that is the
    weights over their sum.

    Args:
        hidden: fp32 ``[tokens, width]``.
        experts: int64 ``[tokens, chosen]``.
        weights: fp32 ``[tokens, chosen]``, not negative.
    """
    first, name = (module.gate_up_proj, "gate_up_proj") if module.has_gate else (module.up_proj, "up_proj")
    weights = weights.to(hidden.dtype)
    nobody = torch.full((hidden.shape[0], first.shape[0]), NEVER, dtype=hidden.dtype)
    chosen = nobody.scatter(1, experts, weights.clamp_min(torch.finfo(hidden.dtype).tiny).log())
    biases = [getattr(module, f"{each}_bias") if module.has_bias else None for each in (name, "down_proj")]
    made = torch.onnx.ops.symbolic(
        f"com.microsoft::{PLAIN}",
        [hidden, chosen, first, biases[0], module.down_proj, *([biases[1]] if module.has_bias else [])],
        {"k": experts.shape[1], "normalize_routing_weights": 0} | settings,
        dtype=hidden.dtype,
        shape=hidden.shape,
        version=1,
    )
    return made * weights.sum(-1, keepdim=True)


def by_turns(graph: Graph) -> None:
    """Lay gate and other half of the first product by turns, as ONNX Runtime's operator reads them on processors."""
    weights = {each.name: each for each in graph.model.graph.initializer}
    for node in graph.model.graph.node:
        layout = next((each for each in node.attribute if each.name == FUSED), None)
        if node.op_type != PLAIN or layout is None or layout.i == BY_TURNS:
            continue
        layout.i = BY_TURNS
        for place in (2, 3):
            if name := node.input[place]:
                laid = f"{name}.by_turns"
                graph.model.graph.initializer.append(
                    graph.derive(laid, weights[name], tuple(weights[name].dims), _rows_by_turns, by_piece=True)
                )
                node.input[place] = laid


def _rows_by_turns(array: Any) -> Any:
    experts, rows, *width = array.shape
    return np.ascontiguousarray(array.reshape(experts, 2, rows // 2, *width).swapaxes(1, 2)).reshape(array.shape)


def _plain(name: str, source: torch.Tensor) -> torch.Tensor:
    return source if name == "identity" else getattr(torch.nn.functional, name)(source)


def _gated(gate: torch.Tensor, up: torch.Tensor, alpha: float, beta: float, limit: float | None) -> torch.Tensor:
    """What the operator computes."""
    if limit is not None:
        gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * (up + beta)


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two ways to compute something gave the same numbers."""
    return one.shape == other.shape and bool(torch.allclose(one, other, rtol=1e-4, atol=1e-5))
