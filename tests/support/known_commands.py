"""Whether commands that are written somewhere could be typed: their programs, options, settings, files and names exist.

A container, an account of the Hub or a browser is needed for none of it. What is not known here is refused, so whoever
writes a new program or option into the documentation thinks of it here.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import typer.main
import yaml

from playground.api.operations import OPERATIONS
from playground.catalog.entries import load_catalog
from playground.cli.app import app
from playground.config import variables
from playground.config.starting import variable_mistake
from playground.paths import CATALOG, ROOT
from playground.ui.app import END_S
from tests.support.documented import words_of

GROUP: Any = typer.main.get_command(app)
OWN = frozenset(GROUP.commands)
"""Names of the playground's commands."""
API_ROUTES = ("/v1/chat/completions", "/v1/models")
DOCKER: dict[str, dict[str, bool]] = {
    "build": {"--tag": True},
    "run": {
        **dict.fromkeys(("--detach", "--read-only", "--rm"), False),
        **dict.fromkeys(("--name", "--restart", "--stop-timeout", "--tmpfs", "--volume", "--publish", "--env"), True),
        "--user": True,
    },
    **{name: {} for name in ("exec", "cp", "stop", "rm", "start")},
}
"""Its commands and their options that are written, and whether each has a value."""
IN_ALL_SHELLS = ("cp", "mkdir", "rm", "chown", "chmod", "unset", "ulimit", "kill", "export")


def options(command: Any) -> set[str]:
    return {option for each in command.params for option in (*each.opts, *each.secondary_opts)}


def all_commands(group: Any) -> Iterator[Any]:
    for command in group.commands.values():
        yield from all_commands(command) if hasattr(command, "commands") else [command]


def look_up(text: str, *, whole: bool) -> None:
    """Whether all names in a command exist.

    Args:
        whole: It can be typed as it is; else a sentence names a command, without what it takes.
    """
    words = words_of(text)
    while "&&" in words:
        first, words = words[: words.index("&&")], words[words.index("&&") + 1 :]
        look_up(shlex.join(first), whole=whole)
    program, *rest = words
    if program in OWN:
        own(words, whole=whole)
    elif program == "playground" or rest[:2] == ["-m", "playground"]:
        own(rest if program == "playground" else rest[2:], whole=whole)
    elif program.startswith("--"):
        option(program, *rest)
    else:
        PROGRAMS[program](*rest)


def option(name: str, *words: str) -> None:
    """An option that a sentence names: some command of the playground, the page or docker has it."""
    known = {each for command in all_commands(GROUP) for each in options(command)} | set(DOCKER["run"])
    assert name in known | set(re.findall(r'"(--\w+)"', (ROOT / "playground" / "ui" / "app.py").read_text()))
    assert name != "--profile" or words[0] in yaml.safe_load((ROOT / "spaces.yaml").read_text())["profiles"]


def python(file: str, *words: str) -> None:
    assert (ROOT / file).is_file() and not words


def make(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def curl(*words: str) -> None:
    assert urlsplit(next(word for word in words if "://" in word)).path in {*OPERATIONS, *API_ROUTES}
    assert {word for word in words if word.startswith("-")} <= {"-H", "--json"}


def hf(*words: str) -> None:
    asked = [str(Path(sys.executable).parent / "hf"), *words, "--help"]
    assert subprocess.run(asked, capture_output=True, check=False).returncode == 0


def pytest(flag: str, mark: str) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
    assert flag == "-m" and mark in {each.partition(":")[0] for each in known}


def lm_eval(*words: str) -> None:
    assert {word for word in words if word.startswith("--")} <= {"--model", "--tasks", "--model_args"}


def source(file: str) -> None:
    assert file == ".venv/bin/activate" and "VENV := .venv" in (ROOT / "Makefile").read_text()


def own(words: list[str], *, whole: bool) -> None:
    """A command of the playground: it, its options and, if it is whole, that it takes what is given."""
    command, name = GROUP, "playground"
    while hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, f"there is no command {name}"
        command = command.commands[name]
    if name == "bench":
        script = (ROOT / "benchmarks" / f"{words[0]}.py").read_text(encoding="utf-8")
        for word in words[1:]:
            assert not word.startswith("--") or f'add_argument("{word}"' in script
        return
    assert {word for word in words if word.startswith("-")} <= options(command)
    if whole:
        command.make_context(name, list(words))
    if name == "prepare" and whole:
        assert set(words[: words.index("--push-to")]) <= set(load_catalog(CATALOG).ids())


def docker(name: str = "", *words: str) -> None:
    """What is given to docker fits the Dockerfile and the app."""
    known, rest, given = DOCKER[name], list(words), []
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        assert option in known, option
        given.append((option, rest.pop(0) if known[option] else ""))
    file = (ROOT / "Dockerfile").read_text()
    for option, value in given:
        if option == "--env":
            setting, _, text = value.partition("=")
            assert setting in variables.NAMES and variable_mistake(setting, text or None) is None
        elif option == "--publish":
            assert f"EXPOSE {value.partition(':')[2]}\n" in file
        elif option == "--volume":
            assert f"VOLUME {value.split(':')[1]}\n" in file or value == "$PWD:/from:ro"
        elif option == "--stop-timeout":
            assert int(value) > END_S
        elif option in ("--tag", "--name"):
            assert value == {"--tag": "open-model-playground", "--name": "playground"}[option]
        elif option == "--tmpfs":
            assert value == "/tmp"
    if name == "run" and rest:
        assert rest.pop(0) == "open-model-playground"
        if rest:
            assert rest[:2] == ["sh", "-c"] and "USER playground\n" in file
            look_up(rest[2], whole=True)
    elif name == "exec":
        assert rest.pop(0) == "playground"
        look_up(shlex.join(rest), whole=True)
    elif name != "build":
        assert not rest or rest[0].partition(":")[0] == "playground"


def shell(*words: str) -> None:
    """What every shell has."""


PROGRAMS: dict[str, Callable[..., None]] = {
    **{each.__name__: each for each in (python, make, docker, curl, hf, pytest, lm_eval)},
    ".": source,
    **dict.fromkeys(IN_ALL_SHELLS, shell),
}
