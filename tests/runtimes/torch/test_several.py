"""A layer's experts wait in their files and come one at a time: whatever puts them together, and whoever computes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from playground.runtimes.torch.deferred import Deferred, Stored, real, waiting  # noqa: E402
from playground.runtimes.torch.several import Below, apart  # noqa: E402

EXPERTS, ROWS, COLUMNS = 5, 6, 8


class Watched(Stored):
    """Rows that tell what was asked for."""

    asked: list[tuple[int, ...]] = []  # noqa: RUF012 - of all of them

    def part(self, start: int, stop: int) -> Any:
        found = super().part(start, stop)
        self.asked.append(tuple(found.shape))
        return found

    def one(self, place: int) -> Stored:
        return Watched(self.tensor[place])


@pytest.fixture
def asked() -> Iterator[list[tuple[int, ...]]]:
    Watched.asked.clear()
    yield Watched.asked


def matrix(*shape: int) -> Any:
    return torch.randn(*shape).bfloat16()


def layer() -> tuple[Any, Any, Any]:
    """Gates, other halves, and both in one weight as transformers makes it of a file that has each expert alone."""
    gates, ups = ([matrix(ROWS, COLUMNS) for _ in range(EXPERTS)] for _ in range(2))
    stacked = [torch.stack([waiting(Watched(each)) for each in part]) for part in (gates, ups)]
    return gates, ups, torch.cat(stacked, dim=1)


def test_an_expert_is_made_without_the_others(asked: list[tuple[int, ...]]) -> None:
    gates, ups, both = layer()
    assert isinstance(both, Deferred)
    assert both.shape == (EXPERTS, 2 * ROWS, COLUMNS)
    one = both[torch.tensor(3)]
    assert isinstance(one, Deferred)
    assert asked == []
    assert torch.equal(real(one), torch.cat([gates[3], ups[3]]).float())
    assert asked == [(ROWS, COLUMNS)] * 2
    assert torch.equal(real(both), torch.cat([torch.stack(gates), torch.stack(ups)], 1).float())
    assert torch.equal(real(both[-1]), torch.cat([gates[-1], ups[-1]]).float())


@pytest.mark.parametrize(
    "laid",
    [
        lambda both: both[:, ROWS:, :],
        lambda both: torch.stack([both[:, :ROWS, :], both[:, ROWS:, :]], dim=2).reshape_as(both),
        lambda both: torch.cat([both[:, :ROWS], both[:, ROWS:]], dim=-1),
        lambda both: both.transpose(1, 2).contiguous(),
        lambda both: both.transpose(-1, -2),
    ],
    ids=["a half", "rows by turns", "beside each other", "turned and laid out", "turned"],
)
def test_what_changes_each_expert_alike_is_done_to_the_one_that_is_asked_for(
    laid: Any, asked: list[tuple[int, ...]]
) -> None:
    _, _, both = layer()
    found = laid(both)
    assert isinstance(found, Deferred)
    expected = laid(real(both))
    asked.clear()
    for place in range(EXPERTS):
        assert torch.equal(found.rows.part(place, place + 1), expected[place : place + 1])
        assert torch.equal(real(found[place]), expected[place])
    assert set(asked) == {(ROWS, COLUMNS)}
    assert torch.equal(real(found), expected)


@pytest.mark.parametrize(
    "mixed",
    [
        lambda both: both.transpose(0, 1),
        lambda both: torch.cat([both, both], dim=0),
        lambda both: both.reshape(2, -1, COLUMNS),
        lambda both: both[1:],
    ],
    ids=["turned", "behind each other", "other experts", "some"],
)
def test_what_changes_which_expert_is_which_is_not_taken_for_that(mixed: Any) -> None:
    _, _, both = (None, None, torch.stack([waiting(Watched(matrix(ROWS, COLUMNS))) for _ in range(4)]))
    found = mixed(both)
    assert torch.equal(real(found), mixed(real(both)))
    assert torch.equal(real(found[0]), mixed(real(both))[0])


def test_products_with_several_experts_are_torchs_own_bit_for_bit(asked: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    both = torch.stack([waiting(Watched(matrix(48, 64))) for _ in range(EXPERTS)])
    source, ends = torch.randn(11, 64), torch.tensor([4, 4, 5, 11, 11], dtype=torch.int32)
    weights = real(both)
    asked.clear()
    expected = torch.nn.functional.grouped_mm(source, weights.transpose(-2, -1), offs=ends)
    found = torch.nn.functional.grouped_mm(source, both.transpose(-2, -1), offs=ends)
    assert not isinstance(found, Deferred)
    assert torch.equal(found, expected)
    assert asked == [(48, 64)] * 3  # no token goes to the others


def test_what_is_taken_apart_again_are_the_files_own_tensors() -> None:
    gates, ups, both = layer()
    found = apart(both.rows)
    assert found is not None
    assert (found.shape, found.dtype) == (both.shape, torch.bfloat16)
    halves = torch.chunk(torch.nn.Parameter(found, requires_grad=False).detach(), 2, dim=1)
    for half, own in zip(halves, (gates, ups), strict=True):
        experts = [each.squeeze(0) for each in torch.chunk(half.contiguous(), EXPERTS, dim=0)]
        assert [each.data_ptr() for each in experts] == [each.data_ptr() for each in own]


def test_what_is_done_to_them_otherwise_is_done_to_all() -> None:
    gates, ups, both = layer()
    found = apart(both.rows)
    assert torch.equal(found.transpose(1, 2), torch.cat([torch.stack(gates), torch.stack(ups)], 1).transpose(1, 2))


def test_what_is_not_as_the_file_has_it_is_not_taken_apart() -> None:
    _, _, both = layer()
    assert apart(both[:, :ROWS].rows) is None
    assert apart(both.transpose(1, 2).rows) is None
    assert apart(None) is None


def test_rows_across_matrices_below_each_other_are_found() -> None:
    parts = [matrix(rows, COLUMNS) for rows in (3, 1, 4)]
    below = Below(tuple(Stored(each) for each in parts))
    whole = torch.cat(parts).float()
    assert below.shape == whole.shape
    for start in range(8):
        for stop in range(start + 1, 9):
            assert torch.equal(below.part(start, stop), whole[start:stop])
