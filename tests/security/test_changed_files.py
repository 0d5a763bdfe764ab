"""Files and documents with bytes and values changed at random: each is read, or refused in our own words, soon and in
little memory."""

from __future__ import annotations

import gc
import json
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from playground.catalog.card_text import BadFrontMatter, front_matter, split
from playground.catalog.hub import HubInfo
from playground.catalog.hub_cards import hub_facts
from playground.errors import SourceError, UsageError
from playground.export import cache, prepared
from playground.export.recipes import prebuilt
from playground.messages import Translatable, msg
from playground.records import Artifact, Fidelity, LoadSpec, ModelSpec, Variant
from playground.runtimes.native.lowering import read_program
from playground.runtimes.native.program import NotForKernels
from playground.runtimes.onnx.file import BadOnnxFile, read_onnx_file
from playground.sources import headers, limits
from playground.suites.reading import read_suite
from playground.workers import expected_memory
from tests.support import ggufs, kernel_graphs
from tests.support.byte_mutations import changed_bytes, changed_documents, varint
from tests.support.hub_repos import tiny_llama

pytestmark = pytest.mark.hostile

ONNX, TORCH = Variant("tiny", "onnx", "int8"), Variant("tiny", "torch", "fp32")
SPEC = ModelSpec("tiny", "Tiny", "hub:someone/tiny", "", "onnx", "int8", 128, "base")

SECONDS = 1.0
"""Of this thread's processor time, for a file of a few thousand bytes."""


@contextmanager
def bounded(size: int, number: int = 0, fixed: int = 3_000_000) -> Iterator[None]:
    """Fails where what is inside takes long or, in each fifth file, more memory than ``size`` bytes give reason for."""
    traced = number % 5 == 0  # it makes Python several times slower
    if traced:
        tracemalloc.start()
    gc.disable()  # going through all that other tests left takes up to a second
    began = time.thread_time()
    try:
        yield
        took, most = time.thread_time() - began, tracemalloc.get_traced_memory()[1]
        assert took < SECONDS, f"{took:.2f} s for file {number}"
        assert most < fixed + 60 * size, f"{most / 1e6:.1f} MB for file {number} of {size} bytes"
    finally:
        gc.enable()
        tracemalloc.stop()


def load(folder: Path, variant: Variant) -> LoadSpec:
    """An artifact of the files in ``folder``."""
    return LoadSpec(SPEC, Artifact(variant, str(folder), "none", "r", "s", 1000), 1)


# -- weights --------------------------------------------------------------------------------------------------------


