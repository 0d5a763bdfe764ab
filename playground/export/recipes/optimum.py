"""The way for what is left: optimum's exporter, about a hundred architectures, then ONNX Runtime's rounding of weights.

optimum runs in a process of its own (``optimum_worker.py``) with the overlay on its path, because it needs transformers
4.57, which reads an older dialect of config.json than transformers 5 writes: ``older_config`` translates. Whether
optimum knows an architecture it says itself.
"""

from __future__ import annotations

import atexit
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playground.catalog.weight_files import packed_in
from playground.errors import ExportError, first_line
from playground.export.quantization import graph
from playground.export.quantization.blocks import QUANT_BLOCK
from playground.export.quantization.weights import Graph
from playground.export.recipes.base import Work
from playground.export.recipes.overlay import OverlayError, ensure_overlay, pins
from playground.export.weights import copy_side_files
from playground.messages import NOTHING, Translatable, msg
from playground.runtimes.torch.networks import load_network
from playground.sources.files import discard, of_the_disk
from playground.system.child import Ending, JsonChild
from playground.system.child_environment import CACHES, LIBRARIES, passed

log = logging.getLogger(__name__)

WORKER = Path(__file__).with_name("optimum_worker.py")
OPTIMUM_PRECISIONS = {
    # Blocks of 32 weights multiplied in int8 (quantization/graph.py); in int4 with the head in int8.
    "int8": {"bits": "8", "block_size": str(QUANT_BLOCK), "embedding": "8"},
    "int4": {"bits": "4", "block_size": str(QUANT_BLOCK), "embedding": "8", "finer": "8", "levels": "found again"},
    "fp32": {},
}
PARTS = ("encoder_model.onnx", "decoder_model_merged.onnx")
"""What is kept of an encoder-decoder export; the decoders without and with a past are both in the merged one."""


def build_optimum(work: Work) -> str:
    """Export with optimum, then round. See ``base.Build``."""
    stage = work.target / ".optimum"
    source, exported = stage / "source", stage / "exported"
    source.mkdir(parents=True)
    task = write_source(work.model, source)
    overlay = ensure_overlay(work.home, work.progress, lambda: False)
    work.progress(msg("exporting"), None)
    exporter_in(overlay).export(source, exported, task)
    names = PARTS if task.startswith("text2text") else ("model.onnx",)
    try:
        for name in names:
            work.progress(msg("rounding weights"), None)
            graph.rewrite(Graph.read(exported / name), work.target / name, graph.bits_of(work.options), work.progress)
    except MemoryError:
        raise
    except Exception as error:  # protobuf, onnx and the quantiser raise whatever happens to break
        if disk := of_the_disk(error):
            raise disk from error
        log.exception("rounding %s failed", exported)
        raise ExportError(
            msg(
                "its graph can't be rounded to {precision} ({kind})",
                precision=work.precision,
                kind=type(error).__name__,
            )
        ) from error
    shutil.rmtree(stage)
    copy_side_files(work.model, work.target)
    return work.precision


def write_source(model: Path, target: Path) -> str:
    """What optimum is given: the weights, linked, and a configuration in its dialect. Returns optimum's task.

    Weights of a GGUF file are unpacked for it: it has no reader for them that keeps to the file.
    """
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    plain = _plain(model, target)
    files = sorted(plain.glob("*.safetensors"))
    names = frozenset(name for file in files for name in _weight_names(file))
    (target / "config.json").write_text(json.dumps(older_config(config, names)), encoding="utf-8")
    for file in (*files, *plain.glob("*.safetensors.index.json")):
        (target / file.name).symlink_to(file.absolute())
    # The tokenizer stays away: transformers 4 does not read what transformers 5 writes, and nothing here needs it.
    if (model / "generation_config.json").is_file():
        shutil.copyfile(model / "generation_config.json", target / "generation_config.json")
    return "text2text-generation-with-past" if config.get("is_encoder_decoder") else "text-generation-with-past"


def _plain(model: Path, target: Path) -> Path:
    """The folder with the model's weights in safetensors."""
    if packed_in(model) is None:
        return model
    plain = target / "plain"
    load_network(model).model.save_pretrained(plain)
    return plain


