"""The traced way: torch's own exporter over transformers' own modules, which write ONNX Runtime's operators
(``operators.py``).

What the network computes is transformers' code, traced; so there is nothing to know of an architecture, and one that is
new tomorrow goes the same way. The trace is made with weights that are only places in memory: what is written are the
ones in the files, one at a time. This module does not judge what was built.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playground.errors import ExportError, Reason, first_line
from playground.export.quantization import graph
from playground.export.quantization.weights import Graph
from playground.export.recipes.base import Work
from playground.export.recipes.unwritten import graph_of
from playground.export.weights import copy_side_files
from playground.messages import Translatable, msg
from playground.sources.files import of_the_disk

log = logging.getLogger(__name__)

MODEL = "model.onnx"
SMALL = 1 << 16
"""Numbers of a weight that is read while tracing: what is computed of small ones alone is computed once."""

GIVEN = ("input_ids", "attention_mask", "position_ids")
AXIS_NEW, AXIS_PAST, AXIS_TOTAL = "sequence_length", "past_sequence_length", "total_sequence_length"

END = 1 << 31
"""An end from here on is the end of what is sliced."""

_OTHER_SHAPE = frozenset(("Reshape", "Squeeze", "Unsqueeze"))

NEW, PAST = 3, 4
"""Tokens of the traced run, and those before it. Both may be any number in the graph."""


def build_dynamo(work: Work) -> str:
    """Trace the network with operators in place of its modules, then round. See ``base.Build``."""
    work.progress(msg("exporting"), None)
    try:
        traced = _traced(work.model)
    except (MemoryError, ExportError):
        raise
    except Exception as error:  # tracing runs transformers' own code, which raises whatever happens to break
        if disk := of_the_disk(error):
            raise disk from error
        log.info("tracing %s failed", work.model.name, exc_info=not isinstance(error, Reason))
        raise ExportError(_reason(error, work.model)) from error
    work.progress(msg("rounding weights"), 0.0)
    graph.rewrite(traced, work.target / MODEL, graph.bits_of(work.options), work.progress, graph.worth_sums())
    copy_side_files(work.model, work.target)
    return work.precision


def _reason(error: Exception, model: Path) -> Translatable:
    while isinstance(error.__cause__, Exception):  # torch wraps what went wrong in advice to its own users
        error = error.__cause__
    if isinstance(error, Reason):
        return error.reason
    said = first_line(str(error).replace(str(model), "the model"))
    return msg("its modules can't be traced ({kind}: {reason})", kind=type(error).__name__, reason=said)


def _traced(folder: Path) -> Graph:
    """The network's graph; its weights are still in their files."""
    from playground.runtimes.torch.networks import load_network

    network = load_network(folder, deferred=True)
    if network.has_encoder:
        raise ExportError(msg("it has an encoder"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns at every Python value it meets
        return exported(network.model)


def exported(model: Any) -> Graph:
    """The graph of a network whose weights may be deferred; the network is as it was behind it.

    Raises:
        NoOperator: It can't be written with these operators.
        Exception: Whatever tracing finds wrong.
    """
    import torch

    from playground.export.recipes.operators import Operators, keeps_states_alone
    from playground.export.recipes.reasons import MaskCut, NoOperator, TurnLost

    config = model.config.get_text_config()
    positions = int(getattr(config, "max_position_embeddings", 0) or 0)
    if not positions and not keeps_states_alone(model):
        raise NoOperator(msg("it does not say how many positions it has"))
    operators = Operators(model, positions)

    class Step(torch.nn.Module):  # type: ignore[misc]
        """What torch's exporter is given."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: Any, seen: Any, positions: Any, past: Any) -> Any:
            return operators.run(tokens, seen, positions, past)

    with operators.installed():
        caches = operators.watch()
        with _hollow(model) as weights, torch.no_grad():
            past = [tensor for held in caches for tensor in held.empty(PAST)]
            names = [f"{layer}.{part}" for layer, held in enumerate(caches) for part in held.names()]
            any_length = torch.export.Dim.DYNAMIC
            tokens = torch.arange(NEW)[None]
            example = tokens, torch.ones(1, PAST + NEW, dtype=torch.int64), tokens + PAST, past
            axes = (
                {1: any_length},
                {1: any_length},
                {1: any_length},
                [{2: any_length} if _grows(name) else {} for name in names],
            )
            while True:
                try:
                    program = torch.export.export(Step(), example, dynamic_shapes=axes, strict=False)
                    break
                except TurnLost:
                    if not operators.leave_angles():
                        raise
                except MaskCut:
                    if not operators.leave_tokens():
                        raise
            made = torch.onnx.export(
                program,
                dynamo=True,
                optimize=False,
                verbose=False,
                input_names=[*GIVEN, *(f"past_key_values.{each}" for each in names)],
                output_names=["logits", *(f"present.{each}" for each in names)],
            )
    return _graph(made.model, weights, positions)


@contextmanager
def _hollow(model: Any) -> Iterator[Mapping[str, Any]]:
    """In this block large weights are memory that nobody has written to, and so takes none; small ones are in fp32.

    Yields:
        The large weights themselves, by the names that they have in the traced module.
    """
    import torch

    from playground.runtimes.torch.deferred import exchanged, real

    weights = {f"model.{name}": each for name, each in model.named_parameters(remove_duplicate=False)}

    def place(weight: Any) -> Any:
        return torch.empty(weight.shape) if weight.numel() > SMALL else real(weight.detach()).float()

    with exchanged(model, place):
        yield {name: weight.detach() for name, weight in weights.items() if weight.numel() > SMALL}


def _graph(model: Any, weights: Mapping[str, Any], positions: int) -> Graph:
    """The exporter's graph made small, its large weights left where they are."""
    from onnx_ir.passes import common
    from onnxscript import optimizer

    from playground.export.recipes import by_position
    from playground.export.recipes.experts import by_turns
    from playground.export.recipes.projections import take_apart

    # What is made of large weights waits until they are read, one by one.
    optimizer.optimize_ir(model, should_fold=lambda node: _folds(node, weights))
    for each in (common.IdentityEliminationPass(), common.ClearMetadataAndDocStringPass()):
        each(model)
    found = graph_of(model, weights)
    by_turns(found)
    scaled = by_position.lift(found, positions)
    take_apart(found)
    by_position.put(found, scaled)
    _read_tokens_as_given(found)
    _norm_where_heads_lie(found.model.graph)
    _gather_last(found)
    _name_axes(found.model.graph)
    return found


def _folds(node: Any, weights: Mapping[str, Any]) -> bool | None:
    """Whether what a node makes of constants is computed now; None: where they are few numbers."""
    if _reads(node, weights):
        return False
    return True if node.op_type in _OTHER_SHAPE else None


def _reads(node: Any, weights: Mapping[str, Any]) -> bool:
    return any(each is not None and each.name in weights for each in node.inputs)


def _read_tokens_as_given(graph: Graph) -> None:
    """Look tokens up as they are given where a network gives them the shape first that they have: one text's row.

    Only a lookup of the input itself is known for the embedding, which is rounded.
    """
    constants = {each.name: each for each in graph.model.graph.initializer}
    for node in [node for node in graph.model.graph.node if node.op_type == "Reshape" and node.input[0] == GIVEN[0]]:
        shape = constants.get(node.input[1])
        if shape is None or graph.array(shape).tolist() != [1, -1]:
            continue
        for reader in graph.model.graph.node:
            for place, name in enumerate(reader.input):
                if name == node.output[0]:
                    reader.input[place] = node.input[0]
        graph.model.graph.node.remove(node)


def _norm_where_heads_lie(graph: Any) -> None:
    """Norm heads as they lie in a row where a network turns axes before the norm and back behind it.

    A norm over the last axis gives the same, and the kernels read rows.
    """
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for norm in [node for node in graph.node if node.op_type == "SimplifiedLayerNormalization"]:
        before, behind = makers.get(norm.input[0]), readers.get(norm.output[0], [])
        if before is None or len(behind) != 1 or len(readers[norm.input[0]]) != 1:
            continue
        first, last = _order(before), _order(behind[0])
        if first is None or last is None or [first[axis] for axis in last] != sorted(first) or first[-1] != max(first):
            continue
        norm.input[0], norm.output[0] = before.input[0], behind[0].output[0]
        for node in (before, behind[0]):
            graph.node.remove(node)


def _order(node: Any) -> list[int] | None:
    """How a node turns axes around; None where it does something else."""
    return next((list(each.ints) for each in node.attribute if each.name == "perm"), None)


def _gather_last(graph: Graph) -> None:
    """Pick the last token's row by the operator that other builders use, so that other rows can be asked for.

    ``any_rows`` and the kernels know it.
    """
    from onnx import TensorProto, helper

    nodes = graph.model.graph.node
    constants = {each.name: each for each in graph.model.graph.initializer}
    for place, node in enumerate(nodes):
        if node.op_type != "Slice" or not all(name in constants for name in node.input[1:]):
            continue
        start, end, axis, *step = (graph.array(constants[name]).reshape(-1).tolist() for name in node.input[1:])
        if (start, axis, *step) != ([-1], [1], *[[1]] * len(step)) or end[0] < END:
            continue
        last = f"{node.output[0]}.last"
        graph.model.graph.initializer.append(helper.make_tensor(last, TensorProto.INT64, [1], [-1]))
        gather = helper.make_node("Gather", [node.input[0], last], list(node.output), node.name, axis=1)
        nodes.remove(node)
        nodes.insert(place, gather)


def _grows(name: str) -> bool:
    """Whether what is kept under this name is longer with every token."""
    return name.endswith((".key", ".value"))


def _name_axes(graph: Any) -> None:
    """Call the axes that grow what other builders call them; tracing numbers them."""
    names = {"input_ids": {1: AXIS_NEW}, "attention_mask": {1: AXIS_TOTAL}, "position_ids": {1: AXIS_NEW}}
    for value in (*graph.input, *graph.output):
        part = value.name.partition(".")[0]
        grown = {"past_key_values": AXIS_PAST, "present": AXIS_TOTAL}.get(part, "") if _grows(value.name) else ""
        axes = names.get(part, {2: grown})
        for axis, name in axes.items():
            if name:
                value.type.tensor_type.shape.dim[axis].dim_param = name
    del graph.value_info[:]
