"""What becomes of a call that a function of the page can't answer: the caller is told in few words, the log in a line.

The page sends its functions what they take. Whoever writes calls by hand sends anything: then gradio, or Python,
objects with a text that holds all of what was sent, and prints it with a traceback. A megabyte in a log for each such
call, and the words of a ``TypeError`` for whoever reads the answer, help nobody.
"""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

import gradio as gr

from playground.errors import PlaygroundError
from playground.messages import msg, spelt_out
from playground.system.reserve import is_shortage, out_of_memory, spend
from playground.ui.i18n import say

log = logging.getLogger(__name__)

MOST_CHARS = 300
FRAMES = 8
REFUSED = msg("That can't be answered: what was sent is not what this function takes.")


def bounded(demo: gr.Blocks) -> None:
    """Have errors of the page's functions told so, from now on."""
    gr.Dropdown._warn_if_invalid_choice = _unlisted
    process = demo.process_api

    async def process_api(*given: Any, **more: Any) -> Any:
        try:
            return await process(*given, **more)
        except gr.Error as error:  # the app's own words, or gradio's of a choice that there is not
            error.message = short(str(error.message))
            if error.print_exception:
                log.info("a call was refused: %s", error.message)
                error.print_exception = False
            raise
        except PlaygroundError as error:
            raise gr.Error(short(say(error.message)), print_exception=False) from None
        except Exception as error:
            if is_shortage(error):
                spend()
                raise gr.Error(short(say(out_of_memory().message)), print_exception=False) from None
            log.warning("a call failed: %s", line_of(error), extra={"kind": type(error).__name__})
            raise gr.Error(say(REFUSED), print_exception=False) from None

    demo.process_api = process_api


def _unlisted(box: gr.Dropdown, value: Any) -> None:
    """In place of gradio's warning, which holds all of a value that is not in the list, and whatever it is."""
    if not box.allow_custom_value and value not in [each for _, each in box.choices]:
        log.info("not in the list of %s: %s", box.elem_id or "a choice", short(str(value)))


def short(text: str) -> str:
    """``text`` in one line and few letters."""
    text = spelt_out(" ".join(text[: 4 * MOST_CHARS].split()))
    return text if len(text) <= MOST_CHARS else f"{text[: MOST_CHARS - 1]}…"


def line_of(error: Exception) -> str:
    """An error in one line: its kind, what it says, and where it came from."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__}: {short(str(error))} ({where})"
