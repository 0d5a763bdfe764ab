"""Where Ollama and LM Studio keep their models on this machine: as their own settings say, or as ours override them.

    PLAYGROUND_OLLAMA    the folder with Ollama's manifests and blobs, or ``off``
    PLAYGROUND_LMSTUDIO  the folder with LM Studio's models, or ``off``

Else ``OLLAMA_MODELS`` and the usual places below ``HOME`` count, and of LM Studio what its settings and its home
pointer say. It knows folders; what lies in them, ``catalog.stores`` knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_SETTINGS = 1_000_000


def ollama_folders(env: Mapping[str, str]) -> tuple[Path, ...]:
    """Those that are there, the likeliest first."""
    if named := env.get("OLLAMA_MODELS", "").strip():
        return _folders(env, "PLAYGROUND_OLLAMA", [Path(named).expanduser()])
    home = _home(env)
    # Its installer for Linux runs it as a user of its own.
    usual = [home / ".ollama/models", Path("/usr/share/ollama/.ollama/models")] if home else []
    return _folders(env, "PLAYGROUND_OLLAMA", usual)


def lmstudio_folders(env: Mapping[str, str]) -> tuple[Path, ...]:
    """Those that are there, the likeliest first."""
    home = _home(env)
    if home is None:
        return _folders(env, "PLAYGROUND_LMSTUDIO", [])
    own = home / ".lmstudio"
    try:
        pointed = (home / ".lmstudio-home-pointer").read_text(encoding="utf-8").strip()
        own = Path(pointed).expanduser() if pointed else own
    except (OSError, ValueError, RuntimeError):
        pass
    places = [own / "models", home / ".cache/lm-studio/models"]
    chosen = _settings(own / "settings.json").get("downloadsFolder")
    if isinstance(chosen, str) and chosen.strip():
        places.insert(0, Path(chosen))
    return _folders(env, "PLAYGROUND_LMSTUDIO", places)


def _home(env: Mapping[str, str]) -> Path | None:
    return Path(env["HOME"]) if env.get("HOME") else None


def _folders(env: Mapping[str, str], variable: str, usual: list[Path]) -> tuple[Path, ...]:
    named = env.get(variable, "").strip()
    if named.lower() == "off":
        return ()
    places = [Path(named).expanduser()] if named else usual
    return tuple(dict.fromkeys(place for place in places if place.is_dir()))


def _settings(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_SETTINGS:
            return {}
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
