"""Memory for weights that are widened: the same numbers, the same place, and nobody's numbers are written over."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
scratch = pytest.importorskip("playground.runtimes.torch.scratch")

SHAPE = 1024, scratch.LARGE // 1024


def stored(seed: int, *shape: int) -> Any:
    return torch.randn(shape or SHAPE, generator=torch.Generator().manual_seed(seed)).bfloat16()


def test_it_is_the_same_numbers_in_the_same_place() -> None:
    room, places = scratch.Scratch(), set()
    for seed in range(3):
        weight = stored(seed)
        found = room.widened(weight)
        assert torch.equal(found, weight.float())
        assert found.is_contiguous()
        places.add(found.data_ptr())
        del found
    assert len(places) == 1


@pytest.mark.parametrize("view", [lambda each: each, lambda each: each.T[:5], lambda each: each.numpy()])
def test_what_somebody_holds_is_not_written_over(view: Any) -> None:
    room = scratch.Scratch()
    first = stored(1)
    held = view(room.widened(first))
    second = room.widened(stored(2))
    assert torch.equal(torch.as_tensor(held), torch.as_tensor(view(first.float())))
    assert torch.equal(second, stored(2).float())


def test_a_larger_one_gets_more_room() -> None:
    room = scratch.Scratch()
    for rows in (1024, 2048, 512, 1024):
        weight = stored(rows, rows, 1024)
        assert torch.equal(room.widened(weight), weight.float())


@pytest.mark.parametrize("weight", [stored(1, 8, 8), stored(1).T, stored(1).float()])
def test_others_are_widened_as_ever(weight: Any) -> None:
    room = scratch.Scratch()
    found = room.widened(weight)
    assert torch.equal(found, weight.float())
    assert found.stride() == weight.float().stride()
    assert (found.data_ptr() == weight.data_ptr()) == (weight.dtype is torch.float32)