def small_gguf(folder: Path) -> bytes:
    """A GGUF file as the converter writes it, of two small tensors."""
    import gguf

    path = folder / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_embedding_length(8)
    ggufs.add_byte_level_tokenizer(writer)
    for name, rows in (("token_embd.weight", 4), ("output.weight", 2)):
        writer.add_tensor(name, np.ones((rows, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def weights_outcomes(path: Path, contents: Iterator[bytes]) -> set[str]:
    """What became of each content, as a file of that name."""
    found = set()
    for number, content in enumerate(contents):
        path.write_bytes(content)
        headers._READ.clear()  # files written within a tick of the clock look like the same one
        with bounded(len(content), number):
            try:
                limits.check("Tiny", [path], 24_000.0)
                found.add("read")
            except SourceError as error:
                assert "Tiny" in str(error)
                assert path.name in str(error) or "believable" in str(error) or "GB" in str(error), str(error)
                found.add("refused")
            expected_memory.expected(load(path.parent, TORCH))
    return found


def test_a_changed_gguf_is_read_or_refused(tmp_path: Path) -> None:
    whole = small_gguf(tmp_path)
    limits.check("Tiny", [tmp_path / "small.gguf"], 24_000.0)  # imports are not counted
    assert weights_outcomes(tmp_path / "small.gguf", changed_bytes(whole, 1, 150)) == {"read", "refused"}
    # Most of the file is its vocabulary: the fields before it and the tensors behind it, on their own.
    head, tail = whole[:300], whole[-600:]
    ends = (part + whole[300:] for part in changed_bytes(head, 2, 80))
    assert weights_outcomes(tmp_path / "small.gguf", ends) >= {"refused"}
    ends = (whole[:-600] + part for part in changed_bytes(tail, 3, 80))
    assert weights_outcomes(tmp_path / "small.gguf", ends) == {"read", "refused"}


def test_the_beginning_of_a_changed_gguf_is_read_refused_or_too_short(tmp_path: Path) -> None:
    whole = small_gguf(tmp_path)
    assert headers.read_gguf_beginning(whole, len(whole))
    found = set()
    for number, content in enumerate(changed_bytes(whole, 4, 300)):
        with bounded(len(content), number):
            try:
                header = headers.read_gguf_beginning(content[: 100 * number], len(whole))
                found.add("read" if header else "short")
            except headers.LyingHeader as error:
                assert str(error)
                found.add("refused")
    assert found == {"read", "short", "refused"}


def test_changed_safetensors_are_read_or_refused(tmp_path: Path) -> None:
    whole = tiny_llama()["model.safetensors"]
    length = 8 + int.from_bytes(whole[:8], "little")
    head, data = whole[:length], whole[length:]
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole)
    limits.check("Tiny", [path], 24_000.0)
    contents = (part + data for part in (head, *changed_bytes(head, 5, 120)))
    assert weights_outcomes(path, contents) == {"read", "refused"}
    documents = (
        json.dumps(each).encode() for each in (json.loads(head[8:]), *changed_documents(json.loads(head[8:]), 6, 120))
    )
    contents = (len(text).to_bytes(8, "little") + text + data for text in documents)
    assert weights_outcomes(path, contents) == {"read", "refused"}


def test_changed_configurations_are_read_or_refused(tmp_path: Path) -> None:
    for name, content in tiny_llama().items():
        (tmp_path / name).write_bytes(content)
    files = sorted(tmp_path.iterdir())
    limits.check("Tiny", files, 24_000.0)
    for name in ("config.json", "tokenizer_config.json"):
        path = tmp_path / name
        whole = path.read_bytes()
        documents = [json.dumps(each).encode() for each in changed_documents(json.loads(whole), 7, 60)]
        found = set()
        for number, content in enumerate((*documents, *changed_bytes(whole, 8, 40))):
            path.write_bytes(content)
            with bounded(len(content) + 20_000, number):
                try:
                    limits.check("Tiny", files, 24_000.0)
                    found.add("read")
                except SourceError as error:
                    assert "Tiny" in str(error)
                    found.add("refused")
        path.write_bytes(whole)
        assert found == {"read", "refused"}


# -- graphs ---------------------------------------------------------------------------------------------------------


def small_graph() -> bytes:
    """A graph with all that the reader looks at: subgraphs, functions, weights here, elsewhere and sparse."""
    weights = numpy_helper.from_array(np.ones((2, 3), np.float32), "w")
    packed = numpy_helper.from_array(np.ones((2, 3), np.uint8), "q")
    outside = TensorProto(name="o", data_type=TensorProto.FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="model.onnx.data")
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(1, np.float32), "s"), numpy_helper.from_array(np.zeros(1, np.int64), "i"), [9]
    )
    inner = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "inner", [], [])
    nodes = [
        helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner),
        helper.make_node("MatMulNBits", ["y", "q"], ["z"], domain="com.microsoft", bits=4, K=32, N=2),
        helper.make_node("Constant", [], ["c"], value=weights),
        helper.make_node("MatMulInteger", ["z", "q"], ["logits"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "n"]) for name in ("x", "logits")]
    graph = helper.make_graph(
        nodes, "g", ends[:1], ends[1:], initializer=[weights, packed, outside], sparse_initializer=[sparse]
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    own = helper.make_function("own", "F", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], opsets[:1])
    model = helper.make_model(graph, opset_imports=opsets, functions=[own])
    return bytes(model.SerializeToString())


