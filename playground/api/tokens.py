"""Texts as tokens and back, and what a chat template makes of messages: ``/tokenize``, ``/detokenize``,
``/apply-template``, as llama.cpp's server has them, and vLLM's.

It knows bodies and the service; it does not know connections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from playground.api.answering import Asker
from playground.api.errors import wrong
from playground.api.parameters import conversation
from playground.api.schema import DetokenizeBody, TemplateBody, TokenizeBody
from playground.messages import msg
from playground.records import Request

if TYPE_CHECKING:
    from playground.service import Playground


def named(playground: Playground, model: str) -> str:
    """The variant that is meant, by default the first that is served.

    Raises:
        UsageError: There is none of that name.
    """
    return str(playground.asked(model) if model else playground.default_variants()[0])


def tokenize(asker: Asker, body: TokenizeBody) -> dict[str, Any]:
    """Ids of a text or of a conversation, as they are and counted.

    Raises:
        ApiError, PlaygroundError: Nothing was sent, or it has no tokens here.
    """
    playground, model = asker.playground, named(asker.playground, body.model)
    text = body.content if body.content is not None else body.prompt
    if (text is None) == (not body.messages):
        raise wrong("content", msg("content, prompt or messages: one of them is wanted"), msg("Send one of them."))
    asker.make_ready(model)
    with playground.asking(asker.owner, asker.left, model):
        if text is None:
            ids = _view(playground, model, body).token_ids
        else:
            special = body.add_special if body.add_special_tokens is None else body.add_special_tokens
            ids = playground.encode(model, text, special=special, cancelled=asker.left)
        pieces = asker.spelling.pieces(model, ids, asker.left) if body.with_pieces else ()
    told: list[Any] = [{"id": id, "piece": piece} for id, piece in zip(ids, pieces, strict=False)] or list(ids)
    return {"tokens": told, "count": len(ids), "max_model_len": _length(playground, model)}


def detokenize(asker: Asker, body: DetokenizeBody) -> dict[str, Any]:
    """The text of ids.

    Raises:
        PlaygroundError: They are none of this model's, or only a server knows them.
    """
    model = named(asker.playground, body.model)
    asker.make_ready(model)
    with asker.playground.asking(asker.owner, asker.left, model):
        text = "".join(asker.spelling.pieces(model, body.tokens, asker.left))
    return {"content": text, "prompt": text}


def apply_template(asker: Asker, body: TemplateBody) -> dict[str, Any]:
    """What the model would read of a conversation.

    Raises:
        PlaygroundError: Its template refuses it.
    """
    model = named(asker.playground, body.model)
    asker.make_ready(model)
    with asker.playground.asking(asker.owner, asker.left, model):
        view = _view(asker.playground, model, body)
    told = [str(asker.playground.told(warning)) for warning in view.warnings]
    return {"prompt": view.rendered, "warnings": told}


def _view(playground: Playground, model: str, body: TokenizeBody | TemplateBody) -> Any:
    return playground.inspect(model, Request(messages=conversation(body.messages)))


def _length(playground: Playground, model: str) -> int | None:
    return playground.context_length(playground.asked(model)) or None
