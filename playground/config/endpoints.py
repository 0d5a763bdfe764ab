"""Models that somebody else serves: read from the configuration and checked, before anything is sent to anybody.

They stand in the ``app`` block of spaces.yaml, or, for people without the file, as JSON in ``PLAYGROUND_REMOTES``:

    remotes:
      - {name: big, url: "http://127.0.0.1:8000/v1", model: my-model, key_env: BIG_KEY}
      - {name: hosted, provider: auto, model: OWNER/NAME, key_env: HF_TOKEN}

A key is never part of it: ``key_env`` names the variable of the environment that holds it, and no message of this
module repeats a value in whose place a key could have been written. It does not know the protocol; that is
``runtimes/remote/``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from playground.config import validation
from playground.errors import ConfigError
from playground.messages import msg
from playground.records import Artifact, ModelSpec, Remote, Variant

ROUTER = "https://router.huggingface.co/v1"
"""Where all Inference Providers answer; https://huggingface.co/docs/inference-providers."""
VARIANT = "remote-served"
"""The one variant of a remote model: the precision is whatever its server chose."""
ENV = "PLAYGROUND_REMOTES"

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
            what = msg("{variable} is not valid JSON", variable=ENV)
            if isinstance(error, json.JSONDecodeError):
                what = msg("{variable} is not valid JSON at position {position}", variable=ENV, position=error.pos)
            raise ConfigError(what, msg('Write [{{"name": …, "url": …, "model": …}}].')) from None
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
    from playground.config.schema import EndpointBlock

    if not isinstance(block, list):
        raise ConfigError(
            msg("{place} is not a list", place=where),
            msg("Write a list of blocks with name, url or provider, and model."),
        )
    remotes: dict[str, Remote] = {}
    for position, item in enumerate(block):
        checked = validation.checked(EndpointBlock, item, f"{where}[{position}]")
        address = _base(checked.url) if checked.url else ROUTER
        further = tuple(map(_base, checked.replicas))
        remote = Remote(**checked.model_dump(exclude_unset=True) | {"url": address, "replicas": further})
        _check_addresses(remote, f"{where}[{position}]")
        if remote.name in remotes:
            raise ConfigError(
                msg("{place}: the name {name} stands twice", place=where, name=remote.name),
                msg("Give one of the two another name."),
            )
        remotes[remote.name] = remote
    return remotes


def _check_addresses(remote: Remote, place: str) -> None:
    """
    Raises:
        ConfigError: A provider has replicas, or one address stands twice: its server would count as two.
    """
    if remote.replicas and remote.provider:
        raise ConfigError(
            msg("{place} has both provider and replicas", place=place),
            msg("A provider has replicas of its own: leave them out, and say how many answers at once in at_once."),
        )
    twice = [address for address in remote.addresses if remote.addresses.count(address) > 1]
    if twice:
        raise ConfigError(
            msg("{place}: the address {address} stands twice", place=place, address=twice[0]),
            msg("Name each server once; at_once says how many answers it may be asked for at a time."),
        )


def _base(url: str) -> str:
    """As OpenAI's own client takes it: what stands before ``/chat/completions``. A bare host means its ``/v1``."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    for ending in _PATHS:
        path = path.removesuffix(ending)
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"
