"""Nobody below the front ends fills in a sentence; every template can be found, filled in, stored and translated."""

from __future__ import annotations

import ast
import gettext
import json
import pickle
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground import errors, translations
from playground.errors import PlaygroundError
from playground.messages import MAX_CHARS, NOTHING, Translatable, foreign, msg, plural, render, sentences
from playground.paths import PACKAGE, ROOT
from scripts import messages as catalogues

FRONT_ENDS = ("ui", "cli")
TWO_WORDS = re.compile(r"[^\W\d_]{2,}['’]?[^\W\d_]*,? [^\W\d_]{2,}")
SHORT_FORMAT = re.compile(r"[,_+]?(\.\d)?[a-z%]?")

ALLOWED: dict[str, str] = {
    "playground/export/prompt_check.py::_cases": "prompts for models",
    "playground/results/figures.py::figure": "a caller's mistake, which no reader is shown",
    "playground/results/database.py::_migrate": "SQL",
    "playground/ship/example.py::example": "a program",
    "playground/results/suite_export.py::as_junit": "XML",
    "playground/results/suite_export.py::_case": "XML",
    "playground/results/suite_report.py::as_html": "HTML",
    "playground/results/suite_report.py::_html_cell": "HTML",
}
"""Files, or functions in them (FILE::FUNCTION), that fill in texts that are no messages: each with the reason."""

NO_MESSAGES = {"AssertionError", "NotImplementedError", "KeyError", "AttributeError", "TypeError"}
"""What is raised of these, no reader is shown."""


# -- what stands in the source ------------------------------------------------------------------------------------


@cache
def sources(*, front_ends: bool) -> dict[str, ast.Module]:
    """Every module by its path, with its syntax tree, with or without those of the front ends."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        inside = path.relative_to(PACKAGE)
        if front_ends or inside.parts[0] not in FRONT_ENDS:
            found[str(path.relative_to(ROOT))] = ast.parse(path.read_text(encoding="utf-8"))
    return found


@dataclass(frozen=True)
class Filled:
    """A text that is put together where it stands."""

    file: str
    function: str
    line: int
    words: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function or 'the module'}: {self.words!r}"

    @property
    def allowed_by(self) -> set[str]:
        return {self.file, f"{self.file}::{self.function}"} & set(ALLOWED)


class Finder(ast.NodeVisitor):
    """Finds texts of two words or more that are filled in, other than in logs, asserts and representations."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[Filled] = []
        self._inside: list[str] = []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name == "__repr__":
            return
        self._inside.append(node.name)
        self.generic_visit(node)
        self._inside.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    def visit_Assert(self, node: ast.Assert) -> None:
        self.visit(node.test)

    def visit_Raise(self, node: ast.Raise) -> None:
        if isinstance(node.exc, ast.Call) and _name(node.exc.func) in NO_MESSAGES:
            return
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute) and _name(node.func.value) in ("log", "_log", "logging", "logger"):
            return
        if _name(node.func) in PROBLEMS:
            for part in [*node.args, *(keyword.value for keyword in node.keywords)]:
                if isinstance(part, (ast.Constant, ast.JoinedStr)) and _said(part):
                    self._add(part)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "format" and _is_text(node.func.value):
            self._look(node.func.value)
        self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self._look(node)
        for part in node.values:
            self.visit(part)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, (ast.Mod, ast.Add)):
            for side in (node.left, node.right):
                if isinstance(side, ast.Constant) and isinstance(side.value, str):
                    self._look(side)
        self.generic_visit(node)

    def _look(self, node: ast.expr) -> None:
        if TWO_WORDS.search(_said(node)):
            self._add(node)

    def _add(self, node: ast.expr) -> None:
        self.found.append(Filled(self.file, ".".join(self._inside), node.lineno, _said(node)[:80]))


PROBLEMS = {
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, PlaygroundError)
} - {"UnknownModel", "UnknownVariant"}  # these take names


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _said(node: ast.expr) -> str:
    """The text of a literal, values left out."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_said(part) if isinstance(part, ast.Constant) else "\0" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def filled() -> list[Filled]:
    found = []
    for file, tree in sources(front_ends=False).items():
        finder = Finder(file)
        finder.visit(tree)
        found += dict.fromkeys(finder.found)
    return found


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call of ``msg`` and ``plural``."""
    for file, tree in sources(front_ends=True).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _name(node.func) in ("msg", "plural"):
                yield file, node


