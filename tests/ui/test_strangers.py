"""What strangers may name: no function tells which files there are, or works on what is not offered to them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from playground.errors import UsageError
from playground.records import Request, Variant
from playground.service import Playground
from playground.ui import offered
from tests.support.app import App, serving
from tests.support.web import MODELS, SPACE_ENV, WEB, call, config, functions, number_of

pytestmark = pytest.mark.ui


def started(app: App, number: int, data: list[Any]) -> str:
    """What a function that waits its turn says first."""
    call(app, number, data).raise_for_status()
    said = ""
    with WEB.stream("GET", f"{app.url}gradio_api/queue/data?session_hash=attacker") as stream:
        for line in stream.iter_lines():
            message = json.loads(line[6:]) if line.startswith("data: ") else {}
            if message.get("msg") in {"process_generating", "process_completed"}:
                said = said or json.dumps(message["output"], ensure_ascii=False)
            if message.get("msg") in {"process_completed", "close_stream"}:
                break
    return said


def without(text: str, name: str) -> str:
    """An answer without how long it took, without the name that it repeats, and without the mark that a page keeps of
    the states it was told (a hash of them; they stand beside it).
    """
    plain = re.sub(r'"(?:average_)?duration": ?[\d.e-]+', "", text).replace(name, "NAME")
    return re.sub(r'"\d+\.\d [0-9a-f]{16}"', '"MARK"', plain)


def sent_by_the_page(app: App, number: int) -> list[Any]:
    """What the page sends a function when nothing was changed."""
    parts = {part["id"]: part for part in config(app.url)["components"]}
    return [parts[at]["props"].get("value") for at in functions(app)[number]["inputs"]]


@pytest.fixture
def folders(tmp_path: Path) -> list[tuple[str, str]]:
    """Names of what there is and of what there is not, of one length."""
    there = tmp_path / "model-0"
    there.mkdir()
    (there / "config.json").write_text('{"max_position_embeddings": 77341}')
    return [(f"path:{there}", f"path:{tmp_path / 'model-1'}"), ("path:~root", "path:~nobo"), ("path:/etc", "path:/etx")]


@pytest.mark.hostile
def test_no_function_of_a_space_tells_which_files_or_accounts_there_are(
    space: App, folders: list[tuple[str, str]]
) -> None:
    checked = 0
    for number, each in functions(space).items():
        if each["queue"] is not False or not each["inputs"] or not each["backend_fn"]:
            continue
        usual = sent_by_the_page(space, number)
        for place in range(len(usual)):
            if (each["api_name"], place) == ("run_suite", 0):
                continue  # prompts: they are asked as they stand, and each makes a suite of its own
            for one, other in folders:
                for pattern in ("{}", "{}@onnx-int8"):
                    told = []
                    for name, session in ((one, "one"), (other, "other")):
                        given = pattern.format(name)
                        data = [
                            *usual[:place],
                            [given] if isinstance(usual[place], list) else given,
                            *usual[place + 1 :],
                        ]
                        told.append(without(call(space, number, data, session).text, name))
                    assert told[0] == told[1], f"{each['api_name']}, input {place}"
                    assert "77341" not in told[0]
                    checked += 1
    assert checked > 250


@pytest.mark.hostile
def test_choose_on_a_space_leaves_out_what_is_not_offered_and_shows_what_is(
    space: App, folders: list[tuple[str, str]]
) -> None:
    number = number_of(space, "show_2")
    *fields, chosen = sent_by_the_page(space, number)
    assert len(fields) == 17, "the limits, the picture's choices, the suite, the benchmark and the scores"
    assert chosen == ["fast@fake-none", "slow@fake-none", "base@fake-none"]
    fields[1] = "1"  # MB, so that the models are judged
    shown = call(space, number, [*fields, ["fast@fake-none", *(name for name, _ in folders)]]).text
    assert "Fast" in shown, shown
    for word in ("77341", "path:"):
        assert word not in shown


@pytest.mark.hostile
def test_a_space_runs_measures_and_reads_for_no_folder_and_says_so_alike_of_all(
    space: App, folders: list[tuple[str, str]]
) -> None:
    asked = ["fair", "Hi", "", 8, 0, 0, 1, 0, 1, 0, "", False]
    for name in (name for pair in folders for name in pair):
        for function, data in (
            ("run", [[name], "", False, *asked]),
            ("measure", [[], 1, 4, [name], *asked]),
            ("read", ["form", "", [name], "", *asked]),
        ):
            said = started(space, number_of(space, function), data)
            assert "is not offered here" in said, (function, said)


@pytest.mark.hostile
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_folder_is_named_where_only_the_own_machine_calls_and_nowhere_else(
    make_settings: Any, tmp_path: Path, host: str
) -> None:
    with Playground(make_settings(HOST=host)) as playground:
        assert offered.variant(playground, "fast").model == "fast"
        if host == "127.0.0.1":
            assert offered.variant(playground, "hub:o/n").model == "hub:o/n"
            assert offered.variant(playground, f"path:{tmp_path}").model == f"path:{tmp_path}"
        else:
            for name in (
                f"path:{tmp_path}",
                " path:/nowhere",
                "path:~root@onnx-int8",
                "fake:text=a",
                "remote:x",
                "hub:o/n",
                5,
                ["a"],
            ):
                with pytest.raises(UsageError, match=r"not offered here|is text"):
                    offered.variant(playground, name)


@pytest.mark.hostile
def test_a_space_offers_no_repository_but_a_folder_that_it_was_told_to_serve(
    make_settings: Any, tmp_path: Path
) -> None:
    settings = replace(make_settings(SPACE_ID="o/n"), models=("fast", f"path:{tmp_path}"))
    with Playground(settings) as playground:
        assert offered.variant(playground, f"path:{tmp_path}@onnx-int8").model == f"path:{tmp_path}"
        for name in ("hub:o/n", f"path:{tmp_path}/"):
            with pytest.raises(UsageError, match="not offered here"):
                offered.variant(playground, name)
        assert [str(each) for each in offered.known(playground, ["hub:o/n", "fast", "fast", 7])] == ["fast@fake-none"]


@pytest.mark.hostile
def test_a_stored_comparison_of_a_folder_is_not_run_again_for_a_stranger(make_settings: Any, tmp_path: Path) -> None:
    with Playground(make_settings()) as own:
        stored = replace(
            own.comparer.start(Request("Hi", max_new_tokens=2), ["fast"]).result(), id="20261126-000000-00000000"
        )
        run = replace(stored.runs[0], variant=Variant(f"path:{tmp_path}", "onnx", "int8"))
        own.store.save(replace(stored, runs=(run,)))
    with serving(tmp_path, MODELS, **SPACE_ENV) as app:
        said = started(app, number_of(app, "replay"), [stored.id, [stored.id]])
    assert "is not offered here" in said


@pytest.mark.hostile
@pytest.mark.parametrize(
    "sent",
    [
        {"models": "fasst"},
        {"models": 5},
        {"models": [5]},
        {"models": [["fast"]]},
        {"models": ["fast"] * 5},
        {"models": ["x" * 5000]},
        {"prompt": 5},
        {"stop": "stop"},
        {"max_new_tokens": "8"},
        {"temperature": "hot"},
        {"seed": [1]},
    ],
)
def test_the_api_says_what_is_wrong_with_values_of_another_kind(space: App, sent: dict[str, Any]) -> None:
    given = {"prompt": "Hi", "models": ["fast"], **sent}
    event = WEB.post(f"{space.url}gradio_api/call/v2/compare", json=given).json()["event_id"]
    said = WEB.get(f"{space.url}gradio_api/call/v2/compare/{event}").text
    assert said.startswith("event: error")
    assert re.search(r"list of|is not served|too many|short text|not text|It must be|chosen twice", said), said
