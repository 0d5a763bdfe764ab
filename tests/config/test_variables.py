"""Variables of the environment are all known by name, and each is checked by itself."""

from __future__ import annotations

import ast
import re

import pytest

from playground.config.starting import app_mistakes, check_start, variable_mistake
from playground.config.variables import NAMES, word
from playground.errors import ConfigError
from playground.paths import PACKAGE, ROOT

OF_CHILDREN = {"PLAYGROUND_HUB_OFFLINE"}
"""What the app itself sets for its children."""
PLAIN = {"app": {"models": ["m"]}}


def test_every_variable_that_is_read_is_known_by_name_and_told_in_the_readme() -> None:
    read = {
        node.value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"PLAYGROUND_[A-Z_]+[A-Z]", node.value) and path.name != "variables.py"
    }
    of_variables = (PACKAGE / "config" / "variables.py").read_text(encoding="utf-8")
    read |= set(re.findall(r'(?:env\.get|env,|_listed\(env,|number\(env,) ?\(?"(PLAYGROUND_\w+)"', of_variables))
    assert read - OF_CHILDREN == set(NAMES)
    assert len(NAMES) == len(set(NAMES))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {name for name in NAMES if f"`{name}`" not in readme} == set()


def test_one_of_a_list_of_words_is_read_and_anything_else_refused() -> None:
    assert word({}, "X", ("a", "b")) is None
    assert word({"X": " "}, "X", ("a", "b")) is None
    assert word({"X": " b "}, "X", ("a", "b")) == "b"
    with pytest.raises(ConfigError, match=r"X is 'c'\. Set it to a, b, or unset it\."):
        word({"X": "c"}, "X", ("a", "b"))


def test_a_variable_by_itself() -> None:
    assert variable_mistake("PLAYGROUND_THREADS", "2") is None
    assert variable_mistake("PLAYGROUND_THREADS", None) is None
    assert variable_mistake("OMP_NUM_THREADS", "many") is None
    wrong, unknown = variable_mistake("PLAYGROUND_THREADS", "many"), variable_mistake("PLAYGROUND_THREDS", "2")
    assert wrong is not None and "'many' is not a whole number" in wrong.message
    assert unknown is not None
    assert unknown.message == "there is no setting PLAYGROUND_THREDS. Did you mean PLAYGROUND_THREADS?"
    assert variable_mistake("PLAYGROUND_THREDS", None) is not None
    port = variable_mistake("PORT", "65536")
    assert port is not None and "more than 65535" in port.message


def test_every_mistake_of_the_app_block_is_found() -> None:
    found = app_mistakes({"app": {"models": ["m"], "limits": {"max_models": 0}, "audience": "all"}}, "spaces.yaml")
    assert len(found) == 2
    assert all(str(each.message).startswith("spaces.yaml: app.") for each in found)
    assert app_mistakes(PLAIN, "spaces.yaml") == []
    for nothing in ({}, {"app": []}, {"app": {"models": []}}, None):
        assert "has no list of models" in app_mistakes(nothing, "spaces.yaml")[0].message


def test_a_start_is_checked_as_the_app_starts() -> None:
    space = {"SPACE_ID": "o/n", "SPACE_HOST": "o-n.hf.space"}
    check_start(PLAIN, space, "spaces.yaml")
    signed = {"app": {"models": ["m"], "login": "password"}}
    check_start(signed, space, "spaces.yaml", login=False)
    with pytest.raises(ConfigError, match="names nobody"):
        check_start(signed, space, "spaces.yaml")
