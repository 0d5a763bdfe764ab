"""Files that lie: each is refused in words that name the model, before memory is touched and with nothing run."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from playground.errors import SourceError
from playground.paths import ROOT
from playground.sources import headers, limits
from tests.support.hub_server import tiny_llama

FILES = tiny_llama()
CONFIG = json.loads(FILES["config.json"])


def model(folder: Path, **changed: bytes) -> list[Path]:
    """The tiny model with some files replaced; ``__`` in a keyword stands for a dot."""
    content = FILES | {name.replace("__", "."): value for name, value in changed.items()}
    for name, value in content.items():
        (folder / name).write_bytes(value)
    return sorted(folder / name for name in content)


def refused(folder: Path, limit_mb: float = 24_000.0, **changed: bytes) -> str:
    with pytest.raises(SourceError) as caught:
        limits.check("Tiny", model(folder, **changed), limit_mb)
    message = str(caught.value)
    assert "Tiny" in message
    return message


def config(**changed: Any) -> bytes:
    return json.dumps(CONFIG | changed).encode()


@pytest.mark.hostile
def test_an_honest_model_passes(tmp_path: Path) -> None:
    limits.check("Tiny", model(tmp_path), 24_000.0)


# config.json


@pytest.mark.hostile
@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden_size": -64},
        {"hidden_size": 0},
        {"vocab_size": 10**9},
        {"num_hidden_layers": 10**6},
        {"num_hidden_layers": "two"},
        {"num_attention_heads": 4.5},
        {"num_attention_heads": True},
        {"intermediate_size": [1, -1]},
        {"max_position_embeddings": 1 << 40},
        {"text_config": {"vocab_size": 10**9}},
        {"num_local_experts": 10**5},
    ],
)
def test_impossible_sizes_in_the_configuration_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    message = refused(tmp_path, config__json=config(**wrong))
    inner = wrong.get("text_config", wrong)
    assert next(iter(inner)) in message
    assert "believable" in message


@pytest.mark.hostile
@pytest.mark.parametrize(
    "bloated",
    [
        {"vocab_size": 3_000_000},
        {"num_hidden_layers": 1000, "hidden_size": 4096},
        {"num_local_experts": 4096, "intermediate_size": 4096, "num_hidden_layers": 64},
        {"hidden_size": 65_536},
    ],
)
def test_a_configuration_of_a_network_that_the_weights_do_not_hold_is_refused(
    tmp_path: Path, bloated: dict[str, int]
) -> None:
    assert "its weights hold 123,200" in refused(tmp_path, config__json=config(**bloated))


@pytest.mark.hostile
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[]", "not a JSON object"),
        (b"{", "can't be read as JSON"),
        (b"\xff\xfe", "can't be read as JSON"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "ordinary depth"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "can't be read as JSON (RecursionError)"),
        (b"{" + b" " * 3_000_000 + b"}", "3 MB"),
        (config(model_type=["llama"]), "model_type is not a text"),
    ],
)
def test_a_configuration_that_is_no_ordinary_json_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in refused(tmp_path, config__json=content)


@pytest.mark.hostile
def test_code_from_the_repository_is_refused_unless_transformers_does_without(tmp_path: Path) -> None:
    auto = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.Evil"}
    evil = b"from pathlib import Path\nPath(__file__).with_name('executed').write_text('')\n"
    message = refused(tmp_path, config__json=config(model_type="evil", auto_map=auto), evil__py=evil)
    assert "needs code of its own" in message
    assert not (tmp_path / "executed").exists()
    limits.check("Tiny", model(tmp_path, config__json=config(auto_map=auto)), 24_000.0)


@pytest.mark.hostile
def test_transformers_is_told_never_to_run_code_of_the_folder(tmp_path: Path) -> None:
    """Falcon's repositories name code and do without; what their tokenizer or model class names must not be run."""
    from playground.errors import ExportError
    from playground.export.weights import import_model
    from tests.support import tiny

    evil = b"from pathlib import Path\nPath(__file__).with_name('executed').write_text('')\nraise SystemExit\n"
    auto = {"AutoTokenizer": ["evil.Tokenizer", None]}
    files = {"tokenizer_config__json": json.dumps({"tokenizer_class": "EvilTokenizer", "auto_map": auto}).encode()}
    paths = model(tmp_path, config__json=config(model_type="evil"), evil__py=evil, **files)
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(ExportError, match="Tiny can't be read"):
        import_model(tiny.spec(), tuple(paths), target, lambda *_: None)
    assert not list(tmp_path.rglob("executed"))


