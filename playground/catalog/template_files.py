"""Where a chat template lies in a model's files, and which tokens it may name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playground.errors import RunError
from playground.messages import foreign, msg

TEMPLATE_FILE = "chat_template.jinja"
PREPARE_AGAIN = msg("Prepare the model again.")

NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def find_template(folder: Path) -> str | None:
    """The template of a folder by transformers' own order; None where there is none.

    First the tokenizer's: chat_template.jinja and additional_chat_templates/, which count together and before
    tokenizer_config.json; of several the one called "default". Where the tokenizer has none, the processor's:
    processor_config.json, then chat_template.json.

    Raises:
        RunError: A file can't be read.
    """
    files = _template_files(folder)
    template = files or read_json(folder / "tokenizer_config.json").get("chat_template")
    if not template:
        template = read_json(folder / "processor_config.json").get("chat_template")
    return _default(template or read_json(folder / "chat_template.json").get("chat_template"))


def bring_template(source: Path, target: Path) -> bool:
    """Give an imported tokenizer the template of its source's processor, where its own files have none.

    Args:
        source: The original files.
        target: What transformers' ``save_pretrained`` of the tokenizer wrote.

    Returns:
        Whether chat_template.jinja was written.
    """
    if find_template(target) is not None:
        return False
    template = find_template(source)
    if template is not None:
        (target / TEMPLATE_FILE).write_text(template, encoding="utf-8")
    return template is not None


def named_tokens(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The tokens a template may call by name, as transformers' ``special_tokens_map`` has them.

    Args:
        folder: Holds special_tokens_map.json where the tokenizer is an old one.
        config: tokenizer_config.json.
    """
    said = dict(config)
    if "added_tokens_decoder" not in config:
        said |= read_json(folder / "special_tokens_map.json")
    for group in ("extra_special_tokens", "model_specific_special_tokens"):
        named = said.get(group)
        said |= named if isinstance(named, dict) else {}
    named = {name: _content(token) for name, token in said.items() if name.endswith("_token") or name in NAMED_TOKENS}
    for group in ("extra_special_tokens", "model_specific_special_tokens"):
        more = said.get(group)
        named |= {name: _content(token) for name, token in more.items()} if isinstance(more, dict) else {}
    return {name: token for name, token in named.items() if token}


def read_json(path: Path, *, or_empty: bool = False) -> dict[str, Any]:
    """A JSON object; {} where there is no such file.

    Args:
        or_empty: Take a file that can't be read for one that is not there: whoever needs it will say what is wrong.

    Raises:
        RunError: The file is there and can't be read.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        if or_empty:
            return {}
        reason = foreign(str(error))
        raise RunError(msg("{file} can't be read ({reason})", file=path.name, reason=reason), PREPARE_AGAIN) from error
    return document if isinstance(document, dict) else {}


def _template_files(folder: Path) -> dict[str, str]:
    files = {path.stem: path for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    files = {"default": folder / TEMPLATE_FILE} | files if (folder / TEMPLATE_FILE).is_file() else files
    try:
        return {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    except (OSError, ValueError) as error:
        reason = foreign(str(error))
        raise RunError(msg("A chat template can't be read ({reason})", reason=reason), PREPARE_AGAIN) from error


def _default(template: Any) -> str | None:
    """One of several, which are spelt as a list of name and template, or as an object."""
    if isinstance(template, list):
        pairs = [entry for entry in template if isinstance(entry, dict)]
        template = {entry.get("name"): entry.get("template") for entry in pairs}
    if isinstance(template, dict):
        template = template.get("default")
    return template if isinstance(template, str) and template else None


def _content(token: Any) -> str:
    """A token's text; files have it plain or as an object."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""
