"""Repositories of the small Hub (hub_server.py): their commits and files, and what the Hub's API says of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LFS = (".safetensors", ".gguf", ".onnx", ".onnx_data", ".bin", ".pt", ".model", ".program", ".so", "tokenizer.json")
"""Names that end like this are kept in LFS: their etag is a sha256 and their bytes come from the CDN."""


def is_lfs(path: str) -> bool:
    return path.endswith(LFS)


def git_sha1(content: bytes) -> str:
    """What git calls a file with this content; the Hub's etag of small files."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def etag(path: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if is_lfs(path) else git_sha1(content)


@dataclass
class Repo:
    """One repository. ``commits`` are in order; ``main`` is the last; ``refs`` are branches and tags besides."""

    name: str
    commits: dict[str, dict[str, bytes]]
    gated: str | bool = False
    private: bool = False
    info: dict[str, Any] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    kind: str = "model"

    @property
    def sha(self) -> str:
        return list(self.commits)[-1]

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, tag or commit names."""
        if revision in self.commits:
            return revision
        return self.sha if revision == "main" else self.refs.get(revision)

    def commit(self, files: dict[str, bytes]) -> str:
        """A new commit on main with exactly these files."""
        listing = json.dumps([self.name, len(self.commits), sorted((name, etag(name, files[name])) for name in files)])
        sha = hashlib.sha1(listing.encode()).hexdigest()
        self.commits[sha] = dict(files)
        return sha


def file_entry(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "oid": git_sha1(content), "size": len(content), "path": path}
    if is_lfs(path):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


def tree_entries(files: dict[str, bytes], folder: str, recursive: bool) -> list[dict[str, Any]]:
    depth = folder.count("/") + 1 if folder else 0
    folders = {"/".join(path.split("/")[:end]) for path in files for end in range(depth + 1, path.count("/") + 1)}
    entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in sorted(folders)]
    entries += [file_entry(path, content) for path, content in sorted(files.items())]
    return [entry for entry in entries if recursive or entry["path"].count("/") == depth]


def model_info(repo: Repo, sha: str, query: dict[str, list[str]]) -> dict[str, Any]:
    """What ``/api/models`` tells, in the Hub's own field names."""
    files = repo.commits[sha]
    siblings: list[dict[str, Any]] = [{"rfilename": path} for path in sorted(files)]
    if query.get("blobs"):
        for sibling in siblings:
            entry = file_entry(sibling["rfilename"], files[sibling["rfilename"]])
            sibling |= {"size": entry["size"], "blobId": entry["oid"]}
            if "lfs" in entry:
                sibling["lfs"] = {"sha256": entry["lfs"]["oid"], "size": entry["size"], "pointerSize": 134}
    try:
        config = json.loads(files.get("config.json", b"{}"))
    except ValueError:
        config = {}
    config = config if isinstance(config, dict) else {}
    known: dict[str, Any] = {
        "_id": sha[:24],
        "id": repo.name,
        "modelId": repo.name,
        "author": repo.name.partition("/")[0],
        "sha": sha,
        "lastModified": "2026-01-02T03:04:05.000Z",
        "createdAt": "2026-01-01T00:00:00.000Z",
        "private": repo.private,
        "gated": repo.gated,
        "disabled": False,
        "downloads": 3,
        "likes": 1,
        "tags": ["safetensors"],
        "pipeline_tag": "text-generation",
        "library_name": "transformers",
        "siblings": siblings,
        "config": {key: config[key] for key in ("architectures", "model_type") if key in config},
    }
    known |= repo.info
    if repo.kind == "space":
        known |= {"host": repo.info.get("host", ""), "subdomain": repo.name.replace("/", "-").lower(), "sdk": "gradio"}
    if wanted := query.get("expand"):
        return {key: known[key] for key in ("_id", "id", "modelId", *wanted) if key in known}
    return known


def tiny_llama(shards: int = 1, layers: int = 2, hidden: int = 64, card: str = "", seed: int = 0) -> dict[str, bytes]:
    """The files of a random Llama that transformers loads, made without torch, with ``tiny``'s tokenizer."""
    import tempfile

    import numpy as np
    from safetensors.numpy import save

    from tests.support import tiny

    random = np.random.default_rng(seed)

    def matrix(*shape: int) -> Any:
        return (random.standard_normal(shape) * 0.2).astype(np.float32)

    heads, kv_heads, size, wide = 4, 2, hidden // 4, hidden * 2
    weights = {"model.embed_tokens.weight": matrix(tiny.VOCAB, hidden), "lm_head.weight": matrix(tiny.VOCAB, hidden)}
    for number in range(layers):
        layer = f"model.layers.{number}."
        weights[layer + "self_attn.q_proj.weight"] = matrix(heads * size, hidden)
        weights[layer + "self_attn.k_proj.weight"] = matrix(kv_heads * size, hidden)
        weights[layer + "self_attn.v_proj.weight"] = matrix(kv_heads * size, hidden)
        weights[layer + "self_attn.o_proj.weight"] = matrix(hidden, heads * size)
        weights[layer + "mlp.gate_proj.weight"] = matrix(wide, hidden)
        weights[layer + "mlp.up_proj.weight"] = matrix(wide, hidden)
        weights[layer + "mlp.down_proj.weight"] = matrix(hidden, wide)
        weights[layer + "input_layernorm.weight"] = np.ones(hidden, np.float32)
        weights[layer + "post_attention_layernorm.weight"] = np.ones(hidden, np.float32)
    weights["model.norm.weight"] = np.ones(hidden, np.float32)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": tiny.VOCAB,
        "hidden_size": hidden,
        "intermediate_size": wide,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": size,
        "max_position_embeddings": tiny.CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "bos_token_id": None,
        "eos_token_id": 0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }
    with tempfile.TemporaryDirectory() as folder:
        tiny.write_tokenizer(Path(folder))
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    files["config.json"] = json.dumps(config, indent=1).encode()
    files["generation_config.json"] = b'{"eos_token_id": 0}'
    files["README.md"] = (card or "---\nlicense: apache-2.0\nlanguage: en\n---\n# A tiny model\n").encode()
    files["LICENSE"] = b"Apache License, Version 2.0\n"
    files[".gitattributes"] = b"*.safetensors filter=lfs\n"
    if shards == 1:
        return {**files, "model.safetensors": save(weights, metadata={"format": "pt"})}
    return {**files, **_sharded(weights, shards)}


def _sharded(weights: dict[str, Any], shards: int) -> dict[str, bytes]:
    from safetensors.numpy import save

    names = list(weights)
    place = {name: f"model-{index % shards + 1:05d}-of-{shards:05d}.safetensors" for index, name in enumerate(names)}
    files = {
        shard: save({name: weights[name] for name in names if place[name] == shard}, metadata={"format": "pt"})
        for shard in sorted(set(place.values()))
    }
    total = sum(int(array.nbytes) for array in weights.values())
    index = {"metadata": {"total_size": total}, "weight_map": place}
    return {**files, "model.safetensors.index.json": json.dumps(index).encode()}
