"""A mixture's experts rounded: ``MoE`` becomes ``QMoE``, over the same blocks of 32 as every other product.

All experts of a layer are one tensor in the graph; they are read, rounded and written one at a time. This module knows
the two operators; it reads no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from playground.errors import ExportError
from playground.export.quantization.blocks import QUANT_BLOCK, Array, round4, round8
from playground.kernels.library import packed
from playground.messages import msg

PLAIN, ROUNDED = "MoE", "QMoE"
PRODUCTS = ((2, 3), (4, 5))
"""Where the first and the second product's weights stand among the inputs of ``MoE``, and their biases."""

Add = Callable[[str, Array], None]
AddPieces = Callable[[str, Iterable[Array]], None]


def rounded_experts(
    node: Any, weights: Callable[[str], Iterable[Array]], bits: int, add: Add, add_pieces: AddPieces
) -> Any:
    """The node that computes with rounded weights in place of ``node``.

    Args:
        node: ``MoE``.
        weights: Gives a product's weights, each expert's fp32 ``[rows, columns]`` in turn.
        bits: 8 or 4.
        add: Takes a tensor of the new graph.
        add_pieces: The same of one that comes piece by piece along its first axis.

    Raises:
        ExportError: There are blocks that the columns don't fill, which the operator does not take.
    """
    from onnx import helper

    first, second = (
        (
            *_product(node.input[weight], weights, bits, add, add_pieces),
            node.input[bias] if len(node.input) > bias else "",
        )
        for weight, bias in PRODUCTS
    )
    inputs = [*node.input[:2], *first[:2], first[3], *second[:2], second[3], "", "", "", first[2], second[2]]
    while not inputs[-1]:
        inputs.pop()
    settings = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    return helper.make_node(
        ROUNDED,
        inputs,
        list(node.output),
        node.name,
        domain="com.microsoft",
        expert_weight_bits=bits,
        block_size=QUANT_BLOCK,
        weights_prepacked=0,
        accuracy_level=4,
        **settings,
    )


def _product(
    name: str, weights: Callable[[str], Iterable[Array]], bits: int, add: Add, add_pieces: AddPieces
) -> tuple[str, str, str]:
    """Names of values, scales and zero points of one product; empty where there are none."""
    pack = packed if bits == 4 else np.asarray
    scales: list[Array] = []
    zeros: list[Array] = []

    def values() -> Iterator[Array]:
        for expert in weights(name):
            rows, columns = expert.shape
            if columns % QUANT_BLOCK:
                raise ExportError(
                    msg(
                        "its experts read {columns} numbers, which are no whole blocks of {block}",
                        columns=columns,
                        block=QUANT_BLOCK,
                    )
                )
            blocks = np.ascontiguousarray(expert, np.float32).reshape(rows, -1, QUANT_BLOCK)
            found = round8(blocks) if bits == 8 else round4(blocks, False)[0]
            scales.append(found.scales)
            if found.zeros is not None:
                zeros.append(pack(found.zeros))
            yield pack(found.values).reshape(rows, -1)

    add_pieces(f"{name}.values", values())
    add(f"{name}.scales", np.stack(scales))
    if zeros:
        add(f"{name}.zeros", np.stack(zeros))
    return f"{name}.values", f"{name}.scales", f"{name}.zeros" if zeros else ""