def message(number: int, *parts: bytes) -> bytes:
    """A field of protobuf that holds a message."""
    content = b"".join(parts)
    return varint(number << 3 | 2) + varint(len(content)) + content


def graph_outcome(path: Path) -> str:
    """What becomes of the graph in ``path`` in each place that reads one."""
    reasons: list[Translatable] = []
    prebuilt.find_prebuilt(path.parent, "any other", reasons)
    assert all(path.name in str(reason) for reason in reasons)
    assert expected_memory.expected(load(path.parent, ONNX)).total_mb > 0
    try:
        read_onnx_file(path)
    except BadOnnxFile as error:
        assert str(error)
        assert reasons
        return "refused"
    return "read"


def test_a_changed_graph_is_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.onnx.data").write_bytes(b"0" * 64)
    path.write_bytes(small_graph())
    assert graph_outcome(path) == "read"
    found = set()
    for number, content in enumerate(changed_bytes(small_graph(), 9, 300)):
        path.write_bytes(content)
        with bounded(len(content), number):
            found.add(graph_outcome(path))
    assert found == {"read", "refused"}


DIMS, DATA_TYPE, EXTERNAL = 1, 2, 13
FLOAT = varint(DATA_TYPE << 3) + b"\1"


@pytest.mark.parametrize(
    ("tensor", "outcome"),
    [
        pytest.param(varint(DIMS << 3) + varint(2**63) + FLOAT, "read", id="a huge dimension"),
        pytest.param((varint(DIMS << 3) + varint(2**63)) * 20_000 + FLOAT, "refused", id="many dimensions"),
        pytest.param(message(DIMS, varint(2**63) * 20_000) + FLOAT, "refused", id="packed dimensions"),
        pytest.param(message(DATA_TYPE, b"1"), "refused", id="a type that is a text"),
        pytest.param(b"\x08" + b"\xff" * 10 + b"\1", "refused", id="a varint beyond 64 bits"),
        pytest.param(message(EXTERNAL, message(1, b"location"), b"\x10\x05"), "refused", id="a location in numbers"),
    ],
)
def test_tensors_that_can_not_be_are_refused_or_cost_nothing(tmp_path: Path, tensor: bytes, outcome: str) -> None:
    path = tmp_path / "model.onnx"
    (tmp_path / "config.json").write_text("{}")
    node = message(1, message(4, b"MatMul"))
    path.write_bytes(message(7, node, message(5, tensor)))
    with bounded(len(tensor)):
        assert graph_outcome(path) == outcome


def test_an_attribute_that_says_its_number_in_words_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    (tmp_path / "config.json").write_text("{}")
    bits = message(5, message(1, b"bits"), message(3, b"four"))
    path.write_bytes(message(7, message(1, message(4, b"MatMulNBits"), bits)))
    assert graph_outcome(path) == "refused"


def test_subgraphs_without_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    (tmp_path / "config.json").write_text("{}")
    graph = message(1, message(4, b"Relu"))
    for _ in range(3000):
        graph = message(1, message(5, message(6, graph)), message(4, b"If"))
    path.write_bytes(message(7, graph))
    with bounded(len(graph)):
        assert graph_outcome(path) == "refused"


def test_a_changed_graph_becomes_a_program_or_is_not_for_the_kernels(tmp_path: Path) -> None:
    path = kernel_graphs.write(kernel_graphs.GRAPHS["eight bits"](), tmp_path / "graph", beside=True) / "model.onnx"
    whole = path.read_bytes()
    read_program(path)
    found = set()
    for number, content in enumerate(changed_bytes(whole, 10, 150)):
        path.write_bytes(content)
        with bounded(len(content), number, fixed=10_000_000):
            try:
                read_program(path)
                found.add("read")
            except NotForKernels as error:
                assert str(error)
                found.add("refused")
            except OSError as error:  # weights in a file that is not there
                assert str(path.parent) in str(error)
    assert found == {"read", "refused"}