def older_config(config: Mapping[str, Any], weights: frozenset[str] = frozenset()) -> dict[str, Any]:
    """A configuration as transformers 5 writes it, in words that transformers 4.57 reads.

    Rotary parameters are one dictionary now (one for each kind of layer in Gemma 3), where there were ``rope_theta``,
    ``rope_scaling``, ``partial_rotary_factor`` and, in GPT-NeoX, names of its own. T5 says in a field of its own
    whether its outputs are scaled, where that followed from tied embeddings.

    Args:
        config: The content of config.json.
        weights: Names of the tensors in the file.

    Raises:
        ExportError: transformers 4 has no words for it.
    """
    older = {name: value for name, value in config.items() if name not in ("rope_parameters", "transformers_version")}
    if "dtype" in older:
        older["torch_dtype"] = "float32"  # whatever its weights are stored as
        del older["dtype"]
    rope: dict[str, Any] = dict(config.get("rope_parameters") or {})
    if "full_attention" in rope:
        local = rope.get("sliding_attention") or rope["full_attention"]
        older["rope_local_base_freq"] = local["rope_theta"]
        rope = dict(rope["full_attention"])
    if rope:
        theta, share = rope.pop("rope_theta", None), rope.pop("partial_rotary_factor", None)
        neox = config.get("model_type") == "gpt_neox"
        if theta is not None:
            older["rotary_emb_base" if neox else "rope_theta"] = theta
        if share is not None:
            older["rotary_pct" if neox else "partial_rotary_factor"] = share
        older["rope_scaling"] = rope if rope.get("rope_type", "default") != "default" else None
    if "scale_decoder_outputs" in config:
        scaled = bool(older.pop("scale_decoder_outputs"))
        older["tie_word_embeddings"] = scaled
        if scaled == ("lm_head.weight" in weights):
            raise ExportError(msg("transformers 4 can't tell scaled outputs and a head of its own apart"))
    return older


def _weight_names(path: Path) -> frozenset[str]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return frozenset(file.keys())


class Exporter(JsonChild):
    """A running ``optimum_worker``. It ends with this process, or with ``close``.

    Raises:
        OverlayError: It does not start; the overlay is thrown away, so that the next attempt installs it anew.
        OSError: No process could be started.
    """

    def __init__(self, overlay: Path) -> None:
        environment = {**passed(LIBRARIES, CACHES), "PYTHONPATH": str(overlay), "PYTHONUNBUFFERED": "1"}
        # In our process group, as whoever started us wants to end it with us.
        super().__init__(WORKER, environment, stderr=None, own_group=False)
        try:
            self._answer()
        except ExportError:
            discard(overlay)
            raise OverlayError(
                msg("optimum can't be started in its own environment"), msg("Prepare the model again.")
            ) from None

    def export(self, model: Path, target: Path, task: str) -> None:
        """Export ``model`` into ``target``.

        Raises:
            ExportError: optimum does not know the architecture, fails, or died.
            OSError: The disk.
        """
        self.send({"model": str(model), "target": str(target), "task": task})
        answer = self._answer()
        if "error" in answer:
            if disk := of_the_disk(OSError(answer["error"])):
                raise disk
            raise ExportError(_reason(answer))

    def close(self) -> None:
        """End it: by its own will, or by SIGKILL."""
        self.finish()
        self.kill()

    def died(self, ending: Ending) -> ExportError:
        memory = msg(": is memory short?") if ending.killed else NOTHING
        return ExportError(msg("optimum's process ended early ({code}){memory}", code=ending.code, memory=memory))

    def _answer(self) -> dict[str, Any]:
        return next(self.messages(lambda: False))


_exporters: dict[Path, Exporter] = {}


def exporter_in(overlay: Path) -> Exporter:
    """The exporter of this process: importing optimum takes seconds, and one process may export more than once."""
    if overlay not in _exporters or not _exporters[overlay].alive:
        _exporters[overlay] = exporter = Exporter(overlay)
        atexit.register(exporter.close)
    return _exporters[overlay]


def _reason(answer: Mapping[str, str]) -> Translatable:
    """optimum's own words; its advice on how to teach it an architecture is for programmers.

    What it says of versions is meant of the overlay's, which nobody who reads it has seen: they are named.
    """
    said = answer["error"].split(", that is a custom or unsupported architecture")
    if len(said) > 1:
        return msg("optimum does not know this architecture")
    versions = pins()
    if "does not recognize this architecture" in answer["error"]:
        # Its advice to update would be followed in the application's environment, where it changes nothing here.
        return msg(
            "optimum works with transformers {version}, which does not know this architecture",
            version=versions["transformers"],
        )
    return msg(
        "optimum failed in its own environment of {packages} ({kind}: {reason})",
        packages=[f"{name} {versions[name]}" for name in ("optimum-onnx", "transformers")],
        kind=answer["type"],
        reason=first_line(answer["error"]),
    )
