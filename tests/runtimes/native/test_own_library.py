"""Native code of a stranger never runs: not by its name, not by what a graph or a document says, on no way in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from playground.errors import ExportError, PlaygroundError, RunError
from playground.export import cache, kernels, pipeline
from playground.export.recipes.prebuilt import Prebuilt, find_prebuilt, place_prebuilt
from playground.kernels import building
from playground.kernels.library import Library
from playground.records import Artifact, LoadSpec, ModelSpec, Variant
from playground.runtimes.native import own_library
from playground.runtimes.native.engine import KernelEngine
from playground.runtimes.native.own_library import recorded
from playground.runtimes.onnx.file import GraphError, is_data_file, read_onnx_file
from playground.runtimes.onnx.runtime import OnnxRuntime, open_engine
from tests.support import kernel_graphs, tiny
from tests.support.graphs import Layout, write_graph

needs_kernels = pytest.mark.skipif(building.obstacle() is not None, reason=building.obstacle() or "")
needs_compiler = pytest.mark.skipif(building.compiler() is None, reason="there is no C compiler")

LIBRARY = building.LIBRARY


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "location",
    [
        "model.onnx_data",
        "model.onnx_data_1",
        "model_q4f16.onnx.data",
        "decoder_model_merged.onnx-data",
        "weights.bin",
        "MODEL.DATA",
        "model.layers.0.self_attn.q_proj.weight",
        "transformer.h.0.ln_1.bias",
        "layers/0.raw",
        "onnx__MatMul_12",
        "weights/onnx__MatMul_12",
    ],
)
def test_weights_beside_a_graph_have_a_data_files_name(location: str) -> None:
    assert is_data_file(location)


@pytest.mark.parametrize(
    "location",
    [
        "kernels.so",
        "KERNELS.SO",
        "kernels.So",
        "kernels.so.1",
        "kernel\u017f.so",
        "artifact.json",
        "Artifact.JSON",
        "config.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "model.onnx",
        "encoder_model.onnx",
        "model.safetensors",
        "evil.py",
        ".data",
        ".hidden.data",
        "x.data/",
        "x.data/kernels.so",
        "../model.data",
        "/model.data",
        "./model.data",
        "a/../model.data",
        "a//model.data",
        ".git/model.data",
        "a\\model.data",
        "c:model.data",
        "model.data\n",
        "model.data\0",
        "kernel\u017f.data",
        "*/_ORT_MEM_ADDR_/*",
        "",
    ],
)
def test_no_other_name_is_one(location: str) -> None:
    assert not is_data_file(location)


def test_every_place_of_a_file_that_can_name_weights_is_looked_into(tmp_path: Path) -> None:
    """Initialisers, constants, subgraphs, lists, sparse tensors, and functions that the file defines."""

    def outside(name: str) -> TensorProto:
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=f"{name}.so")
        return tensor

    def constant(name: str) -> onnx.NodeProto:
        return helper.make_node("Constant", [], [name], value=outside(name))

    inner = helper.make_graph([constant("subgraph")], "inner", [], [])
    several = onnx.AttributeProto(name="several", type=onnx.AttributeProto.TENSORS, tensors=[outside("list")])
    sparse = onnx.SparseTensorProto(values=outside("values"), indices=outside("indices"), dims=[1])
    lone = onnx.AttributeProto(name="lone", type=onnx.AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse)
    node = helper.make_node("If", ["x"], ["y"], then_branch=inner)
    node.attribute.extend([several, lone])
    graph = helper.make_graph([constant("node"), node], "outer", [], [], [outside("initialiser")])
    graph.sparse_initializer.append(
        onnx.SparseTensorProto(values=outside("sparse"), indices=outside("places"), dims=[1])
    )
    function = helper.make_function("own", "f", [], ["z"], [constant("function")], [helper.make_opsetid("", 20)])
    model = helper.make_model(graph, functions=[function])
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    names = ["node", "subgraph", "list", "values", "indices", "initialiser", "sparse", "places", "function"]
    assert read_onnx_file(tmp_path / "model.onnx").external == {f"{name}.so" for name in names}


# -- what is executed -------------------------------------------------------------------------------------------------


def evil(folder: Path) -> tuple[Path, Path]:
    """A library that leaves a mark when it is loaded, and the mark."""
    mark = folder / "executed"
    source = folder / "evil.c"
    code = "#include <stdio.h>\n__attribute__((constructor)) static void run(void) {{ fclose(fopen({}, {})); }}\n"
    source.write_text(code.format(json.dumps(str(mark)), json.dumps("w")), encoding="utf-8")
    library = folder / "evil.so"
    compiler = building.compiler()
    assert compiler is not None
    subprocess.run([*compiler, "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    return library, mark


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if building.compiler() is None:
        pytest.skip("there is no C compiler")
    return evil(tmp_path_factory.mktemp("evil"))


@pytest.fixture
def stranger(compiled: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A library and its mark, which is not there yet."""
    library, mark = compiled
    mark.unlink(missing_ok=True)
    return library, mark


