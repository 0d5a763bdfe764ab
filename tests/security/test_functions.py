"""Every function of the page, called with values that no page sends: an answer or words of ours, soon and in few."""

from __future__ import annotations

import asyncio
import gc
import time
import traceback
import warnings
from typing import Any

import gradio as gr
import pytest
from gradio.state_holder import SessionState
from starlette.requests import Request as StarletteRequest

from playground.service import Playground
from playground.ui import failures
from playground.ui.page import build_ui

pytestmark = [pytest.mark.hostile, pytest.mark.parallel]

MARK = "Hostile"
"""In each text, so that a log that quotes it is found."""
WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**30,
    float("nan"),
    float("-inf"),
    MARK * 20_000,
    f"{MARK}\x00\x1b[2J\u202e\ud7ff",
    f"../../{MARK}",
    "path:/etc/passwd",
    [],
    [MARK],
    [[MARK * 1_000]],
    [None, 1, [MARK, [MARK]]],
    {MARK: 1},
)
"""What JSON can say; of objects the middleware lets in only some."""
MOST_S = 5.0
"""For one call, on a machine that does much else."""
MOST_LOGGED = 1_000
STEPS = 2
"""Of an answer that goes on."""


async def call(demo: gr.Blocks, state: SessionState, number: int, values: list[Any]) -> str:
    """Call a function as gradio does below its web server; returns the words of a refusal, if it is one."""
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "query_string": b"",
        "headers": [],
        "client": None,
    }
    request = gr.Request(StarletteRequest(scope), session_hash="hostile")
    iterator: Any = None
    try:
        for _ in range(STEPS):
            told = await demo.process_api(demo.fns[number], values, state=state, request=request, iterator=iterator)
            iterator = told["iterator"]
            if not told["is_generating"]:
                break
    except gr.Error as error:
        assert not error.print_exception
        return str(error.message)
    finally:
        if hasattr(iterator, "aclose"):
            await iterator.aclose()
    return ""


def test_no_function_of_the_page_breaks_at_a_value_of_another_kind(
    playground: Playground, caplog: pytest.LogCaptureFixture
) -> None:
    demo = build_ui(playground)
    failures.bounded(demo)
    wrong: list[str] = []
    calls = 0
    state = SessionState(demo)

    async def every() -> None:
        nonlocal calls
        for number, function in demo.fns.items():
            if function.fn is None:
                continue
            usual = [getattr(part, "value", None) for part in function.inputs]
            tries = [[value] * len(usual) for value in WRONG] if usual else [[]]
            for values in tries:
                caplog.clear()
                began = time.monotonic()
                with warnings.catch_warnings(record=True) as warned:
                    warnings.simplefilter("always")
                    try:
                        async with asyncio.timeout(MOST_S):
                            said = await call(demo, state, number, values)
                    except Exception as error:
                        said = ""
                        wrong.append(f"{function.api_name}: {''.join(traceback.format_exception(error))[-600:]}")
                calls += 1
                about = f"{number} {function.api_name} of {str(values)[:80]}"
                if time.monotonic() - began > MOST_S:
                    wrong.append(f"{about}: took too long")
                if len(said) > failures.MOST_CHARS:
                    wrong.append(f"{about}: says {len(said)} characters")
                for record in caplog.records:
                    line = record.getMessage()
                    if record.exc_info or len(line) > MOST_LOGGED or "\n" in line or "\x1b" in line:
                        wrong.append(f"{about}: logs {line[:300]} {str(record.exc_info)[:200]}")
                wrong.extend(f"{about}: warns {str(each.message)[:200]}" for each in warned)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()  # loops that pages of other tests left behind warn when they go, and are none of these calls'
    asyncio.run(every())
    assert wrong == []
    assert calls > 600
