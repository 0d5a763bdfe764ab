"""The hosted Space's configuration: spaces.yaml → README front matter.

A Space is configured by the YAML block on top of README.md; nothing on the Hub reads spaces.yaml. Here spaces.yaml is
the one source, and that block is rendered from its ``space`` part. The keys are those of the Spaces configuration
reference, https://huggingface.co/docs/hub/spaces-config-reference. The module knows nothing of how models run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from playground.config import validation
from playground.errors import ConfigError
from playground.messages import Translatable, msg

HUB_LOGIN = "hugging-face"
"""The ``app.login`` that takes OAuth of the Hub's."""
OAUTH = "hf_oauth"


def front_matter(space: dict[str, Any]) -> str:
    """The block between (and with) the ``---`` lines."""
    body = yaml.safe_dump(space, sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{body}---\n"


def with_login(space: dict[str, Any], app: Any) -> dict[str, Any]:
    """The ``space`` block with what ``app.login`` asks of it: the Hub gives OAuth to Spaces that say so."""
    asks = isinstance(app, dict) and app.get("login") == HUB_LOGIN
    return {**space, OAUTH: True} if asks and OAUTH not in space else space


def split_readme(text: str) -> tuple[str, str]:
    """Front matter (empty if there is none) and the rest."""
    match = re.match(r"---\r?\n.*?^---\r?\n", text, flags=re.DOTALL | re.MULTILINE)
    return (match[0], text[match.end() :]) if match else ("", text)


def render_readme(space_file: Path, readme: Path) -> bool:
    """Write the block on top of the README and keep the rest; returns whether it changed.

    Raises:
        ConfigError: spaces.yaml has no ``space`` block, or the README can't be read or written.
    """
    wanted = front_matter(space_block(space_file))
    text = read_text(readme) if readme.exists() else ""
    block, rest = split_readme(text)
    if block == wanted:
        return False
    try:
        readme.write_text(wanted + rest, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            msg("{file} can't be written ({error})", file=readme, error=error.strerror),
            msg("Check its permissions."),
        ) from error
    return True


def served_words(space_file: Path) -> Translatable:
    """Which models a Space serves, with the Hub and without.

    Raises:
        ConfigError: spaces.yaml can't be read.
    """
    app = _app_block(space_file)
    own, always = app.get("space_models"), app.get("models")
    if not own:
        return msg("A Space serves {models}.", models=always or [])
    return msg("A Space serves {models}; where the Hub can't be reached, {others}.", models=own, others=always or [])


def _app_block(space_file: Path) -> dict[str, Any]:
    document = validation.read_yaml(space_file)
    app = document.get("app") if isinstance(document, dict) else None
    return app if isinstance(app, dict) else {}


def space_block(path: Path) -> dict[str, Any]:
    """The ``space`` block of spaces.yaml, with what the login asks of it.

    Raises:
        ConfigError: There is none.
    """
    document = validation.read_yaml(path)
    space = document.get("space") if isinstance(document, dict) else None
    if not isinstance(space, dict) or not space:
        raise ConfigError(msg("{file} has no space block", file=path), msg("Restore spaces.yaml."))
    return with_login(space, document.get("app"))


def read_text(path: Path) -> str:
    """A file of the project.

    Raises:
        ConfigError: It can't be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            msg("{file} can't be read ({error})", file=path, error=error.strerror), msg("Restore the file.")
        ) from error