def problem_of(call: ast.Call) -> str:
    """What is wrong with a call of ``msg`` or ``plural``, "" where it is as it should be."""
    forms = 2 if _name(call.func) == "plural" else 1
    if len(call.args) != forms + (forms == 2 and not any(each.arg == "n" for each in call.keywords)):
        return "it takes the templates and then names"
    given = {keyword.arg for keyword in call.keywords}
    named: set[str] = set()
    for argument in call.args[:forms]:
        if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
            return "a template is a literal"
        for _, name, spec, conversion in Formatter().parse(argument.value):
            if name is None:
                continue
            if not name.isidentifier() or conversion or not SHORT_FORMAT.fullmatch(spec or ""):
                return f"{{{name}}} is more than a name and a short format"
            named.add(name)
    given |= {"n"} if forms == 2 else set()
    several = None in given  # **names: what they are, running the call says
    given.discard(None)
    if (named - given and not several) or given - named - ({"n"} if forms == 2 else set()):
        return f"the template names {sorted(named)}, given are {sorted(map(str, given))}"
    return ""


def test_every_message_is_a_literal_template_with_the_names_that_are_given() -> None:
    wrong = [f"{file}:{call.lineno}: {problem}" for file, call in calls() if (problem := problem_of(call))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ('msg(f"{x} broke")', "literal"),
        ('msg("{x} broke")', "names"),
        ('msg("{x} broke", y=1)', "names"),
        ('msg("{x.y} broke", x=1)', "more than a name"),
        ('msg("{x:>20} broke", x=1)', "more than a name"),
        ('msg("{x!r} broke", x=1)', "more than a name"),
        ('msg("{x} broke", y=1, **names)', "names"),
        ('msg("{x} broke", **names)', ""),
        ('plural("{n} x", text, n=n)', "literal"),
        ('plural("{n} x", "{n} xs", n=n)', ""),
        ('plural("one x", "{n} xs", n)', ""),
        ('msg("{x:,.1f} broke" " again", x=1)', ""),
    ],
)
def test_a_wrong_call_is_found(call: str, problem: str) -> None:
    parsed = ast.parse(call, mode="eval").body
    assert isinstance(parsed, ast.Call)
    assert (problem in problem_of(parsed)) if problem else not problem_of(parsed)


def test_below_the_front_ends_no_sentence_is_filled_in() -> None:
    left = [each for each in filled() if not each.allowed_by]
    assert not left, f"{len(left)} texts to make with msg(), see CONTRIBUTING.md:\n" + "\n".join(map(str, left))


def test_what_may_fill_in_texts_still_does() -> None:
    assert set(ALLOWED) == set().union(*(each.allowed_by for each in filled()))


@pytest.mark.parametrize(
    "code",
    [
        'raise RunError("Broken", NOTHING)',
        'raise RunError(f"{x} broke")',
        'raise UsageError(msg("a"), "Try again.")',
        'x = f"{model} is broken"',
        'x = f"{model} {y}" + " is broken"',
        'x = "%s is broken" % model',
        'x = "{} is broken".format(model)',
        'def f():\n    return "so " + "it is " + x',
    ],
)
def test_a_filled_in_sentence_is_found(code: str) -> None:
    finder = Finder("x.py")
    finder.visit(ast.parse(code))
    assert finder.found


@pytest.mark.parametrize(
    "code",
    [
        'log.warning("it is %s" % x)',
        'assert x, f"it is {x}"',
        'class A:\n    def __repr__(self):\n        return f"it is {x}"',
        '"""It is {x}."""',
        'x = msg("It is {x}", x=1)',
        'x = f"{a}-{b}.json"',
        'raise AssertionError(f"it is {x}")',
    ],
)
def test_what_is_no_message_is_let_be(code: str) -> None:
    finder = Finder("x.py")
    finder.visit(ast.parse(code))
    assert not finder.found