# Tokenizer and index


@pytest.mark.hostile
def test_a_tokenizer_that_is_huge_or_broken_is_refused(tmp_path: Path) -> None:
    assert "more entries than" in refused(tmp_path, tokenizer__json=b'{"a":[' + b"{}," * 9_000_000 + b"{}]}")
    assert "90 MB" in refused(tmp_path, tokenizer__json=b'"' + b"a" * 90_000_000 + b'"')
    assert "can't be read as JSON" in refused(tmp_path, tokenizer__json=b'{"model": ')
    assert "not a JSON object" in refused(tmp_path, tokenizer__json=b"[]")


@pytest.mark.hostile
@pytest.mark.parametrize("place", ["../../secret.safetensors", "/etc/passwd", "model-2.safetensors"])
def test_an_index_that_names_files_elsewhere_is_refused(tmp_path: Path, place: str) -> None:
    index = json.dumps({"weight_map": {"a": place}}).encode()
    assert "are not there" in refused(tmp_path, **{"model.safetensors.index__json": index})


@pytest.mark.hostile
@pytest.mark.parametrize("index", [b"[]", b"{}", b'{"weight_map": {"a": 1}}'])
def test_an_index_without_a_map_is_refused(tmp_path: Path, index: bytes) -> None:
    assert "no weight_map" in refused(tmp_path, **{"model.safetensors.index__json": index})


# safetensors


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(begin: int, end: int, shape: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.hostile
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "claims 0 bytes"),
        (safetensors({}, length=1 << 60), "claims 1,152,921,504,606,846,976 bytes"),
        (safetensors({}, length=100), "claims 100 bytes"),
        (safetensors(b"not json"), "not JSON"),
        (safetensors(b"[]"), "not a JSON object"),
        (safetensors(b"[" * 100_000), "not JSON"),
        (safetensors({"a": tensor(0, 8)}), "need 8 bytes, the file holds 0"),
        (safetensors({"a": tensor(0, 8)}, b"x" * 16), "need 8 bytes, the file holds 16"),
        (safetensors({"a": tensor(0, 8), "b": tensor(4, 12)}, b"x" * 12), "overlap"),
        (safetensors({"a": tensor(8, 16)}, b"x" * 16), "leave gaps"),
        (safetensors({"a": tensor(0, 8, (10**9, 10**9))}, b"x" * 8), "does not have the bytes"),
        (safetensors({"a": tensor(0, 8, (-1, -2))}, b"x" * 8), "impossible sizes"),
        (safetensors({"a": tensor(0, 8, (1 << 62,))}, b"x" * 8), "impossible sizes"),
        (safetensors({"a": tensor(0, 8, dtype="PICKLE")}, b"x" * 8), "not described"),
        (safetensors({"a": tensor(0, 8, dtype=["F32"])}, b"x" * 8), "not described"),
        (safetensors({"a": [1]}, b"x" * 8), "not described"),
        (safetensors({"a": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}}, b"x" * 8), "not described"),
    ],
)
def test_weights_with_a_lying_header_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    message = refused(tmp_path, model__safetensors=content)
    assert "model.safetensors is refused" in message
    assert words in message