@pytest.mark.integration
@needs_compiler
def test_the_library_of_these_tests_leaves_its_mark_when_it_is_loaded(stranger: tuple[Path, Path]) -> None:
    library, mark = stranger
    subprocess.run([sys.executable, "-c", f"import ctypes; ctypes.CDLL({str(library)!r})"], check=True)
    assert mark.exists()


def repository(folder: Path, library: Path, place: str = ".", location: str = "", name: str = LIBRARY) -> Path:
    """A model that brings a graph, one that the kernels could run, and beside it somebody's library; ``location``: what
    the graph calls its weights, which lie behind the library in one file.
    """
    tiny.write_tokenizer(folder)
    kernel_graphs.write(kernel_graphs.eight_bits(), folder / place)
    if place != ".":
        (folder / place / "config.json").rename(folder / "config.json")
    shutil.copy(library, folder / place / name)
    document = {"engine": "kernels avx2", "files": {name: {"size": 1, "mtime_ns": 1, "sha256": sha256(library)}}}
    for spelling in ("artifact.json", "Artifact.JSON"):
        (folder / place / spelling).write_text(json.dumps(document), encoding="utf-8")
    if location:
        graph = folder / place / "model.onnx"
        stored = onnx.load(graph)
        onnx.save(stored, graph, save_as_external_data=True, location="w.data", size_threshold=1024)
        start = -(-library.stat().st_size // 64) * 64
        weights = (folder / place / "w.data").read_bytes()
        stored = onnx.load(graph, load_external_data=False)
        for tensor in stored.graph.initializer:
            for entry in tensor.external_data:
                entry.value = location if entry.key == "location" else entry.value
                if entry.key == "offset":
                    entry.value = str(int(entry.value) + start)
        graph.write_bytes(stored.SerializeToString())
        with (folder / place / name).open("ab") as file:
            file.write(bytes(start - library.stat().st_size) + weights)
    return folder


def sha256(path: Path) -> str:
    return building.Built.of(path).sha256


def made(source: str, home: Path) -> Artifact:
    spec = ModelSpec("tiny", "Tiny", source, "", "onnx", "int8", kernel_graphs.CONTEXT, "chat")
    return pipeline.make(spec, Variant("tiny", "onnx", "int8"), home, lambda *_: None, lambda: False)


def opened(artifact: Artifact) -> str:
    """What computes in a worker."""
    spec = ModelSpec("tiny", "Tiny", "path:tiny", "", "onnx", "int8", kernel_graphs.CONTEXT, "chat")
    engine = OnnxRuntime().open_engine(LoadSpec(spec, artifact, 1))
    engine.reset(8)
    assert engine.prefill([1, 2, 3]).shape == (kernel_graphs.VOCAB,)
    return engine.name


def hub_cache(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """``folder`` as another program's whole snapshot in the Hub's cache: links to blobs."""
    top = home / "hub" / "models--someone--tiny"
    (top / "refs").mkdir(parents=True)
    (top / "refs" / "main").write_text("0" * 40, encoding="utf-8")
    (top / "blobs").mkdir()
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        blob = top / "blobs" / sha256(path)
        shutil.copy(path, blob)
        link = top / "snapshots" / ("0" * 40) / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return "hub:someone/tiny"


@pytest.mark.integration
@needs_compiler
@pytest.mark.parametrize("way", ["path", "hub"])
@pytest.mark.parametrize("where", [(".", LIBRARY), ("onnx", LIBRARY), (".", "KERNELS.SO"), ("onnx", "artifact.json")])
def test_a_graph_that_calls_its_weights_by_a_name_that_means_something_is_refused(
    way: str, where: tuple[str, str], stranger: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (library, mark), (place, location) = stranger, where
    folder = repository(tmp_path / "model", library, place, location, location)
    source = f"path:{folder}" if way == "path" else hub_cache(folder, tmp_path / "hf", monkeypatch)
    with pytest.raises(PlaygroundError, match=f"'{location}', which is not a data file's name"):
        made(source, tmp_path / "home")
    assert not mark.exists()
    assert not list((tmp_path / "home" / "artifacts").glob("**/*"))


@pytest.mark.integration
@needs_compiler
@pytest.mark.parametrize("way", ["path", "hub"])
@pytest.mark.parametrize("place", [".", "onnx"])
def test_a_library_and_a_document_that_a_source_brings_stay_there(
    way: str, place: str, stranger: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, mark = stranger
    folder = repository(tmp_path / "model", library, place)
    source = f"path:{folder}" if way == "path" else hub_cache(folder, tmp_path / "hf", monkeypatch)
    artifact = made(source, tmp_path / "home")
    assert artifact.engine == "onnxruntime"
    assert opened(artifact) == "onnxruntime"
    assert recorded(Path(artifact.path)) is None
    assert not (Path(artifact.path) / LIBRARY).exists()
    assert not mark.exists()


@pytest.mark.integration
@needs_compiler
def test_a_link_to_a_library_is_weights_by_its_name_and_nothing_else(
    stranger: tuple[Path, Path], tmp_path: Path
) -> None:
    library, mark = stranger
    folder = repository(tmp_path / "model", library, ".", "model.onnx_data")
    (folder / "model.onnx_data").symlink_to(folder / LIBRARY)
    artifact = made(f"path:{folder}", tmp_path / "home")
    assert opened(artifact) == "onnxruntime"
    assert {path.name for path in Path(artifact.path).iterdir()} >= {"model.onnx_data", "artifact.json"}
    assert not (Path(artifact.path) / LIBRARY).exists()
    assert not mark.exists()


@pytest.mark.integration
@needs_compiler
@pytest.mark.parametrize("engine", ["", "onnxruntime", "kernels avx2"])
def test_no_library_is_loaded_for_lying_beside_a_graph(
    engine: str, stranger: tuple[Path, Path], tmp_path: Path
) -> None:
    """An artifact of an earlier version may hold one."""
    library, mark = stranger
    folder = repository(tmp_path / "model", library)
    (folder / "artifact.json").write_text(json.dumps({"engine": "onnxruntime", "files": {}}), encoding="utf-8")
    assert open_engine(folder, 1).name == "onnxruntime"
    spec = ModelSpec("tiny", "Tiny", "path:tiny", "", "onnx", "int8", tiny.CONTEXT, "chat")
    artifact = Artifact(Variant("tiny", "onnx", "int8"), str(folder), "prebuilt", "0", "", 0, engine=engine)
    if engine.startswith("kernels"):  # what the app believes and what the document says have to agree
        with pytest.raises(RunError, match="Prepare the model again"):
            OnnxRuntime().open_engine(LoadSpec(spec, artifact, 1))
    else:
        assert OnnxRuntime().open_engine(LoadSpec(spec, artifact, 1)).name == "onnxruntime"
    assert kernels.engine(folder) == "onnxruntime"
    assert not mark.exists()


@pytest.mark.integration
@needs_compiler
def test_bytes_that_are_not_those_compiled_are_not_loaded(stranger: tuple[Path, Path], tmp_path: Path) -> None:
    library, mark = stranger
    with pytest.raises(RuntimeError, match="not the library that was compiled"):
        Library(building.Built(library, "0" * 64))
    folder = repository(tmp_path / "model", library)
    document = {"engine": "kernels avx2", "files": {LIBRARY: {"sha256": "0" * 64}}}
    (folder / "artifact.json").write_text(json.dumps(document), encoding="utf-8")
    spec = ModelSpec("tiny", "Tiny", "path:tiny", "", "onnx", "int8", tiny.CONTEXT, "chat")
    artifact = Artifact(Variant("tiny", "onnx", "int8"), str(folder), "fused", "0", "", 0, engine="kernels avx2")
    with pytest.raises(RunError) as caught:
        OnnxRuntime().open_engine(LoadSpec(spec, artifact, 1))
    assert "tiny@onnx-int8" in str(caught.value)
    assert f"Delete {folder}" in str(caught.value)
    assert not mark.exists()


@pytest.mark.integration
@needs_kernels
def test_what_was_compared_is_what_runs_whatever_lies_there_later(stranger: tuple[Path, Path], tmp_path: Path) -> None:
    library, mark = stranger
    built = building.build(tmp_path)
    first = Library(built)
    built.path.unlink()
    shutil.copy(library, built.path)
    assert Library(built).isa == first.isa
    assert not mark.exists()


@pytest.mark.integration
@needs_kernels
def test_two_libraries_are_two_whatever_they_are_called(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    found = [Library(building.build(tmp_path / "one"))]
    if building.level() != "avx2":
        found.append(Library(building.build(tmp_path / "two", "avx2")))
    assert [each.isa for each in found] == [building.level(), "avx2"][: len(found)]


@pytest.mark.integration
@needs_kernels
@pytest.mark.parametrize("link", ["hard", "symbolic"])
def test_compiling_writes_through_no_link(link: str, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"somebody's")
    (tmp_path / "artifact").mkdir()
    place = tmp_path / "artifact" / LIBRARY
    os.link(theirs, place) if link == "hard" else place.symlink_to(theirs)
    built = building.build(tmp_path / "artifact")
    assert theirs.read_bytes() == b"somebody's"
    assert not built.path.is_symlink() and sha256(built.path) == built.sha256


# -- what says that a library is ours ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "outcome"),
    [
        ({"engine": "kernels avx2", "files": {LIBRARY: {"sha256": "a" * 64}}}, "a" * 64),
        ({"engine": "onnxruntime", "files": {LIBRARY: {"sha256": "a" * 64}}}, None),
        ({"engine": "", "files": {LIBRARY: {"sha256": "a" * 64}}}, None),
        ({"files": {LIBRARY: {"sha256": "a" * 64}}}, None),
        ({"engine": "kernels avx2", "files": {}}, GraphError),
        ({"engine": "kernels avx2", "files": {"KERNELS.SO": {"sha256": "a" * 64}}}, GraphError),
        ({"engine": "kernels avx2", "files": {LIBRARY: {"sha256": ""}}}, GraphError),
        ({"engine": "kernels avx2", "files": {LIBRARY: {"sha256": "../" * 22}}}, GraphError),
        ({"engine": "kernels avx2"}, GraphError),
        ([], GraphError),
    ],
)
def test_the_artifacts_own_document_names_the_library_and_its_checksum(
    document: object, outcome: object, tmp_path: Path
) -> None:
    (tmp_path / own_library.DOCUMENT).write_text(json.dumps(document), encoding="utf-8")
    if outcome is GraphError:
        with pytest.raises(GraphError):
            recorded(tmp_path)
    else:
        assert recorded(tmp_path) == (outcome and building.Built(tmp_path / LIBRARY, str(outcome)))


def test_the_document_is_the_one_that_the_cache_writes(tmp_path: Path) -> None:
    assert own_library.DOCUMENT == cache.DOCUMENT
    with pytest.raises(GraphError):
        recorded(tmp_path)


@pytest.mark.integration
@needs_kernels
def test_a_library_is_ours_between_compiling_and_taking_away(tmp_path: Path) -> None:
    folder = kernel_graphs.write(kernel_graphs.eight_bits(), tmp_path)
    (folder / LIBRARY).write_bytes(b"somebody's")
    assert (kernels.built(folder), kernels.engine(folder)) == (None, "onnxruntime")
    assert kernels.attach(folder, lambda *_: None) is None
    built = kernels.built(folder)
    assert built is not None and built.sha256 == sha256(folder / LIBRARY)
    assert kernels.engine(folder) == f"kernels {building.level()}"
    assert isinstance(open_engine(folder, 1, library=built), KernelEngine)
    kernels.detach(folder)
    assert (kernels.built(folder), kernels.engine(folder)) == (None, "onnxruntime")
    assert not (folder / LIBRARY).exists()


# -- what is put into an artifact -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("model.onnx", "config.json"),
        ("model.onnx", "tokenizer.json"),
        ("model.onnx", "w.data", "w.data"),
    ],
)
def test_no_file_is_put_over_another(names: tuple[str, ...], tmp_path: Path) -> None:
    """A copy would go through the link and change the source."""
    folder = tiny.write_tokenizer(tmp_path / "model")
    write_graph(folder, Layout())
    files = []
    for number, name in enumerate(names):
        path = folder / f"{number}.source"
        path.write_bytes(b"theirs %d" % number)
        files.append((path, name))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ExportError, match="two files that would be called"):
        place_prebuilt(Prebuilt("model.onnx", "fp32", tuple(files), 1), folder, tmp_path / "target")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def naming(location: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        stored = onnx.load(path, load_external_data=False)
        tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=location)
        function = helper.make_function(
            "own",
            "f",
            [],
            ["z"],
            [helper.make_node("Constant", [], ["z"], value=tensor)],
            [helper.make_opsetid("", 20)],
        )
        stored.functions.append(function)
        path.write_bytes(stored.SerializeToString())

    return change


@pytest.mark.parametrize("location", [LIBRARY, "artifact.json", "config.json", "model.onnx", "*/_ORT_MEM_ADDR_/*"])
def test_a_name_hidden_in_a_function_is_refused_as_well(location: str, tmp_path: Path) -> None:
    folder = tiny.write_tokenizer(tmp_path / "model")
    write_graph(folder, Layout())
    (folder / LIBRARY).write_bytes(b"x")
    naming(location)(folder / "model.onnx")
    refused: list[str] = []
    assert find_prebuilt(folder, "fp32", refused) is None
    assert "which is not a data file's name" in refused[0]