# -- records ----------------------------------------------------------------------------------------------------------

FIDELITY = Fidelity(msg("transformers"), 100, 0.99, 0.001, 0.1, "faithful", msg("why"), 0.01, 0, {"prose": 0.001})


def written(home: Path) -> Path:
    """An artifact of two files, with every field."""
    folder = cache.artifact_folder(home, SPEC, ONNX, "sha256:abc")
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "model.onnx.data").write_bytes(b"weights")
    records = cache.record_files(folder)
    known = {"variant": ONNX, "revision": "sha256:abc", "recipe": "fused", "fidelity": FIDELITY, "notes": (msg("odd"),)}
    artifact = cache.describe(folder, records, tool_versions={"onnx": "1"}, fallbacks=(msg("slow"),), **known)
    cache.write(folder, home, artifact, records)
    return folder


def used(artifact: Artifact | None) -> bool:
    """Whether there is one, which is then as its type says."""
    if artifact is None:
        return False
    assert Artifact.from_json(json.loads(json.dumps(artifact.to_json()))) == artifact
    assert str(artifact.variant)
    assert isinstance(artifact.engine + artifact.revision + artifact.sha256 + artifact.created_at, str)
    assert artifact.size_bytes >= 0
    assert all(version.strip for version in artifact.tool_versions.values())
    assert all(isinstance(each, Translatable) for each in (*artifact.notes, *artifact.fallbacks, artifact.engine_note))
    fidelity = artifact.fidelity
    if fidelity is not None:
        assert fidelity.verdict in ("exact", "faithful", "lossy", "rejected")
        assert isinstance(fidelity.reason, Translatable) and isinstance(fidelity.reference, Translatable)
        assert fidelity.mean_kl + fidelity.top1_agreement + fidelity.max_logit_error + fidelity.positions is not None
        assert all(f"{kl:.3f}" for kl in fidelity.kl_by_text.values())
    return True


def test_a_changed_record_is_an_artifact_or_none(tmp_path: Path) -> None:
    folder = written(tmp_path)
    assert used(cache.read(folder, tmp_path))
    whole = (folder / cache.DOCUMENT).read_bytes()
    documents = (json.dumps(each).encode() for each in changed_documents(json.loads(whole), 11, 200))
    found = set()
    for number, content in enumerate((*documents, *changed_bytes(whole, 12, 150))):
        (folder / cache.DOCUMENT).write_bytes(content)
        with bounded(len(content), number):
            found.add(used(cache.read(folder, tmp_path)))
            used(cache.outdated(folder, tmp_path))
            for name, record in cache.recorded(folder).items():
                record.matches(folder / name)
    assert found == {True, False}


def test_a_changed_list_of_prepared_artifacts_is_read_or_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "expected_tools", lambda variant, recipe: {"onnx": "1"})
    artifact = cache.read(written(tmp_path), tmp_path)
    assert artifact is not None
    offered = prepared.offer(SPEC, artifact, "int8", "A paper.", "apache-2.0")
    document = json.loads(json.dumps(prepared.Manifest({str(ONNX): offered}).to_json()))
    whole = json.dumps(document).encode()
    assert prepared.offered_for(SPEC, ONNX, whole).files == offered.files
    documents = (json.dumps(each).encode() for each in changed_documents(document, 13, 800))
    found = set()
    for number, content in enumerate((*documents, *changed_bytes(whole, 14, 300))):
        with bounded(len(content), number):
            try:
                taken = prepared.offered_for(SPEC, ONNX, content)
            except prepared.NotTaken as error:
                assert str(error.reason)
                found.add("not taken")
                continue
        used(taken.artifact)
        assert isinstance(taken.paper + taken.licence, str)
        assert all(size >= 0 and len(digest) == 64 for size, digest in taken.files.values())
        prepared.sums_of(prepared.read_manifest(content)).encode()
        found.add("taken")
    assert found == {"taken", "not taken"}


