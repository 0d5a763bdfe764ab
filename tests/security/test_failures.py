"""A call that can't be answered costs the log a line and tells its sender nothing of what lies inside."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import gradio as gr
import pytest

from playground.config.hosts import Hosts
from playground.errors import UsageError
from playground.messages import msg
from playground.ui import failures
from playground.ui.middleware import Doors, Guard

pytestmark = pytest.mark.hostile

LONG = "x" * 1_000_000


class Demo:
    """A page whose one function fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def process_api(self, *_: Any, **__: Any) -> Any:
        raise self._error


def told(error: Exception) -> gr.Error:
    demo = Demo(error)
    failures.bounded(demo)  # type: ignore[arg-type]
    with pytest.raises(gr.Error) as caught:
        asyncio.run(demo.process_api())
    return caught.value


def test_a_choice_that_there_is_not_is_told_in_few_letters(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    error = told(gr.Error(f"Value: {LONG}\n\x1b[2J is not in the list of choices"))
    assert str(error.message).startswith("Value: xxx")
    assert len(str(error.message)) <= failures.MOST_CHARS
    assert not error.print_exception
    assert len(caplog.records) == 1
    assert len(caplog.text) < 500
    assert "\x1b" not in caplog.text


def test_pythons_own_words_stay_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    error = told(TypeError(f"unhashable type: 'list' {LONG}\nsecond line"))
    assert "unhashable" not in str(error.message)
    assert not error.print_exception
    [record] = caplog.records
    assert record.exc_info is None
    said = record.getMessage()
    assert "TypeError: unhashable" in said
    assert "test_failures.py:" in said
    assert "\n" not in said
    assert len(said) < 600


def test_our_own_errors_keep_their_words() -> None:
    error = told(UsageError(msg("That is wrong"), msg("Try another.")))
    assert str(error.message).startswith("That is wrong. Try another")


def test_what_a_function_could_not_answer_is_no_fault_of_the_server() -> None:
    """Gradio answers 500 whatever a function raised; of any other address that is what it is."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def status(method: str, path: str) -> int:
        given = {"host": "localhost", "origin": "http://localhost", "content-type": "application/json"}
        headers = [(name.encode(), value.encode()) for name, value in given.items()]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b'{"data": [], "fn_index": 7}', "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {"type": "http", "method": method, "path": path, "headers": headers}
        await Guard(broken, Hosts("127.0.0.1"), Doors(frozenset({7})))(scope, receive, send)
        return int(sent[0]["status"])

    assert asyncio.run(status("POST", "/gradio_api/run/predict")) == 422
    assert asyncio.run(status("GET", "/config")) == 500
