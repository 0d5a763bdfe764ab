"""Networks whose weights stay in their files: the same logits, the same tokens, the same files again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.families.builders import write
from tests.families.table import FAMILIES

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from playground.runtimes.torch import deferred  # noqa: E402
from playground.runtimes.torch.deferred import Deferred, Stored, as_stored, real  # noqa: E402
from playground.runtimes.torch.networks import load_network  # noqa: E402
from playground.runtimes.torch.several import apart  # noqa: E402

pytestmark = [pytest.mark.parallel]


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network of this family, its weights in bf16."""
    from safetensors.torch import load_file, save_file

    folder = write(request.param, tmp_path_factory.mktemp("stored"))
    for path in folder.glob("*.safetensors"):
        narrow = {name: weight.bfloat16() for name, weight in load_file(path).items()}
        save_file(narrow, path, {"format": "pt"})
    return folder


def asked(network: Any) -> tuple[Any, Any]:
    """Logits of a forward pass, and what ``generate`` goes on with."""
    ids = torch.tensor([[5, 9, 17, 30, 8, 21]])
    given = {"input_ids": ids} | ({"decoder_input_ids": ids[:, :3]} if network.has_encoder else {})
    with torch.no_grad():
        logits = network.model(**given).logits
        return logits, network.model.generate(ids, max_new_tokens=6, min_new_tokens=6, do_sample=False)


def test_logits_and_tokens_are_those_of_weights_in_memory_bit_for_bit(folder: Path) -> None:
    logits, tokens = asked(load_network(folder))
    later_logits, later_tokens = asked(load_network(folder, deferred=True))
    assert torch.equal(logits, later_logits)
    assert torch.equal(tokens, later_tokens)


def stored(weight: Any) -> Any:
    """A weight as its file has it; experts that it has apart, each as it is there."""
    return weight.rows.tensor if isinstance(weight.rows, Stored) else apart(weight.rows)


def test_every_weight_stays_in_its_file_in_its_own_type(folder: Path) -> None:
    model = load_network(folder, deferred=True).model
    weights = list(model.parameters())
    assert weights
    assert all(isinstance(weight.data, Deferred) for weight in weights)
    assert {weight.dtype for weight in weights} == {torch.float32}
    assert {stored(weight).dtype for weight in weights} == {torch.bfloat16}


def test_what_is_written_again_holds_the_same_weights_in_the_type_they_came_in(folder: Path, tmp_path: Path) -> None:
    network = load_network(folder, deferred=True)
    with as_stored(network.model):
        network.model.save_pretrained(tmp_path)
    assert all(isinstance(weight.data, Deferred) for weight in network.model.parameters())
    again = load_network(tmp_path, deferred=True).model
    assert {stored(weight).dtype for weight in again.parameters()} == {torch.bfloat16}
    before = load_network(folder).model.state_dict()
    after = load_network(tmp_path).model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Shapes of the weights that were made fp32, in order."""
    shapes: list[tuple[int, ...]] = []
    usual = deferred._real

    def told(value: Any) -> Any:
        if isinstance(value, Deferred):
            shapes.append(tuple(value.shape))
        return usual(value)

    monkeypatch.setattr(deferred, "_real", told)
    yield shapes


def weight(*shape: int) -> Deferred:
    stored = torch.randn(*shape).bfloat16()
    return Deferred(stored.float, torch.empty(shape, device="meta"), Stored(stored))


def test_of_a_table_only_the_rows_that_are_asked_for_are_made(made: list[tuple[int, ...]]) -> None:
    table = torch.nn.Parameter(weight(1000, 8), requires_grad=False)
    with torch.no_grad():
        rows = torch.nn.functional.embedding(torch.tensor([3, 999]), table)
    assert not isinstance(rows, Deferred)
    assert torch.equal(rows, table.rows.tensor[[3, 999]].float())
    assert (1000, 8) not in made


def test_what_is_made_of_weights_alone_waits_too(made: list[tuple[int, ...]]) -> None:
    one, other = weight(4, 6), weight(2, 6)
    below = torch.cat([one, other]).T.reshape(3, 2, 6)
    assert isinstance(below, Deferred)
    assert made == []
    assert torch.equal(real(below), torch.cat([one.rows.tensor.float(), other.rows.tensor.float()]).T.reshape(3, 2, 6))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32], ids=str)
def test_what_is_written_into_a_weight_is_there_each_time_and_not_in_the_file(kind: Any) -> None:
    stored = torch.ones(2, 3).to(kind)
    one = Deferred(stored.float, torch.empty((2, 3), device="meta"), Stored(stored))
    one.mul_(3).add_(1)
    assert torch.equal(real(one), torch.full((2, 3), 4.0))
    assert torch.equal(real(one), torch.full((2, 3), 4.0))
    assert torch.equal(stored, torch.ones(2, 3).to(kind))


def test_a_weight_can_be_put_into_other_numbers() -> None:
    table, one = torch.zeros(2, 3), weight(1, 3)
    table[torch.tensor([1])] = one
    assert torch.equal(table[1:], one.rows.tensor.float())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_row_is_multiplied_by_parts_of_a_weight_and_gives_the_same(
    bias: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = torch.nn.Linear(512, 1300, bias=bias).bfloat16().float()
    later = torch.nn.Linear(512, 1300, bias=bias)
    later.load_state_dict(plain.state_dict())
    later.weight = deferred._deferred(torch.nn.Parameter(plain.weight.detach().bfloat16()))
    parts: list[int] = []
    widened = deferred.SCRATCH.widened
    monkeypatch.setattr(deferred, "SLAB", 512 * 512)
    monkeypatch.setattr(deferred.SCRATCH, "widened", lambda part: parts.append(len(part)) or widened(part))
    source = torch.randn(1, rows, 512)
    with torch.no_grad():
        assert torch.equal(later(source), plain(source))
    assert parts == ([512, 512, 276] if rows == 1 else [1300])
