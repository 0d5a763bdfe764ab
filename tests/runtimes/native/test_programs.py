"""A graph run by the kernels gives what ONNX Runtime gives on the same graph, whatever way its tokens come in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from playground.config.settings import Settings
from playground.export import cache
from playground.export import kernels as own_kernels
from playground.export.quantization import graph
from playground.export.quantization.weights import Graph
from playground.kernels import building
from playground.records import LoadSpec, ModelSpec, Request, Variant
from playground.runtimes.generation.divergence import kl_divergence
from playground.runtimes.generation.prefix_cache import PrefixCache
from playground.runtimes.native.engine import KernelEngine
from playground.runtimes.native.lowering import read_program
from playground.runtimes.native.own_library import recorded
from playground.runtimes.native.program import NotForKernels
from playground.runtimes.onnx.runtime import open_engine
from playground.workers.pool import Pool
from tests.families import FAMILIES
from tests.families.bank import Bank
from tests.support import tiny
from tests.support.tiny_bank import TinyBank, make

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parallel,
    pytest.mark.xdist_group("programs"),
    pytest.mark.skipif(building.obstacle() is not None, reason=building.obstacle() or ""),
]

Array = NDArray[Any]
IDS = [(11 * place + 3) % tiny.VOCAB for place in range(500)]
BY_NAME = {family.name: family for family in FAMILIES}


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The tiny Llama as a fused graph in eight and in four bits, each folder with kernels."""
    model = tiny.write_model(tmp_path_factory.mktemp("model"))
    plain = tiny.write_fused(model, tmp_path_factory.mktemp("plain"))
    found = {}
    for bits in (8, 4):
        folder = tmp_path_factory.mktemp(f"bits{bits}")
        for path in plain.glob("*.json*"):
            (folder / path.name).write_bytes(path.read_bytes())
        graph.rewrite(Graph.read(plain / "model.onnx"), folder / "model.onnx", bits, lambda *_: None, sums=0)
        assert own_kernels.attach(folder, lambda *_: None) is None
        found[bits] = folder
    return found


def kernels(folder: Path, threads: int = 2, library: building.Built | None = None) -> KernelEngine:
    engine = open_engine(folder, threads, library=library or own_kernels.built(folder) or recorded(folder))
    assert isinstance(engine, KernelEngine)
    return engine


def by_onnxruntime(folder: Path) -> Any:
    """The same graph without the kernels, though they lie beside it."""
    assert (folder / building.LIBRARY).is_file()
    engine = open_engine(folder, 1)
    assert engine.name == "onnxruntime"
    return engine


def read(engine: Any, parts: list[int], steps: int = 0) -> list[Array]:
    """Logits behind a prompt of these parts, and behind each step after it."""
    engine.reset(sum(parts) + steps)
    start = 0
    for part in parts:
        row = engine.prefill(IDS[start : start + part])
        start += part
    rows = [row.copy()]
    for token in IDS[start : start + steps]:
        rows.append(engine.step(token).copy())
    return rows


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 300])
def test_the_logits_are_onnxruntimes_but_for_rounding(graphs: dict[int, Path], bits: int, length: int) -> None:
    ours, theirs = kernels(graphs[bits]), by_onnxruntime(graphs[bits])
    for one, other in zip(read(ours, [length], 4), read(theirs, [length], 4), strict=True):
        assert kl_divergence(other.astype(np.float64), one.astype(np.float64)) < 5e-3
        assert np.abs(one - other).max() < 0.15 * other.std()
    ours.close()


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("parts", [[1] * 200, [100, 100], [7] * 28 + [4], [128, 71, 1], [64, 64, 64, 8]])
def test_a_prompt_gives_the_same_bits_however_it_is_cut(graphs: dict[int, Path], bits: int, parts: list[int]) -> None:
    engine = kernels(graphs[bits])
    whole, cut = read(engine, [200], 3), read(engine, parts, 3)
    assert all(np.array_equal(one, other) for one, other in zip(whole, cut, strict=True))
    engine.close()


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("wanted", [2, 60, 299, 300])
def test_rows_of_many_positions_are_the_bits_of_one_after_the_other(
    graphs: dict[int, Path], bits: int, wanted: int
) -> None:
    engine = kernels(graphs[bits])
    expected = read(engine, [1], 300)
    engine.reset(301)
    rows = [row.copy() for row in engine.rows(IDS[:300], wanted)]
    assert all(np.array_equal(row, other) for row, other in zip(rows, expected[300 - wanted :], strict=False))
    assert len(rows) == wanted and np.array_equal(engine.step(IDS[300]), expected[300])
    engine.rewind(280, 700)  # another cache, for both
    rows = [row.copy() for row in engine.rows(IDS[280:300], 5)]
    assert all(np.array_equal(row, other) for row, other in zip(rows, expected[295:300], strict=True))
    engine.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_no_bit(graphs: dict[int, Path], threads: int) -> None:
    one, other = kernels(graphs[8]), kernels(graphs[8], threads)
    for first, second in zip(read(one, [150], 6), read(other, [150], 6), strict=True):
        assert np.array_equal(first, second)
    one.close()
    other.close()


