"""What a client is told when something is wrong: OpenAI's shape of an error, and the status of each of ours.

``{"error": {"message", "type", "param", "code"}}``, https://platform.openai.com/docs/guides/error-codes. It knows
errors; it does not know what was asked.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from playground import errors
from playground.errors import PlaygroundError
from playground.messages import Translatable, msg, sentences
from playground.system.reserve import is_shortage, out_of_memory, spend

INVALID, SERVER, BUSY = "invalid_request_error", "server_error", "rate_limit_error"

STATUS: dict[type[PlaygroundError], tuple[int, str, str | None]] = {
    errors.UnknownModel: (404, INVALID, "model_not_found"),
    errors.UnknownVariant: (404, INVALID, "model_not_found"),
    errors.UsageError: (400, INVALID, None),
    errors.ContextOverflow: (400, INVALID, "context_length_exceeded"),
    errors.DoesNotFit: (400, INVALID, "model_does_not_fit"),
    errors.Busy: (429, BUSY, "rate_limit_exceeded"),
    errors.Unavailable: (503, SERVER, "upstream_unavailable"),
    errors.SourceError: (502, SERVER, "model_unavailable"),
    errors.ExportError: (500, SERVER, "model_not_prepared"),
    errors.SchemaNotHeld: (400, INVALID, "schema_not_held"),
    errors.WorkerDied: (500, SERVER, "model_died"),
    errors.WorkerStalled: (500, SERVER, "model_stalled"),
    errors.StorageError: (500, SERVER, "storage"),
    errors.OutOfMemory: (503, SERVER, "out_of_memory"),
    errors.RunError: (500, SERVER, "model_failed"),
}
"""Status, type and code of each class; the nearest one counts."""

_log = logging.getLogger(__name__)


class ApiError(Exception):
    """What is answered in place of what was asked for.

    Args:
        status: Of HTTP.
        message: What is wrong and what to do.
        param: The parameter that is wrong.
        code: A word for programs.
        headers: More of the answer's.
    """

    def __init__(
        self,
        status: int,
        message: Translatable,
        *,
        kind: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        return {"error": {"message": str(self.message), "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        headers = dict(self.headers)
        if self.status >= 500:
            headers["x-should-retry"] = "false"  # OpenAI's clients would send it twice more, and fail again
        return JSONResponse(self.body(), self.status, headers)


def wrong(param: str | None, what: Translatable, next_step: Translatable, *, code: str | None = None) -> ApiError:
    """A parameter that can't be used."""
    return ApiError(400, sentences(msg("{sentence}.", sentence=what), next_step), param=param, code=code)


def of(error: BaseException) -> ApiError:
    """Any error as a client is told it. One that nobody foresaw is ours: its traceback goes into the log."""
    if isinstance(error, ApiError):
        return error
    if is_shortage(error):
        spend()
        error = out_of_memory()
    if isinstance(error, PlaygroundError):
        told = _of(type(error), error.message, error.retry_after_s if isinstance(error, errors.Busy) else 1.0)
        told.param = _param(error)
        return told
    _log.error("a request", exc_info=error)
    return ApiError(
        500,
        msg("{kind}: this is a bug of the playground; its log has the details.", kind=type(error).__name__),
        kind=SERVER,
        code="internal_error",
    )


def _param(error: PlaygroundError) -> str | None:
    """The parameter that a request was refused for: messages about one begin with its name."""
    if isinstance(error, errors.UnknownModel | errors.UnknownVariant):
        return "model"
    name = re.match(r"[a-z_]+", error.what.values.get("field", "") if error.what.template else "")
    found = name[0] if name else re.match(r"(stop)\[", error.what) and "stop"
    return {"prompt_ids": "prompt"}.get(found, found) if found else None


def of_run(kind: str | None, message: Translatable) -> ApiError:
    """The error of a run, told by its class's name."""
    found = getattr(errors, kind or "", None)
    is_ours = isinstance(found, type) and issubclass(found, PlaygroundError)
    return _of(found if is_ours and found else errors.RunError, message)


def _of(kind: type[PlaygroundError], message: Translatable, retry_after_s: float = 1.0) -> ApiError:
    for each in kind.__mro__:
        if each in STATUS:
            status, type_, code = STATUS[each]
            headers = {"Retry-After": str(math.ceil(retry_after_s))} if status == 429 else {}
            return ApiError(status, message, kind=type_, code=code, headers=headers)
    return ApiError(500, message, kind=SERVER)
