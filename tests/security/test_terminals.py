"""No text, whoever wrote it, is an order to the terminal that shows it."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from rich.table import Table

from playground.cli import output
from playground.cli.terminal import SafeConsole
from playground.messages import spelt_out
from playground.paths import ROOT
from tests.support.app import DATA, SPACE

pytestmark = [pytest.mark.waits, pytest.mark.hostile]

ATTACKS = {
    "retitle": "\x1b]0;owned\x07",
    "clear": "\x1b[2J",
    "8-bit": "\x9b2J",
    "link": "\x1b]8;;http://evil.example\x1b\\x",
    "clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "return": "harmless\rOWNED",
    "backspace": "no\b\byes",
    "override": "exe\u202egnp.txt",
    "isolate": "a\u2066b\u2069c",
    "marks": "a\u200eb\u200fc\u061cd",
    "separator": "a\u2028b\u2029c",
    "invisible": "a\u200bb\u2060c\ufeffd\xade",
    "tags": "a\U000e0041b",
    "surrogate": "a\ud800b",
    "delete": "a\x7fb",
    "nul": "a\x00b",
}
KEPT = "\tab\nline ค็ नमस्ते \u200d\u200c 👩\u200d💻 e\u0301 שלום"


def orders(text: str) -> list[str]:
    """Characters of a text that a terminal does something with, or does not show."""
    harmless = "\n\t\u200c\u200d"
    return [
        char for char in text if char not in harmless and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    ]


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_orders_are_spelt_out(attack: str) -> None:
    assert orders(attack)
    assert not orders(spelt_out(attack))
    assert not orders(output.clean(attack))


def test_scripts_and_emoji_stay_as_they_are() -> None:
    assert spelt_out(KEPT) == KEPT


def test_every_character_of_unicode_is_either_shown_or_spelt_out() -> None:
    wrong = orders(spelt_out("".join(map(chr, range(sys.maxunicode + 1)))))
    shown = {unicodedata.name(char, "") for char in wrong}
    assert all(name.startswith(("ARABIC", "SYRIAC", "KAITHI", "EGYPTIAN", "SHORTHAND", "MUSICAL")) for name in shown), (
        shown
    )


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_console_spells_out_what_nobody_cleaned(attack: str) -> None:
    written = io.StringIO()
    console = SafeConsole(file=written, force_terminal=True, markup=False, highlight=False, width=100)
    table = Table(attack)
    table.add_row(attack, style="red")
    console.print(attack, table)
    for colour in ("\x1b[1m", "\x1b[31m", "\x1b[0m", "\x1b[1;31m"):  # rich's own
        written = io.StringIO(written.getvalue().replace(colour, ""))
    assert not orders(written.getvalue())


def test_a_folder_whose_name_is_an_order_is_shown_spelt_out(tmp_path: Path) -> None:
    """``models`` and an error, on a terminal: the name of the home stands in both."""
    home = tmp_path / "a\x1b]0;owned\x07\u202eb"
    (tmp_path / "space.yaml").write_text(SPACE.format(models="fast", stall_s=3))
    env = {
        **os.environ,
        "PLAYGROUND_HOME": str(home),
        "PLAYGROUND_SPACE": str(tmp_path / "space.yaml"),
        "PLAYGROUND_CATALOG": str(DATA / "fake_catalog.yaml"),
        "TERM": "xterm",
    }
    model = tmp_path / "m\x1b[2J\u202e"
    model.mkdir()
    for command in (["compare", "Hi", "-m", f"path:{model}", "-m", "fast"], ["models", "show", f"path:{model}"]):
        parent, child = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "playground", *command], stdout=child, stderr=child, stdin=child, env=env, cwd=ROOT
        )
        os.close(child)
        said = b""
        try:
            while part := os.read(parent, 65536):
                said += part
        except OSError:  # the other end is closed
            pass
        process.wait(60)
        os.close(parent)
        text = said.decode(errors="replace")
        assert "\\x1b" in text, text
        for order in ("\x1b[2J", "\x1b]0", "\u202e", "\x07"):
            assert order not in text, text
