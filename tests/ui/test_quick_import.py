"""gradio is imported without the interface files that it writes for editors, and its components are the same."""

from __future__ import annotations

import subprocess
import sys

from playground.paths import ROOT

QUICK = """
import ast, inspect, sys
from playground.ui.quick_import import import_gradio
parsed = []
parse = ast.parse
def counted(source, *more, **named):
    if sys._getframe(1).f_code.co_name == "extract_class_source_code":
        parsed.append(source)
    return parse(source, *more, **named)
ast.parse = counted
ours = inspect.getfile
{way}
import gradio as gr
assert inspect.getfile is ours
print(len(parsed), type(gr.Textbox().change).__name__, sorted(str(each) for each in gr.Dropdown.EVENTS))
"""


def test_no_source_of_a_component_is_parsed_and_its_events_are_there() -> None:
    quick, plain = (
        subprocess.run(
            [sys.executable, "-c", QUICK.format(way=way)], capture_output=True, text=True, check=True, cwd=ROOT
        )
        for way in ("import_gradio()", "")
    )
    (none, *found), (many, *expected) = (each.stdout.split(maxsplit=1) for each in (quick, plain))
    assert none == "0" and int(many) > 50, "gradio asks for interface files otherwise than it did"
    assert found == expected
