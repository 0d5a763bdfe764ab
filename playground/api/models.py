"""Which models there are: ``/v1/models``, ``/props`` and ``/health``, as OpenAI's and llama.cpp's servers have them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from playground import __version__
from playground.api.tokens import named
from playground.records import Request, Variant

if TYPE_CHECKING:
    from playground.service import Playground


def listed(playground: Playground) -> dict[str, Any]:
    """Those that this server was told to serve, and what is prepared besides. Others of the catalogue may be named
    too, and are prepared first.
    """
    return {"object": "list", "data": [_model(playground, each) for each in playground.ready_variants()]}


def one(playground: Playground, name: str) -> dict[str, Any]:
    """One of them.

    Raises:
        UsageError: There is none of that name.
    """
    return _model(playground, playground.asked(name))


def _model(playground: Playground, variant: Variant) -> dict[str, Any]:
    spec, state = playground.resolve(str(variant))[0], playground.preparation(variant)
    made = state.artifact.created_at if state.artifact else ""
    return {
        "id": str(variant),
        "object": "model",
        "created": _seconds(made),
        "owned_by": spec.upstream.partition("/")[0] or "local",
        "meta": {
            "name": spec.name,
            "kind": spec.kind,
            "status": state.status,
            "n_ctx": playground.context_length(variant) or None,
            "size": state.artifact.size_bytes if state.artifact else None,
        },
    }


def _seconds(stamp: str) -> int:
    try:
        return int(datetime.fromisoformat(stamp).timestamp())
    except ValueError:
        return 0


def props(playground: Playground, model: str) -> dict[str, Any]:
    """How a model is asked where nothing is said.

    Raises:
        UsageError: There is none of that name.
    """
    variant = playground.asked(named(playground, model))
    usual, limits = Request(), playground.settings.limits
    return {
        "model_alias": str(variant),
        "total_slots": 1,
        "build_info": f"open-model-playground-{__version__}",
        "chat_template": playground.chat_template(variant),
        "default_generation_settings": {
            "n_ctx": playground.context_length(variant) or None,
            "params": {
                "temperature": usual.temperature,
                "top_k": usual.top_k,
                "top_p": usual.top_p,
                "min_p": usual.min_p,
                "repeat_penalty": usual.repetition_penalty,
                "n_predict": limits.max_new_tokens,
            },
        },
    }


def health() -> dict[str, Any]:
    """That the server answers; no model is asked."""
    return {"status": "ok"}