def test_a_cache_that_grows_or_goes_back_holds_what_it_held(graphs: dict[int, Path]) -> None:
    engine = kernels(graphs[8])
    expected = read(engine, [400])[0]
    engine.reset(250)
    engine.prefill(IDS[:250])
    assert engine.rewind(210, 400)
    assert np.array_equal(engine.prefill(IDS[210:400]), expected)
    engine.rewind(100, 400)
    engine.prefill(IDS[300:380])
    engine.rewind(100, 400)
    assert np.array_equal(engine.prefill(IDS[100:400]), expected)
    engine.close()


def test_an_answer_read_again_in_company_is_bit_for_bit_what_it_was_alone(graphs: dict[int, Path]) -> None:
    """So an answer that goes on is read again at a prompt's speed, and as if it had not been cut."""
    engine = kernels(graphs[8])
    assert engine.alike_in_parts
    written = read(engine, [130], 70)[-1]
    cache = PrefixCache(engine)
    assert cache.begin(IDS[:130], 300, False, IDS[130:200]) == 0
    cache.prefill(IDS[:130])
    assert np.array_equal(cache.prefill(IDS[130:200]), written)
    assert cache.begin(IDS[:130], 600, True, IDS[130:201]) == 200, "all but the last one, which was not read yet"
    engine.close()


def test_what_does_not_fit_and_what_is_no_token_is_an_error_and_not_a_crash(graphs: dict[int, Path]) -> None:
    engine = kernels(graphs[8])
    engine.reset(tiny.CONTEXT + 1000)
    with pytest.raises(RuntimeError, match="no room"):
        engine.prefill([1] * (tiny.CONTEXT + 1))
    engine.reset(8)
    for wrong in ([tiny.VOCAB], [-1], []):
        with pytest.raises(RuntimeError):
            engine.prefill(wrong)
    assert np.isfinite(engine.prefill([1, 2, 3])).all()
    engine.close()
    with pytest.raises(RuntimeError):
        engine.step(1)


@pytest.mark.parametrize("name", ["mistral", "gemma-3", "qwen-2", "qwen-3", "phi-3", "granite", "llama-3.2"])
def test_windows_norms_biases_partial_angles_and_multipliers_are_onnxruntimes(name: str, bank: Bank) -> None:
    """Within what rounding of activations does; a window that is one position off gives ten times as much."""
    artifact = bank.artifact(BY_NAME[name], "int8")
    assert artifact.engine.startswith("kernels"), artifact.engine_note
    folder = Path(artifact.path)
    ours, theirs = kernels(folder), by_onnxruntime(folder)
    rows = zip(read(ours, [128, 128], 200), read(theirs, [128, 128], 200), strict=True)
    found = [kl_divergence(other.astype(np.float64), one.astype(np.float64)) for one, other in rows]
    assert np.mean(found) < 3e-3
    ours.close()


def test_a_graph_that_gives_all_positions_logits_is_asked_for_the_last_ones(
    graphs: dict[int, Path], tmp_path: Path
) -> None:
    model = onnx.load(graphs[8] / "model.onnx")
    last = next(node for node in model.graph.node if node.output[0] == "logits")
    names = {node.output[0]: node for node in model.graph.node}
    pruned = [names[last.input[0]]]
    while pruned[-1].op_type != "Gather":
        pruned.append(names[pruned[-1].input[0]])
    last.input[0] = pruned[-1].input[0]
    for node in pruned:
        model.graph.node.remove(node)
    onnx.save(model, tmp_path / "model.onnx")
    ours, expected = kernels(tmp_path, library=own_kernels.built(graphs[8])), kernels(graphs[8])
    assert np.array_equal(read(ours, [90], 2)[-1], read(expected, [90], 2)[-1])
    ours.close()
    expected.close()


# -- what is refused -------------------------------------------------------------------------------------------------


def node_of(model: Any, kind: str) -> Any:
    return next(node for node in model.graph.node if node.op_type == kind)


def tensor_of(model: Any, name: str) -> Any:
    return next(each for each in model.graph.initializer if each.name == name)


def attribute(node: Any, name: str, value: Any) -> None:
    for each in [each for each in node.attribute if each.name == name]:
        node.attribute.remove(each)
    node.attribute.append(helper.make_attribute(name, value))


