"""A layer's experts, of which one at a time is in memory: weights with three axes, as their files hold them.

Files keep experts apart or together, networks together. What puts them together works expert by expert (one behind the
other, gate above the other half, rows in another order), so it can be done for the one that is asked for. The module
knows rows of weights and torch's operators; it does not know when they are asked for (``deferred.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.utils import _pytree as pytree


class Rows(Protocol):
    """The rows of a weight as its file holds it, in fp32."""

    @property
    def shape(self) -> torch.Size: ...

    def part(self, start: int, stop: int) -> torch.Tensor:
        """Rows from ``start`` to before ``stop``; of a weight with three axes, matrices."""

    def at(self, ids: torch.Tensor) -> torch.Tensor:
        """The rows of these numbers, ``[*ids, columns]``."""

    def one(self, place: int) -> Rows:
        """Of a weight with three axes the matrix at this place of the first one: an expert."""


def whole(rows: Rows) -> torch.Tensor:
    """All numbers; those that may stay in memory are asked for by their own name."""
    kept: Callable[[], torch.Tensor] | None = getattr(rows, "whole", None)
    return kept() if kept else rows.part(0, rows.shape[0])


@dataclass(frozen=True)
class Experts:
    """Matrices that lie apart, one behind the other along a new first axis."""

    matrices: tuple[Rows, ...]

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.matrices), *self.matrices[0].shape))

    def part(self, start: int, stop: int) -> torch.Tensor:
        found = self.matrices[start:stop]
        return whole(found[0])[None] if len(found) == 1 else torch.stack([whole(each) for each in found])

    def at(self, ids: torch.Tensor) -> torch.Tensor:
        return self.part(0, len(self.matrices))[ids]

    def one(self, place: int) -> Rows:
        return self.matrices[place]


@dataclass(frozen=True)
class Applied:
    """What an operator makes of some weights' experts: of some the same as of all.

    Attributes:
        make: The operator, over as many experts of ``sources`` as it is given.
        shape: Of what it makes of all.
        below: Whether that is each expert's matrices of all sources, one below the other.
    """

    make: Callable[..., torch.Tensor]
    sources: tuple[Rows, ...]
    shape: torch.Size
    below: bool = False

    def part(self, start: int, stop: int) -> torch.Tensor:
        return self.make(*(each.part(start, stop) for each in self.sources))

    def at(self, ids: torch.Tensor) -> torch.Tensor:
        return self.part(0, self.shape[0])[ids]

    def one(self, place: int) -> Rows:
        return Below(tuple(each.one(place) for each in self.sources)) if self.below else OneOf(self, place)


@dataclass(frozen=True)
class Below:
    """Matrices one below the other."""

    matrices: tuple[Rows, ...]

    @property
    def shape(self) -> torch.Size:
        return torch.Size((sum(each.shape[0] for each in self.matrices), *self.matrices[0].shape[1:]))

    def part(self, start: int, stop: int) -> torch.Tensor:
        found = []
        for each in self.matrices:
            count = each.shape[0]
            if start <= 0 and stop >= count:
                found.append(whole(each))
            elif start < count and stop > 0:
                found.append(each.part(max(0, start), min(stop, count)))
            start, stop = start - count, stop - count
        return found[0] if len(found) == 1 else torch.cat(found)

    def at(self, ids: torch.Tensor) -> torch.Tensor:
        return self.part(0, self.shape[0])[ids]

    def one(self, place: int) -> Rows:
        return OneOf(self, place)


@dataclass(frozen=True)
class OneOf:
    """One expert of several that are made together."""

    several: Rows
    place: int

    @property
    def shape(self) -> torch.Size:
        return self.several.shape[1:]

    def part(self, start: int, stop: int) -> torch.Tensor:
        return self.several.part(self.place, self.place + 1)[0, start:stop]

    def at(self, ids: torch.Tensor) -> torch.Tensor:
        return self.part(0, self.shape[0])[ids]

    def one(self, place: int) -> Rows:
        return OneOf(self, place)


BY_EXPERT = ("aten::_grouped_mm", "transformers::grouped_mm_fallback")
"""Names of products of several matrices with some rows each."""


def by_expert(source: torch.Tensor, rows: Rows, ends: torch.Tensor) -> torch.Tensor:
    """The products of experts with their tokens, one expert after the other, as torch computes them on processors.

    Args:
        source: ``[tokens, inputs]``, those of one expert behind those of the other.
        rows: Of the weights, ``[experts, outputs, inputs]``.
        ends: Where each expert's tokens end, ``[experts]``.
    """
    found = source.new_zeros(len(source), rows.shape[1])
    start = 0
    for place, end in enumerate(ends.tolist()):
        if end > start:
            torch.mm(source[start:end], whole(rows.one(place)).t(), out=found[start:end])
        start = end
    return found


_AXES: dict[Any, int] = {
    torch.ops.aten.slice.Tensor: 0,
    torch.ops.aten.stack.default: 1,
    torch.ops.aten.cat.default: 0,
    torch.ops.aten.unsqueeze.default: 1,
}
"""Operators that change one axis, their second argument, 0 where it is left out; and how many axes they add."""

_SIZED = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default, torch.ops.aten.reshape.default)


def turns(func: Any, args: Any) -> bool:
    """Whether ``func`` turns each of several matrices around."""
    return func is torch.ops.aten.transpose.int and {axis % args[0].dim() for axis in args[1:3]} == {1, 2}


def along(func: Any, args: Any, kwargs: Any, sources: Sequence[Any], shape: torch.Size) -> Rows | None:
    """The rows of what an operator makes of weights, expert by expert; None where it is not known to work so.

    Args:
        sources: The tensors among its arguments, each with ``rows`` or None for them.
        shape: Of what it makes.
    """
    if not sources or any(each.rows is None for each in sources):
        return None
    rows = tuple(each.rows for each in sources)
    axis = _axis(func, args, kwargs, sources[0].dim())
    if func is torch.ops.aten.stack.default and axis == 0 and all(each.dim() == 2 for each in sources):
        return Experts(rows)
    if any(each.dim() < 3 for each in sources):
        return None
    if func is torch.ops.aten.clone.default:
        return rows[0]  # type: ignore[no-any-return]
    if func in _SIZED and shape[0] == sources[0].shape[0]:
        return Applied(lambda part: part.reshape(len(part), *shape[1:]), rows, shape)
    if not (turns(func, args) or axis > 0):
        return None
    places = {id(each): place for place, each in enumerate(sources)}

    def made(*parts: torch.Tensor) -> torch.Tensor:
        given, named = pytree.tree_map(
            lambda each: parts[places[id(each)]] if id(each) in places else each, (args, kwargs)
        )
        found: torch.Tensor = func(*given, **named)
        return found

    return Applied(made, rows, shape, below=func is torch.ops.aten.cat.default and axis == 1)


def _axis(func: Any, args: Any, kwargs: Any, dims: int) -> int:
    """Which axis an operator changes; -1 where it changes others, or it is not known."""
    if func not in _AXES:
        return -1
    found: int = kwargs.get("dim", args[1] if len(args) > 1 else 0)
    return found if found >= 0 else found + dims + _AXES[func]


class Apart(torch.Tensor):  # type: ignore[misc]
    """Experts as they are stored, which transformers takes apart again before it writes them down: what is written are
    the files' own tensors.

    Args:
        parts: Of each expert the matrices that stand below each other.
    """

    parts: list[list[torch.Tensor]]

    @staticmethod
    def __new__(cls, parts: list[list[torch.Tensor]]) -> Apart:
        size = len(parts), sum(len(each) for each in parts[0]), parts[0][0].shape[1]
        made: Apart = torch.Tensor._make_wrapper_subclass(
            cls, size, dtype=parts[0][0].dtype, device=torch.device("meta")
        )
        made.parts = parts
        return made

    def __repr__(self, **_: Any) -> str:
        return f"Apart({tuple(self.shape)}, {self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return cls(args[0].parts)
        if func is torch.ops.aten.split.Tensor:
            parts, size, axis = args[0].parts, args[1], args[2] if len(args) > 2 else 0
            if axis == 0:
                return [cls(parts[start : start + size]) for start in range(0, len(parts), size)]
            if axis == 1 and all(len(each) == size for expert in parts for each in expert):
                return [cls([[expert[place]] for expert in parts]) for place in range(len(parts[0]))]
        if func is torch.ops.aten.squeeze.dim and args[1] == 0 and len(args[0].parts) == len(args[0].parts[0]) == 1:
            return args[0].parts[0][0].detach()  # a tensor of its own in the same memory, as torch demands of a view
        return func(*pytree.tree_map(_together, args), **pytree.tree_map(_together, kwargs or {}))


def _together(value: Any) -> Any:
    return torch.stack([torch.cat(each) for each in value.parts]) if isinstance(value, Apart) else value


def apart(rows: Rows | None) -> Apart | None:
    """Experts as their file has them; None where it does not have them as they are."""
    parts = _parts(rows)
    return Apart(parts) if parts else None


def _parts(rows: Rows | None) -> list[list[torch.Tensor]]:
    if isinstance(rows, Experts):
        stored = [getattr(each, "tensor", None) for each in rows.matrices]
        return [] if any(each is None for each in stored) else [[each] for each in stored if each is not None]
    if not (isinstance(rows, Applied) and rows.below):
        return []
    found = [_parts(each) for each in rows.sources]
    return [[part for each in experts for part in each] for experts in zip(*found, strict=True)] if all(found) else []
