"""A call that can't be answered costs the log a line and tells its sender nothing of what lies inside."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import gradio as gr
import pytest

from playground.errors import UsageError
from playground.messages import msg
from playground.ui import failures

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
