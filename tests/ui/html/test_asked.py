"""What was asked, in one line above the answers: the prompt, and whether the form holds another one by now."""

from __future__ import annotations

import re

from playground.records import Message, Request
from playground.ui.html import asked as view


def test_the_line_knows_the_prompt_that_the_form_still_holds_after_a_reply() -> None:
    turns = (Message("user", "One <b>"), Message("assistant", "Eins"), Message("user", "Two"))
    drawn = view.asked_html(Request("Two"), "fair", own=[None, Request(messages=turns)])
    assert '<q dir="auto">Two</q>' in drawn
    assert re.search(r'data-began="([^"]*)"', drawn)[1] == "One &lt;b&gt;"  # type: ignore[index]
    alone = view.asked_html(Request("Two"), "fair", own=[None, Request("Two", temperature=1.0)])
    assert 'data-began="Two"' in alone