def unknown_operator(model: Any) -> None:
    node_of(model, "Sigmoid").op_type = "Mish"


def capped_below_nothing(model: Any) -> None:
    attribute(node_of(model, "GroupQueryAttention"), "softcap", -30.0)


def attribute_of_tomorrow(model: Any) -> None:
    attribute(node_of(model, "GroupQueryAttention"), "sinks", 1)


def other_blocks(model: Any) -> None:
    attribute(node_of(model, "MatMulNBits"), "block_size", 64)


def columns_that_are_not_there(model: Any) -> None:
    attribute(node_of(model, "MatMulNBits"), "K", 32)


def heads_that_are_not_there(model: Any) -> None:
    attribute(node_of(model, "GroupQueryAttention"), "num_heads", 64)


def no_heads(model: Any) -> None:
    attribute(node_of(model, "GroupQueryAttention"), "kv_num_heads", 0)


def a_norm_of_another_width(model: Any) -> None:
    weight = tensor_of(model, node_of(model, "SkipSimplifiedLayerNormalization").input[2])
    weight.CopyFrom(numpy_helper.from_array(np.ones(48, np.float32), weight.name))


def weights_beyond_their_file(model: Any) -> None:
    weight = tensor_of(model, node_of(model, "MatMulNBits").input[1])
    for entry in weight.external_data:
        if entry.key == "offset":
            entry.value = str(10**9)


def weights_in_another_folder(model: Any) -> None:
    weight = tensor_of(model, node_of(model, "MatMulNBits").input[1])
    for entry in weight.external_data:
        if entry.key == "location":
            entry.value = "../model.onnx.data"


def half_the_scales(model: Any) -> None:
    scales = tensor_of(model, node_of(model, "MatMulNBits").input[2])
    scales.dims[0] //= 2


def a_mask_of_its_own(model: Any) -> None:
    node = node_of(model, "GroupQueryAttention")
    while len(node.input) < 11:
        node.input.append("")
    node.input[10] = node_of(model, "MatMulNBits").output[0]


@pytest.mark.parametrize(
    "break_it",
    [
        unknown_operator,
        capped_below_nothing,
        attribute_of_tomorrow,
        other_blocks,
        columns_that_are_not_there,
        heads_that_are_not_there,
        no_heads,
        a_norm_of_another_width,
        weights_beyond_their_file,
        weights_in_another_folder,
        half_the_scales,
        a_mask_of_its_own,
    ],
)
def test_a_graph_with_something_unknown_or_untrue_is_left_to_onnxruntime(
    break_it: Callable[[Any], None], graphs: dict[int, Path], tmp_path: Path
) -> None:
    model = onnx.load(graphs[8] / "model.onnx", load_external_data=False)
    break_it(model)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "model.onnx.data").write_bytes((graphs[8] / "model.onnx.data").read_bytes())
    why = own_kernels.attach(tmp_path, lambda *_: None)
    assert why is not None and why.startswith("the graph ")
    assert not (tmp_path / building.LIBRARY).exists()


def test_bytes_that_are_no_graph_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\xff" * 400)
    with pytest.raises(NotForKernels, match="no ONNX model"):
        read_program(tmp_path / "model.onnx")


# -- the whole way ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tiny_bank: TinyBank) -> Path:
    return tiny_bank.source


@pytest.fixture
def fresh_identity() -> Any:
    building.identity.cache_clear()
    yield
    building.identity.cache_clear()


def test_an_export_says_what_computes_it_and_was_compared_by_it(source: Path, tmp_path: Path) -> None:
    artifact = make(source, tmp_path, "int8")
    assert artifact.engine == f"kernels {building.level()}"
    assert artifact.engine_note == ""
    assert artifact.fidelity is not None and artifact.fidelity.verdict in ("faithful", "lossy")
    folder = Path(artifact.path)
    assert open_engine(folder, 1, library=recorded(folder)).name == artifact.engine
    plain = make(source, tmp_path, "fp32")
    assert plain.engine == "onnxruntime"
    assert plain.engine_note.startswith("the graph has")