@pytest.mark.hostile
def test_weights_larger_than_memory_are_refused_with_both_figures(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    size = 70_000_000_000
    path.write_bytes(safetensors({"a": tensor(0, size, (size // 2,), "BF16")}))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + size)  # sparse: no such bytes are on the disk
    with pytest.raises(SourceError, match=r"35\.00 billion.*30\.2 GB.*24\.0 GB.*remote:NAME"):
        limits.check("Tiny", [path], 24_000.0)


# GGUF


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def gguf(fields: bytes = b"", infos: bytes = b"", data: bytes = b"", counts: tuple[int, int] = (0, 0)) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, *counts) + fields + infos
    return head + b"\0" * (-len(head) % 32) + data


def info(name: bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def number(key: bytes, value: int) -> bytes:
    return text(key) + struct.pack("<II", 4, value)


LONG = struct.pack("<Q", 1 << 63)


@pytest.mark.hostile
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04", "does not begin"),
        (b"", "does not begin"),
        (b"GGUF", "beyond the end"),
        (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "version is 9"),
        (gguf(counts=(1 << 60, 0)), "claims 1,152,921,504,606,846,976 tensors"),
        (gguf(counts=(0, 1 << 60)), "1,152,921,504,606,846,976 fields"),
        (gguf(LONG + b"x" * 40, counts=(0, 1)), "a text of 9,223,372,036,854,775,808 bytes"),
        (gguf(text(b"k") + struct.pack("<I", 8) + LONG, counts=(0, 1)), "a text of 9,2"),
        (gguf(text(b"k") + struct.pack("<IIQ", 9, 8, 1 << 62), counts=(0, 1)), "an array of"),
        (gguf(text(b"k") + struct.pack("<IIQ", 9, 9, 1), counts=(0, 1)), "an array of"),
        (gguf(text(b"k") + struct.pack("<I", 77), counts=(0, 1)), "unknown type 77"),
        (gguf(infos=info(b"t", (8,), offset=1 << 40), data=b"x" * 32, counts=(1, 0)), "need 1,0"),
        (gguf(infos=info(b"t", (1 << 40, 1 << 40)), data=b"x" * 32, counts=(1, 0)), "tensors need"),
        (gguf(infos=info(b"t", (1 << 63,)), data=b"x" * 32, counts=(1, 0)), "impossible sizes"),
        (gguf(infos=info(b"t", (8,), kind=999), data=b"x" * 32, counts=(1, 0)), "unknown type"),
        (gguf(infos=info(b"a", (8,)) + info(b"b", (8,), offset=16), data=b"x" * 64, counts=(2, 0)), "overlap"),
        (gguf(number(b"general.alignment", 0), info(b"t", (1,)), b"x" * 32, (1, 1)), "alignment is 0"),
        (
            gguf(
                text(b"general.architecture")
                + struct.pack("<I", 8)
                + text(b"llama")
                + number(b"llama.vocab_size", 10**9),
                info(b"t", (8,)),
                b"x" * 32,
                (1, 2),
            ),
            "vocab_size is 1000000000",
        ),
    ],
)
def test_a_gguf_with_a_lying_header_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        limits.check("Tiny", [path], 24_000.0)
    assert "Tiny: tiny.gguf is refused" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.hostile
def test_a_gguf_cut_off_anywhere_in_its_header_is_refused(tmp_path: Path) -> None:
    whole = gguf(number(b"llama.block_count", 2), info(b"t", (8,)), b"x" * 32, (1, 1))
    path = tmp_path / "tiny.gguf"
    path.write_bytes(whole)
    assert headers.read_gguf(path).parameters == 8
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(SourceError, match=r"tiny\.gguf is refused"):
            limits.check("Tiny", [path], 24_000.0)


# Memory

PROBE = """
import resource, sys
from pathlib import Path
from playground.errors import SourceError
from playground.sources import limits
room = 300_000_000
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
for path in sys.argv[1:]:
    try:
        limits.check("Tiny", [Path(path)], 24_000.0)
    except SourceError as error:
        print(error)
"""


@pytest.mark.hostile
def test_the_worst_files_are_refused_within_300_mb_of_memory(tmp_path: Path) -> None:
    """In a process that may not take more: what would blow up ends in MemoryError and prints no refusal."""
    worst: dict[str, Callable[[], bytes]] = {
        "a.gguf": lambda: gguf(counts=(1 << 60, 1 << 60)),
        "b.gguf": lambda: gguf(text(b"k") + struct.pack("<IIQ", 9, 0, 1 << 62), counts=(0, 1)),
        "model.safetensors": lambda: safetensors({}, length=1 << 40),
        "lists.safetensors": lambda: safetensors(b'{"a":[' + b"[]," * 5_500_000 + b"[]]}"),
        "config.json": lambda: b"[" * 100_000_000,
        "tokenizer.json": lambda: b"[" + b"[]," * 26_000_000 + b"[]]",
    }
    paths = []
    for name, content in worst.items():
        (tmp_path / name).write_bytes(content())
        paths.append(str(tmp_path / name))
    found = subprocess.run(
        [sys.executable, "-c", PROBE, *paths], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert [line.split()[1] for line in found.stdout.splitlines()] == list(worst)
