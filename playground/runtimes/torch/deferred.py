"""Weights that stay in their files until they are computed with: a network of any size, of which one matrix at a time
is in memory in fp32.

safetensors files are mapped, so a weight as it is stored costs no memory of the process. ``Deferred`` stands for the
same weight in fp32: what is made of deferred weights alone (a transposition, two of them one below the other) is
deferred as well, and what computes with anything else gets real numbers, which are forgotten behind it. The arithmetic
is torch's own, in the same order, so the results are those of the whole network in memory, bit for bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from playground.runtimes.torch.scratch import SCRATCH
from playground.runtimes.torch.several import BY_EXPERT, Rows, along, apart, by_expert, turns

Make = Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Stored:
    """The rows of a weight that is a tensor of floating point in a mapped file."""

    tensor: torch.Tensor

    @property
    def shape(self) -> torch.Size:
        return self.tensor.shape

    def part(self, start: int, stop: int) -> torch.Tensor:
        return SCRATCH.widened(self.tensor[start:stop])

    def at(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.embedding(self.tensor, ids).float()

    def one(self, place: int) -> Stored:
        return Stored(self.tensor[place])


class Deferred(torch.Tensor):  # type: ignore[misc]
    """A tensor whose numbers are made when they are asked for, each time anew.

    Args:
        make: Gives the numbers.
        like: Shape, strides and type of what it gives; its own numbers are not looked at.
        rows: The weight as its file holds it, where this is one in fp32 and nothing more.

    Attributes:
        turned: Of the transposition of such a weight, a matrix or several, that weight.
    """

    make: Make
    rows: Rows | None
    turned: Rows | None

    @staticmethod
    def __new__(cls, make: Make, like: torch.Tensor, rows: Rows | None = None) -> Deferred:
        made: Deferred = torch.Tensor._make_wrapper_subclass(
            cls, like.size(), strides=like.stride(), dtype=like.dtype, device=torch.device("cpu")
        )
        made.make, made.rows, made.turned = make, rows, None
        return made

    def __repr__(self, **_: Any) -> str:
        return f"Deferred({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten.detach.default:
            return cls(args[0].make, args[0], args[0].rows)
        tensors = [each for each in pytree.tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        if func is torch.ops.aten.embedding.default and isinstance(args[0], Deferred) and args[0].rows is not None:
            return args[0].rows.at(args[1])  # a few rows of a table that may be a third of the model
        if func is torch.ops.aten.select.int and args[1] == 0 and _is_several(args[0]):
            return waiting(args[0].rows.one(args[2] % args[0].shape[0]))
        if func._schema.name in BY_EXPERT and isinstance(args[1], Deferred) and args[1].turned is not None:
            return by_expert(args[0], args[1].turned, kwargs["offs"] if "offs" in kwargs else args[2])
        if func._schema.is_mutable and isinstance(args[0], Deferred):
            return args[0]._changed(func, pytree.tree_map(_real, args[1:]), pytree.tree_map(_real, kwargs))
        if all(isinstance(each, Deferred) for each in tensors):
            try:
                made = func(*pytree.tree_map(_empty, args), **pytree.tree_map(_empty, kwargs))
            except (RuntimeError, NotImplementedError):  # what it gives depends on the numbers
                made = None
            if isinstance(made, torch.Tensor) and made.is_meta:
                later = cls(lambda: func(*pytree.tree_map(_real, args), **pytree.tree_map(_real, kwargs)), made)
                later.rows = along(func, args, kwargs, tensors, made.shape)
                if func is torch.ops.aten.t.default or (_is_several(args[0]) and turns(func, args)):
                    later.turned = args[0].rows
                return later
        if func in _PRODUCTS and isinstance(args[-1], Deferred) and args[-1].turned is not None and not kwargs:
            *added, source, weight = args
            if (
                isinstance(source, torch.Tensor)
                and len(source) == 1
                and not any(isinstance(x, Deferred) for x in added)
            ):
                return _by_slabs(func, added, source, weight.turned)
        found = func(*pytree.tree_map(_real, args), **pytree.tree_map(_real, kwargs))
        # Several parts of one weight are looks into it, and whoever has them may write.
        return pytree.tree_map(_own, found) if isinstance(found, (tuple, list)) else found

    def _changed(self, func: Any, args: Any, kwargs: Any) -> Deferred:
        """Have ``func`` write into the numbers each time that they are made (RWKV scales its weights as it starts)."""
        before = self.make

        def make() -> torch.Tensor:
            numbers = before().clone()  # what is stored in fp32 is the file's own memory
            func(numbers, *args, **kwargs)
            return numbers

        self.make, self.rows = make, None
        return self


def _is_several(value: Any) -> bool:
    """Whether it is a weight of several matrices, of which one can be asked for."""
    return isinstance(value, Deferred) and value.dim() == 3 and value.rows is not None


_PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)

SLAB = 1 << 21
"""Numbers of a weight that are widened at once where one row is multiplied: 8 MB, which the caches hold until they are
read. The whole weight would go to memory and back, which takes twice as long."""


def _by_slabs(func: Any, added: list[torch.Tensor], source: torch.Tensor, rows: Rows) -> torch.Tensor:
    """The product of one row with a transposed weight, by some of its rows at a time: each result is a sum of its own.

    Args:
        func: With ``added``, ``source`` and a part of the weight as its arguments.
        added: What is added to the product, ``[outputs]``, if there is something.
        source: ``[1, inputs]``.
        rows: Of the weight, ``[outputs, inputs]``.
    """
    many = max(1, SLAB // rows.shape[1])
    found = [
        func(*(each[..., start : start + many] for each in added), source, rows.part(start, start + many).t())
        for start in range(0, rows.shape[0], many)
    ]
    return torch.cat(found, 1)


def _real(value: Any) -> Any:
    return value.make() if isinstance(value, Deferred) else value


def _own(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _empty(value: Any) -> Any:
    if not isinstance(value, Deferred):
        return value
    return torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device="meta")


def real(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers of a tensor, deferred or not."""
    made: torch.Tensor = _real(tensor)
    return made


