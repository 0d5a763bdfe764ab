"""From whatever a source brought to one form: a folder as transformers writes it, weights in fp32.

Every export starts from this folder, torch loads it as it is, and prompting reads its tokenizer files. It knows
transformers; it does not know ONNX.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from playground.errors import ExportError
from playground.export.gguf_reading import quick_gguf
from playground.records import ModelSpec
from playground.sources.files import Progress, of_the_disk

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
SIDE_FILES = (*TOKENIZER_FILES, "config.json", "generation_config.json")
"""What stands beside the weights, in the import and, unchanged, in every export made from it."""


def copy_side_files(model: Path, target: Path) -> None:
    """Put the import's ``SIDE_FILES`` into an export, in place of what an exporter wrote."""
    for name in SIDE_FILES:
        (target / name).unlink(missing_ok=True)
        if (model / name).exists():
            shutil.copyfile(model / name, target / name)


def import_model(spec: ModelSpec, files: tuple[Path, ...], target: Path, progress: Progress) -> None:
    """Write model.safetensors and ``SIDE_FILES`` (a chat template only where there is one) into ``target``.

    Args:
        spec: Named in errors.
        files: From ``sources.fetch``: one GGUF file, or the files of a transformers folder.
        target: An empty folder.
        progress: Told the share of weights read.

    Raises:
        ExportError: The files hold no model that transformers can read.
    """
    progress("importing", None)
    try:
        _import(files, target, progress)
    except MemoryError:
        raise
    except Exception as error:  # transformers, gguf and safetensors raise whatever happens to break
        if disk := of_the_disk(error):
            raise disk from error
        raise ExportError(
            f"{spec.name} can't be read by transformers ({type(error).__name__}: {_first_line(error)})",
            "Check that the file is whole and that its architecture is one transformers knows.",
        ) from error
    missing = [name for name in ("tokenizer.json", "config.json", "model.safetensors") if not (target / name).exists()]
    if missing:
        raise ExportError(
            f"Importing {spec.name} gave no {' and no '.join(missing)}", "See the log in PLAYGROUND_HOME."
        )


def _import(files: tuple[Path, ...], target: Path, progress: Progress) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    folder = files[0].parent
    from_gguf = {"gguf_file": files[0].name} if files[0].suffix.lower() == ".gguf" else {}
    only: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with quick_gguf(lambda share: progress("importing", share)):
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, **only, **from_gguf)
        has_encoder = not from_gguf and AutoConfig.from_pretrained(folder, **only).is_encoder_decoder
        auto: Any = AutoModelForSeq2SeqLM if has_encoder else AutoModelForCausalLM
        model: Any = auto.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=not from_gguf or None, **only, **from_gguf
        )
    _forget_gguf(model)
    tokenizer.save_pretrained(target)
    _state_bos(tokenizer, target / "tokenizer_config.json")
    # One file: the largest model this is meant for is far below the size at which shards help.
    model.save_pretrained(target, max_shard_size="1000GB")
    model.generation_config.save_pretrained(target)


def _forget_gguf(model: Any) -> None:
    """The weights are plain fp32 by now, but transformers refuses to save what it calls quantised."""
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def _state_bos(tokenizer: Any, path: Path) -> None:
    """Say in words whether a text starts with the BOS token; transformers 5 leaves it to the post-processor."""
    said = getattr(tokenizer, "add_bos_token", None)
    config = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(said, bool):
        config["add_bos_token"] = said
    # Where the file happened to lie while it was read is nobody's business later.
    for key in ("local_files_only", "is_local", "gguf_file"):
        config.pop(key, None)
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
