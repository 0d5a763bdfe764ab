"""Imports gradio without the interface files that it writes for editors.

On each import gradio parses the source of each of its components, renders a template and compares the outcome with a
``.pyi`` file beside it, or writes that: of 6.6 to 8.3 s that importing took on two cores of an EPYC, 2 to 4 s. No
program reads those files. Of a component without a source file gradio makes none and goes on, so while it is imported,
that is what it is told of all of them.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

_ASKS = "create_or_modify_pyi"
"""The function of ``gradio.component_meta`` that wants the source file."""


def import_gradio() -> None:
    """``import gradio``, the first one of a process; where gradio comes to ask otherwise, as slow as without this."""
    ours = inspect.getfile

    def getfile(object: Any) -> str:
        if sys._getframe(1).f_code.co_name == _ASKS:
            raise OSError("no interface file is wanted")
        return ours(object)

    inspect.getfile = getfile
    try:
        import gradio  # noqa: F401
    finally:
        inspect.getfile = ours