# -- what people write ------------------------------------------------------------------------------------------------

CARD = """---
license: apache-2.0
language: [en, ja]
base_model: someone/base
base_model_relation: finetune
datasets: [a/b]
tags: [x, y]
pipeline_tag: text-generation
model-index:
- name: tiny
  results:
  - task: {type: text-generation, name: Text}
    dataset: {name: MMLU, type: mmlu}
    metrics: [{type: acc, value: 12.5, name: accuracy}]
---
# Tiny

A model.
"""


def test_a_changed_card_is_read_or_told_as_unread() -> None:
    block = front_matter(split(CARD)[0])
    assert hub_facts(HubInfo("someone/tiny", "0" * 40, card=CARD)).license.value == "apache-2.0"
    documents = (f"---\n{json.dumps(each)}\n---\nbody" for each in changed_documents(block, 15, 100))
    texts = (each.decode("utf-8", errors="replace") for each in changed_bytes(CARD.encode(), 16, 200))
    found = set()
    for number, text in enumerate((*documents, *texts)):
        with bounded(len(text), number):
            facts = hub_facts(HubInfo("someone/tiny", "0" * 40, card=text))
            assert facts.model == "someone/tiny"
            assert json.dumps(facts.to_json())
            try:
                front_matter(split(text)[0])
                found.add("read")
            except BadFrontMatter as error:
                assert str(error.message) in str(facts.extra["card_note"].value)
                found.add("told")
    assert found == {"read", "told"}


SUITE = """description: Sums
prompts: ["What is {{a}}?", "{{b}}"]
defaultTest: {assert: [{type: word-count, value: {max: 5}}]}
tests:
- vars: {a: 1 + 1, b: [x, y]}
  assert: [{type: contains, value: "2"}, {type: regex, value: "[0-9]"}, {type: is-json, value: {type: object}}]
- description: two
  vars: {a: "2", b: z}
  metadata: {level: easy}
"""
TABLE = """question,prompt,__expected,__metadata:level
1,"What is {{question}}, ""x""?",contains:2,easy
b,c,regex:[a-z],hard
"""
LINES = '{"prompt": "a", "__expected": "contains:b"}\n{"prompt": "b", "__expected": "regex:[é]"}\n'


@pytest.mark.parametrize(
    ("name", "whole"),
    [("s.yaml", SUITE), ("s.csv", TABLE), ("s.jsonl", LINES), ("s.txt", "What is 1 + 1?\nAnd 2?\n")],
    ids=["yaml", "csv", "jsonl", "txt"],
)
def test_the_bytes_of_a_changed_suite_are_read_or_refused(name: str, whole: str) -> None:
    assert read_suite(whole, name, strangers=True).rows
    found = set()
    for number, content in enumerate(changed_bytes(whole.encode(), 17, 150)):
        with bounded(len(content), number):
            try:
                found.add(bool(read_suite(content, name, strangers=True).rows))
            except UsageError as error:
                assert str(error).startswith(name)
                found.add(False)
    assert found >= {True}


def test_a_suite_with_values_of_other_kinds_is_read_or_refused() -> None:
    import yaml

    assert read_suite(SUITE, "s.yaml", strangers=True).rows
    found = set()
    for number, document in enumerate(changed_documents(yaml.safe_load(SUITE), 18, 300)):
        content = json.dumps(document)
        with bounded(len(content), number):
            try:
                found.add(bool(read_suite(content, "s.json", strangers=True).rows))
            except UsageError as error:
                assert str(error).startswith("s.json")
                found.add(False)
    assert found == {True, False}