def waiting(rows: Rows) -> Deferred:
    """The weight that a file has as these rows."""
    make = getattr(rows, "whole", None) or (lambda: rows.part(0, rows.shape[0]))
    return Deferred(make, torch.empty(rows.shape, dtype=torch.float32, device="meta"), rows)


def defer(model: torch.nn.Module) -> None:
    """Have the network compute in fp32 with weights that stay as they are stored.

    Args:
        model: Its parameters are as ``mapped`` left them; what is shared stays shared.
    """
    known: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None and weight.is_floating_point() and not isinstance(weight.data, Deferred):
                module._parameters[name] = known.setdefault(id(weight), _deferred(weight))


def _deferred(weight: torch.nn.Parameter) -> torch.nn.Parameter:
    stored = weight.detach()
    like = torch.empty_strided(stored.size(), stored.stride(), dtype=torch.float32, device="meta")
    return torch.nn.Parameter(Deferred(lambda: SCRATCH.widened(stored), like, Stored(stored)), requires_grad=False)


@contextlib.contextmanager
def exchanged(model: torch.nn.Module, other: Callable[[torch.nn.Parameter], torch.Tensor]) -> Iterator[None]:
    """In this block each weight of floating point is what ``other`` gives for it; what is shared stays shared."""
    kept = [(module, dict(module._parameters)) for module in model.modules()]
    known: dict[int, torch.nn.Parameter] = {}
    for module, weights in kept:
        for name, weight in weights.items():
            if weight is None or not weight.is_floating_point():
                continue
            if id(weight) not in known:
                known[id(weight)] = torch.nn.Parameter(other(weight), requires_grad=False)
            module._parameters[name] = known[id(weight)]
    try:
        yield
    finally:
        for module, weights in kept:
            module._parameters.update(weights)


def as_stored(model: torch.nn.Module) -> contextlib.AbstractContextManager[None]:
    """In this block the network's weights are as their files hold them, to be written down."""

    def stored(weight: torch.nn.Parameter) -> torch.Tensor:
        if not isinstance(weight, Deferred):
            return weight.detach()
        if isinstance(weight.rows, Stored):
            return weight.rows.tensor
        found = apart(weight.rows)
        return real(weight) if found is None else found

    return exchanged(model, stored)


@contextlib.contextmanager
def mapped() -> Iterator[None]:
    """In this block transformers leaves weights in their files, in the type that these have.

    Everything else is as ever: the network is made in the type that was asked for, weights get the names they have in
    it, and those that it holds otherwise than the file are put together.
    """
    from transformers import core_model_loading as loading

    usual, merge = loading._materialize_copy, loading.MergeModulelist.convert

    def as_it_is(tensor: Any, device: Any = None, dtype: Any = None) -> torch.Tensor:
        if isinstance(tensor, Deferred):
            return tensor
        part: torch.Tensor = tensor[...]
        return part if part.is_floating_point() else usual(part, device, dtype)

    def merged(self: Any, input_dict: dict[str, Any], *given: Any, **named: Any) -> Any:
        found = {name: _all_waiting(tensors) for name, tensors in input_dict.items()}
        return merge(self, found, *given, **named)

    loading._materialize_copy = as_it_is
    loading.MergeModulelist.convert = merged
    try:
        yield
    finally:
        loading._materialize_copy = usual
        loading.MergeModulelist.convert = merge


def _all_waiting(tensors: Any) -> Any:
    """Experts' matrices that are to be put together, which wait in their files for that."""
    if not isinstance(tensors, list) or not all(each.dim() == 2 and each.is_floating_point() for each in tensors):
        return tensors
    return [each if isinstance(each, Deferred) else waiting(Stored(each)) for each in tensors]