def test_babel_finds_every_message() -> None:
    def templates(call: ast.Call) -> str | tuple[str, ...]:
        forms = tuple(argument.value for argument in call.args if isinstance(argument, ast.Constant))
        return str(forms[0]) if _name(call.func) == "msg" else tuple(map(str, forms[:2]))

    assert Counter(text for _, text, _ in catalogues.extracted()) == Counter(templates(call) for _, call in calls())


# -- the messages themselves --------------------------------------------------------------------------------------

TEXTS = st.text(max_size=20)
NUMBERS = st.one_of(st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6))
PLAIN = st.one_of(TEXTS, NUMBERS, st.booleans(), st.none())


def made(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Messages about such values."""
    return st.one_of(
        st.builds(lambda one, two: msg("{one} needs {two}", one=one, two=two), values, values),
        st.builds(lambda share: msg("{share:,.1f} of it", share=share), NUMBERS),
        st.builds(lambda n, of: plural("{n} part of {of}", "{n} parts of {of}", n=n, of=of), st.integers(0, 9), values),
        st.builds(lambda names: msg("one of {names}", names=names), st.lists(values, max_size=3)),
        st.builds(lambda parts: sentences(*parts), st.lists(st.builds(foreign, TEXTS), max_size=3)),
        st.builds(foreign, TEXTS),
    )


MESSAGES = st.recursive(made(PLAIN), made, max_leaves=4)


class Shouting:
    """A language of capital letters, for whatever English message there is; names stay."""

    def gettext(self, message: str) -> str:
        return re.sub(r"\{[^}]*\}|.", lambda found: found[0] if found[0].startswith("{") else found[0].upper(), message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return self.gettext(msgid1 if n == 1 else msgid2)


@given(MESSAGES)
def test_a_message_comes_back_from_json_as_it_was(message: Translatable) -> None:
    back = Translatable.from_json(json.loads(json.dumps(message.to_json())))
    assert (back, back.template, back.plural) == (message, message.template, message.plural)
    assert render(back, Shouting()) == render(message, Shouting())


@given(MESSAGES)
def test_a_message_comes_back_from_another_process_as_it_was(message: Translatable) -> None:
    back = pickle.loads(pickle.dumps(message))
    assert (back, back.template, back.plural) == (message, message.template, message.plural)
    assert render(back, Shouting()) == render(message, Shouting())


@given(MESSAGES)
def test_without_translations_a_message_is_said_in_english(message: Translatable) -> None:
    assert render(message, gettext.NullTranslations()) == message


@given(st.dictionaries(st.text("abn", min_size=1, max_size=2), PLAIN), st.text("{}ab:.!n0>", max_size=12))
def test_a_template_from_a_file_never_raises_and_asks_for_names_alone(values: dict[str, Any], template: str) -> None:
    message = Translatable.from_json({"text": "as it was", "code": template, "values": values})
    assert message == "as it was" or message.template == template
    assert len(message) < 200


@pytest.mark.parametrize(
    "template",
    [
        "{x.__class__}",
        "{x[0]}",
        "{x!r}",
        "{x:>999999999}",
        "{x:0999999d}",
        "{x:.999999f}",
        "{x:{x}}",
        "{}",
        "{0}",
        "{y}",
        "{x",
        "}",
    ],
)
def test_a_hostile_template_from_a_file_leaves_the_text_that_stands_beside_it(template: str) -> None:
    message = Translatable.from_json({"text": "as it was", "code": template, "values": {"x": 1}})
    assert (message, message.template) == ("as it was", "")


@pytest.mark.parametrize(
    ("plural_form", "values"),
    [
        ("{n.__class__.__mro__}", {"n": 2}),
        ("{n:200000000}", {"n": 2}),
        ("{n} of {y}", {"n": 2}),
        ("{n} parts", {"n": None}),
        ("{n} parts", {"n": [1]}),
        ("{n} parts", {"n": float("inf")}),
        ("{n} parts", {"n": float("nan")}),
        ("{n} parts", {}),
        ("{n} parts", [1]),
        (["{n}"], "n"),
        ("{n:.0f} parts", {"n": 10**400}),
    ],
)
def test_a_hostile_plural_from_a_file_leaves_the_text_too(plural_form: Any, values: Any) -> None:
    data = {"text": "as it was", "code": "{n:.0f} part", "plural": plural_form, "values": values}
    message = Translatable.from_json(data)
    assert render(message, Shouting()) == "as it was"


@pytest.mark.parametrize("data", [None, [], ["a"], 3, 1.5, True, {}, {"text": None}, {"text": [[]], "code": ["x"]}])
def test_what_is_no_message_is_read_as_an_empty_one(data: Any) -> None:
    assert Translatable.from_json(data) == ""


def nested(levels: int, template: str) -> Any:
    data: Any = "x" * 8
    for _ in range(levels):
        data = {"text": "as it was", "code": template, "values": {"a": data}}
    return data


def test_a_message_in_messages_without_end_leaves_a_text() -> None:
    message = Translatable.from_json(nested(300, "{a}"))
    assert (message, render(message, Shouting())) == ("as it was", "as it was")
    lists: Any = "x"
    for _ in range(300):
        lists = [lists]
    assert Translatable.from_json({"text": "as it was", "code": "{a}", "values": {"a": lists}}) == "as it was"


def test_a_few_lines_that_stand_for_a_huge_text_are_not_filled_in() -> None:
    assert len(Translatable.from_json(nested(12, "{a}" * 4))) < MAX_CHARS
    wide = {"text": "as it was", "code": "{a}", "values": {"a": [nested(9, "{a}" * 4)] * 50}}
    assert len(Translatable.from_json(wide)) < 2 * MAX_CHARS
    assert Translatable.from_json(nested(3, "{a}" * 4)) == "x" * 512


def test_numbers_of_numpy_take_number_formats_and_travel_as_json() -> None:
    message = msg("{a:.1f} {b:,} {c:.2f}", a=np.float32(0.5), b=np.int64(1234), c=np.float64(2))
    assert message == "0.5 1,234 2.00"
    assert json.loads(json.dumps(message.to_json()))["values"] == {"a": 0.5, "b": 1234, "c": 2.0}
    assert json.dumps(plural("{n} part", "{n} parts", n=np.int64(2)).to_json())


class Saying:
    """A language that says the same whatever is asked."""

    def __init__(self, words: str) -> None:
        self.words = words

    def gettext(self, message: str) -> str:
        return self.words

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return self.words


@pytest.mark.parametrize("words", ["{y} is unknown", "{x", "}", "{0}", "{}", "{x.real.__nothing__}", "{x:nonsense}"])
def test_a_translation_that_does_not_fit_falls_back_to_english(words: str) -> None:
    for message in (msg("{x} is broken", x=1), plural("{n} of {x}", "{n} of {x}", n=2, x=1)):
        assert render(message, Saying(words)) == message


def test_values_that_look_like_templates_stay_as_they_are() -> None:
    message = msg("{name} is unknown", name="{secret}")
    assert render(message, Shouting()) == "{secret} IS UNKNOWN"


def test_messages_inside_messages_and_lists_are_translated_too() -> None:
    message = sentences(msg("{what}.", what=msg("it is {names}", names=[msg("one"), "two"])), msg("try again"))
    assert render(message, Shouting()) == "IT IS ONE, two. TRY AGAIN"


def test_an_errors_text_keeps_both_templates() -> None:
    error = PlaygroundError(msg("{model} broke", model="tiny"), msg("try again"))
    assert str(error) == "tiny broke. try again"
    assert render(str(error), Shouting()) == "tiny BROKE. TRY AGAIN"
    assert PlaygroundError(msg("broke"), NOTHING).message == "broke."


# -- the catalogues -----------------------------------------------------------------------------------------------


def test_a_translation_that_is_not_looked_over_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from babel.messages.catalog import Catalog

    catalog = Catalog(locale="de")
    catalog.add("It is {x}", "Es ist {x}")
    catalog.add("It was {x}", "Es ist {x}", flags=["fuzzy"])
    path = tmp_path / "de" / "LC_MESSAGES" / "playground.po"
    path.parent.mkdir(parents=True)
    path.write_bytes(catalogues.written(catalog, dated=True))
    monkeypatch.setattr(translations, "LOCALE", tmp_path)
    read = translations.for_page("de", {})
    assert render(msg("It is {x}", x=1), read) == "Es ist 1"
    assert render(msg("It was {x}", x=1), read) == "It was 1"