@pytest.mark.parametrize("way", ["off", "no luck", "wrong attention", "wrong and untried"])
def test_where_the_kernels_cannot_or_must_not_be_used_onnxruntime_is_and_the_artifact_says_why(
    way: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_identity: None
) -> None:
    if way == "off":
        monkeypatch.setenv(building.OFF, "off")
        why = "PLAYGROUND_KERNELS is off"
    elif way == "no luck":
        monkeypatch.setattr(building, "compiler", lambda: ("/bin/false",))
        why = "false failed"
    else:
        import shutil

        wrong = tmp_path / "wrong"
        shutil.copytree(building.SOURCE, wrong)
        text = (wrong / "rows.h").read_text(encoding="utf-8")
        assert "* cosine[i] - x[i + half_] * sine[i]" in text
        text = text.replace("* cosine[i] - x[i + half_] * sine[i]", "* cosine[i] + x[i + half_] * sine[i]")
        (wrong / "rows.h").write_text(text, encoding="utf-8")
        monkeypatch.setattr(building, "SOURCE", wrong)
        why = "the trial failed (exit code 1: error: ROPE "
        if way == "wrong and untried":
            tried, run = "playground.kernels.trial", building._run
            monkeypatch.setattr(
                building, "_run", lambda command, *more: "" if tried in command else run(command, *more)
            )
            why = "rejected, "
    artifact = make(source, tmp_path / "home", "int8")
    assert artifact.engine == "onnxruntime"
    assert artifact.engine_note.startswith(why)
    assert artifact.fallbacks == ()
    assert artifact.fidelity is not None and artifact.fidelity.verdict in ("faithful", "lossy")
    assert not (Path(artifact.path) / building.LIBRARY).exists()


def test_artifacts_with_and_without_kernels_lie_apart(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_identity: None
) -> None:
    spec = ModelSpec("tiny", "Tiny", f"path:{source}", "", "onnx", "int8", tiny.CONTEXT, "chat")
    variant = Variant("tiny", "onnx", "int8")
    one = cache.artifact_folder(tmp_path, spec, variant, "0")
    monkeypatch.setenv(building.OFF, "off")
    building.identity.cache_clear()
    assert cache.artifact_folder(tmp_path, spec, variant, "0") != one


def test_a_worker_answers_by_the_kernels_and_loads_no_onnxruntime(
    source: Path, tiny_bank: TinyBank, tmp_path: Path, settings: Settings
) -> None:
    artifact = make(source, tiny_bank.home(tmp_path / "home", "int8"), "int8")
    spec = ModelSpec("tiny", "Tiny", f"path:{source}", "", "onnx", "int8", tiny.CONTEXT, "chat")
    pool = Pool(settings)
    try:
        *_, last = pool.generate(LoadSpec(spec, artifact, 2), Request("the fox", max_new_tokens=8), lambda: False)
        assert last.run is not None and last.run.error is None
        assert last.run.engine == artifact.engine
        (loaded,) = pool.loaded()
        mapped = Path(f"/proc/{loaded.pid}/maps").read_text(encoding="utf-8")
        assert building.LIBRARY in mapped
        assert "onnxruntime" not in mapped
    finally:
        pool.close()


def test_a_setting_keeps_keys_and_values_in_eight_bits_and_every_answer_says_what_that_costs(
    source: Path, tiny_bank: TinyBank, tmp_path: Path, make_settings: Callable[..., Settings]
) -> None:
    artifact = make(source, tiny_bank.home(tmp_path / "home", "int8"), "int8")
    spec = ModelSpec("tiny", "Tiny", f"path:{source}", "", "onnx", "int8", tiny.CONTEXT, "chat")
    load, request = LoadSpec(spec, artifact, 2), Request("the fox", max_new_tokens=8)
    taken = {}
    for bits in (16, 8):
        with Pool(make_settings(PLAYGROUND_KV_BITS=bits)) as pool:
            *_, last = pool.generate(load, request, lambda: False)
        assert last.run is not None and last.run.error is None
        notes = [str(each) for each in last.run.warnings if "8 bits" in str(each)]
        taken[bits] = last.run.timings.cache_mb_per_1000
        assert len(notes) == (bits == 8)
        assert all("kept in 8 bits instead of 16" in note and "nats (mean KL over" in note for note in notes)
    assert taken[8] == pytest.approx(0.5625 * taken[16])


def test_a_library_that_cannot_be_loaded_names_the_model_and_the_folder_to_delete(
    source: Path, tiny_bank: TinyBank, tmp_path: Path, settings: Settings
) -> None:
    artifact = make(source, tiny_bank.home(tmp_path / "home", "int8"), "int8")
    library = Path(artifact.path) / building.LIBRARY
    library.unlink()  # this process has it mapped
    library.write_bytes(b"not a library")
    spec = ModelSpec("tiny", "Tiny", f"path:{source}", "", "onnx", "int8", tiny.CONTEXT, "chat")
    pool = Pool(settings)
    try:
        *_, last = pool.generate(LoadSpec(spec, artifact, 1), Request("the fox", max_new_tokens=2), lambda: False)
        assert last.run is not None
        assert "tiny@onnx-int8" in (last.run.error or "")
        assert f"Delete {artifact.path}" in (last.run.error or "")
    finally:
        pool.close()
