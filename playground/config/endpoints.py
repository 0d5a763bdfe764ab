"""Models that somebody else serves: read from the configuration and checked, before anything is sent to anybody.

They stand in the ``app`` block of spaces.yaml, or, for people without the file, as JSON in ``PLAYGROUND_REMOTES``:

    remotes:
      - {name: big, url: "http://127.0.0.1:8000/v1", model: my-model, key_env: BIG_KEY}
      - {name: hosted, provider: auto, model: OWNER/NAME, key_env: HF_TOKEN}

A key is never part of it: ``key_env`` names the variable of the environment that holds it, and no message of this
module repeats a value in whose place a key could have been written. It does not know the protocol; that is
``runtimes/remote.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from playground.config import validation
from playground.errors import ConfigError
from playground.records import Artifact, ModelSpec, Remote, Variant

ROUTER = "https://router.huggingface.co/v1"
"""Where all Inference Providers answer; https://huggingface.co/docs/inference-providers."""
VARIANT = "remote-served"
"""The one variant of a remote model: the precision is whatever its server chose."""
ENV = "PLAYGROUND_REMOTES"
MAX_TIMEOUT_S = 600.0

_SECRET_WORDS = {"key", "api_key", "apikey", "token", "password", "secret", "authorization"}
_PATHS = ("/chat/completions", "/completions", "/models")


def load_remotes(block: Any, env: Mapping[str, str], where: str) -> tuple[Remote, ...]:
    """The remotes of spaces.yaml and of the environment; of two with one name, the environment's counts.

    Args:
        block: The value of ``remotes`` in the ``app`` block; None if there is none.
        where: The file it was read from, for messages.

    Raises:
        ConfigError: With the place and the next step, never with a value that could hold a secret.
    """
    remotes = _read(block, f"{where}: app.remotes") if block is not None else {}
    if text := env.get(ENV, "").strip():
        try:
            given = json.loads(text)
        except (ValueError, RecursionError) as error:  # its message may quote the text, and a key may be in that
            place = f" at position {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
            raise ConfigError(f"{ENV} is not valid JSON{place}", 'Write [{"name": …, "url": …, "model": …}].') from None
        remotes |= _read(given, ENV)
    return tuple(remotes.values())


def remote_spec(remote: Remote) -> ModelSpec:
    """The model as the rest of the playground sees it."""
    runtime, _, precision = VARIANT.partition("-")
    return ModelSpec(
        id=f"remote:{remote.name}",
        name=f"{remote.model} at {host(remote)}",
        source=f"remote:{remote.name}",
        revision="",
        runtime=runtime,
        precision=precision,
        context_length=remote.context_length,
        kind=remote.kind,
        precisions=(VARIANT,),
        upstream=remote.model if remote.provider else "",
        remote=remote,
    )


def remote_artifact(variant: Variant) -> Artifact:
    """There is nothing on this machine: no file, no recipe, no checksum."""
    return Artifact(variant, path="", recipe="none", revision="", sha256="", size_bytes=0)


def host(remote: Remote) -> str:
    """Whom the requests go to, for readers: host and port."""
    return urlsplit(remote.url).netloc


def _read(block: Any, where: str) -> dict[str, Remote]:
    if not isinstance(block, list):
        raise ConfigError(f"{where} is not a list", "Write a list of blocks with name, url or provider, and model.")
    remotes: dict[str, Remote] = {}
    for position, item in enumerate(block):
        remote = _remote(item, f"{where}[{position}]")
        if remote.name in remotes:
            raise ConfigError(f"{where}: the name {remote.name} stands twice", "Give one of the two another name.")
        remotes[remote.name] = remote
    return remotes


def _remote(item: Any, where: str) -> Remote:
    if not isinstance(item, dict):
        raise ConfigError(f"{where} is not a block of keys", f"Known keys: {', '.join(_KEYS)}.")
    for key in item:
        if str(key).lower() in _SECRET_WORDS:
            raise ConfigError(
                f"{where} has '{key}': keys don't belong into a configuration",
                "Put the key into an environment variable and its name into key_env.",
            )
        if key not in _KEYS:
            raise ConfigError(f"{where}: unknown key '{key}'", validation.closest(str(key), _KEYS))
    for key in ("name", "model"):
        if key not in item:
            raise ConfigError(f"{where}: the key '{key}' is missing", f"Add {key}.")
    for key, value in item.items():
        _KEYS[key](value, f"{where}.{key}")
    return _with_address(item, where)


def _with_address(item: dict[str, Any], where: str) -> Remote:
    if ("url" in item) == ("provider" in item):
        found = "both url and provider" if "url" in item else "neither url nor provider"
        raise ConfigError(f"{where} has {found}", "Give one of them.")
    if "url" in item:
        return Remote(**item | {"url": _base(item["url"])})
    if item.get("kind") == "base":
        raise ConfigError(
            f"{where} asks a provider for a base model; Inference Providers are reached by chat only",
            "Use kind: chat, or give the url of a server with /v1/completions.",
        )
    if "key_env" not in item:
        raise ConfigError(f"{where} has a provider but no key_env", "Add key_env: HF_TOKEN and set that variable.")
    return Remote(**item, url=ROUTER)


def _base(url: str) -> str:
    """As OpenAI's own client takes it: what stands before ``/chat/completions``. A bare host means its ``/v1``."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    for ending in _PATHS:
        path = path.removesuffix(ending)
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def _name(value: Any, where: str) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", value):
        raise ConfigError(f"{where} may have a-z, 0-9, '.', '_' and '-' only", "It becomes the remote:NAME you type.")


def _address(value: Any, where: str) -> None:
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or re.search(r"[\s\x00-\x1f\x7f]", value):
        raise ConfigError(f"{where} is not an http(s) address", "Write for example http://127.0.0.1:8000/v1.")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"{where} holds a user name, a password or a query", "Leave them out; a key's variable goes into key_env."
        )


def _variable(value: Any, where: str) -> None:
    # Capitals only: most keys have small letters or dashes, so one pasted here is refused without being repeated.
    if not isinstance(value, str) or not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
        raise ConfigError(
            f"{where} is not the name of an environment variable (A-Z, 0-9 and _)",
            "Name the variable that holds the key; never write the key itself here.",
        )


def _seconds(value: Any, where: str) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= MAX_TIMEOUT_S:
        raise ConfigError(
            f"{where} must be a number of seconds above 0, {MAX_TIMEOUT_S:g} at most, not {value!r}", "Mend it."
        )


def _model(value: Any, where: str) -> None:
    if not isinstance(value, str) or not value.strip() or re.search(r"[\x00-\x1f\x7f]", value):
        raise ConfigError(f"{where} must be text", "Write the name the server knows the model by.")


def _provider(value: Any, where: str) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", value):
        raise ConfigError(
            f"{where} is not the name of an Inference Provider", "Write auto, or a name such as together."
        )


_KEYS: dict[str, validation.Check] = {
    "name": _name,
    "url": _address,
    "provider": _provider,
    "model": _model,
    "key_env": _variable,
    "kind": validation.one_of("chat", "base"),
    "context_length": validation.count,
    "timeout_s": _seconds,
}
