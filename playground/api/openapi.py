"""The OpenAPI document of the door, made of the bodies' models, and a page that shows it and asks nobody else."""

from __future__ import annotations

import html
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from playground import __version__
from playground.api.schema import ChatBody, CompletionBody, DetokenizeBody, TemplateBody, TokenizeBody

PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>TITLE</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color-scheme: light dark }
h2 { font-size: 1.05rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% }
td, th { border-bottom: 1px solid #8886; padding: .3rem .6rem; text-align: left; vertical-align: top }
</style>
</head>
<body><main><h1>TITLE</h1>BODY</main></body>
</html>
"""
ABOUT = (
    "Models of the Open-Model Playground, asked in OpenAI's way. One answer at a time has the machine, so that its "
    "timings are true; callers take turns. Beside OpenAI's fields an answer has `timings` (by llama.cpp's names), "
    "`warnings`, and `receipt`: the id under which /v1/receipts says how each figure was taken."
)
BODIES: dict[str, tuple[type[BaseModel], str]] = {
    "/v1/chat/completions": (ChatBody, "Answer a conversation, by the model's own chat template."),
    "/v1/completions": (CompletionBody, "Go on from texts or token ids, or score them (echo with logprobs)."),
    "/tokenize": (TokenizeBody, "A text's token ids."),
    "/detokenize": (DetokenizeBody, "The text of token ids."),
    "/apply-template": (TemplateBody, "What a model would read of a conversation."),
}
READ = {
    "/v1/models": "The models that are served, and what is prepared besides.",
    "/v1/models/{name}": "One of them.",
    "/v1/receipts/{id}": "How the figures of an answer were taken, for the last answers of this server.",
    "/props": "How a model is asked where nothing is said; ?model=NAME, by default the first.",
    "/health": "That the server answers.",
}
STREAMS = ("/v1/chat/completions", "/v1/completions")
WRONG = {
    "400": "A parameter is wrong, unknown, or nothing that can be done here.",
    "401": "The API key is missing or wrong.",
    "403": "Called by another name, or by another website's page.",
    "404": "There is no such model.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "429": "Too many requests wait already.",
    "500": "The model failed.",
    "502": "The model's files can't be fetched.",
    "503": "Somebody who answers for us is not there, or too much arrives at once.",
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


@cache
def document() -> dict[str, Any]:
    """OpenAPI 3.1, https://spec.openapis.org/oas/v3.1.0."""
    bodies = [(body, "validation") for body, _ in BODIES.values()]
    _, schemas = models_json_schema(bodies, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    paths: dict[str, Any] = {path: {"post": _post(path, *told)} for path, told in BODIES.items()}
    paths |= {path: {"get": _get(path, about)} for path, about in READ.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Open-Model Playground", "version": __version__, "description": ABOUT},
        "paths": paths,
        "security": [{"key": []}, {}],
        "components": {
            "schemas": {**schemas["$defs"], "Error": ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _post(path: str, body: type[BaseModel], about: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{body.__name__}"}
    return {
        "summary": about,
        "operationId": path.removeprefix("/v1").strip("/").replace("/", "_").replace("-", "_"),
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": _responses(stream=path in STREAMS),
    }


def _get(path: str, about: str) -> dict[str, Any]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    found: dict[str, Any] = {"summary": about, "responses": _responses(stream=False)}
    if names:
        found["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in names
        ]
    if path == "/props":
        found["parameters"] = [{"name": "model", "in": "query", "schema": {"type": "string"}}]
    return found


def _responses(*, stream: bool) -> dict[str, Any]:
    kinds: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if stream:
        kinds["text/event-stream"] = {"schema": {"type": "string"}}
    wrong = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "200": {"description": "As OpenAI has it, and fields of our own.", "content": kinds},
        **{status: {"description": about, "content": wrong} for status, about in WRONG.items()},
    }


@cache
def page() -> str:
    """The document for a reader: no script, nothing from elsewhere."""
    found = document()
    parts = [f"<p>{html.escape(ABOUT)}</p>", '<p><a href="/v1/openapi.json">openapi.json</a></p>']
    for path, methods in found["paths"].items():
        for method, told in methods.items():
            parts.append(
                f"<h2><code>{method.upper()} {html.escape(path)}</code></h2><p>{html.escape(told['summary'])}</p>"
            )
            if path in BODIES:
                parts.append(_table(BODIES[path][0]))
    title = html.escape(found["info"]["title"])
    return PAGE.replace("TITLE", title).replace("BODY", "".join(parts))


def _table(body: type[BaseModel]) -> str:
    schema = body.model_json_schema()
    rows = []
    for name, told in schema["properties"].items():
        kind = html.escape(_kind(told))
        needed = "" if name in schema.get("required", ()) else html.escape(_default(told))
        about = html.escape(told.get("description", ""))
        rows.append(f"<tr><td><code>{name}</code></td><td>{kind}</td><td>{needed}</td><td>{about}</td></tr>")
    head = "<tr><th>Parameter</th><th>Type</th><th>Default</th><th></th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _kind(told: dict[str, Any]) -> str:
    if "anyOf" in told:
        return " | ".join(kind for each in told["anyOf"] if (kind := _kind(each)) != "null")
    if "$ref" in told:
        return str(told["$ref"]).rpartition("/")[2]
    if told.get("type") == "array":
        return f"[{_kind(told.get('items', {}))}]"
    return str(told.get("type", "any"))


def _default(told: dict[str, Any]) -> str:
    value = told.get("default")
    return "" if value in (None, "", []) else str(value).lower() if isinstance(value, bool) else str(value)
