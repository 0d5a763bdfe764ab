"""The use cases are one door: front ends reach through it into no room, and say the same of a model and its card."""

from __future__ import annotations

import ast
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from playground.catalog.search import Filters
from playground.errors import BadRequest, ConfigError, UnknownModel, UsageError
from playground.messages import Translatable
from playground.paths import PACKAGE, ROOT
from playground.records import Request
from playground.service import Playground

FRONT_ENDS = sorted(path for room in ("ui", "cli", "mcp", "api") for path in (PACKAGE / room).rglob("*.py"))


@cache
def rooms() -> frozenset[str]:
    """What ``Playground`` puts together: the attributes its constructor sets, but for settings and prices."""
    tree = ast.parse((PACKAGE / "service" / "__init__.py").read_text(encoding="utf-8"))
    made = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    found = {
        target.attr
        for node in ast.walk(made)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Attribute)
    }
    return frozenset(found - {"settings", "tiers"})


def test_the_rooms_are_known() -> None:
    assert rooms() >= {"catalog", "preparer", "pool", "store", "comparer", "measurer", "differ", "replayer"}


def reached(tree: ast.AST) -> list[str]:
    """Where code takes a room out of a ``Playground``, whatever it then does with it."""
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in rooms()
        and ast.unparse(node.value).rpartition(".")[2].lstrip("_") == "playground"
    ]


@pytest.mark.parametrize("path", FRONT_ENDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_front_end_reaches_through_the_service_into_no_room(path: Path) -> None:
    assert not reached(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "code", ["playground.catalog.resolve(x)", "f(self.playground.preparer)", "x = self._playground.store"]
)
def test_reaching_through_is_found(code: str) -> None:
    assert reached(ast.parse(code))


@pytest.mark.parametrize("code", ["from playground.catalog.entries import Catalog", "playground.entry(x)", "a.store.b"])
def test_importing_and_asking_are_no_reaching_through(code: str) -> None:
    assert not reached(ast.parse(code))


def test_page_and_terminal_ask_the_service_for_one_document_of_a_card(
    playground: Playground, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from playground.cli import main
    from playground.ui import api

    for name, value in {"HOME": "home", "SPACE": "space_file", "CATALOG": "catalog_file"}.items():
        monkeypatch.setenv(f"PLAYGROUND_{name}", str(getattr(playground.settings, value)))
    assert main(["card", "fast", "--json"]) == 0
    printed: Any = json.loads(capsys.readouterr().out)
    assert printed == json.loads(json.dumps(api._card(playground, "fast")))
    assert {"license", "openness_score", "terms", "rest", "hub"} <= set(printed)


def test_a_served_model_is_told_as_the_terminal_tells_it_but_not_where_its_files_lie(playground: Playground) -> None:
    (item,) = [each for each in playground.search(Filters()) if each.entry.spec.id == "fast"]
    full, public = playground.model_json(item), playground.served_json(item.entry)
    assert "source" in full
    assert "source" not in public
    for variant in full["variants"]:
        assert public["variants"][variant["variant"]] == {k: v for k, v in variant.items() if k != "variant"}
    assert {name: full[name] for name in public if name != "variants"} == {
        name: public[name] for name in public if name != "variants"
    }


def test_what_failed_is_told_with_template_and_values(playground: Playground) -> None:
    (variant,) = playground.variants(["fails-to-prepare"])
    with pytest.raises(Exception, match="no recipe fits"):
        playground.prepare(variant, lambda step, share: None)
    (item,) = [each for each in playground.search(Filters()) if each.entry.spec.id == variant.model]
    (told,) = playground.model_json(item)["variants"]
    assert told["status"] == "failed"
    assert Translatable.from_json(told["error"]).template


def test_a_wrong_request_is_refused_before_anything_is_prepared(playground: Playground) -> None:
    with pytest.raises(BadRequest):
        playground.inspect("slow-to-prepare", Request(prompt=""))
    with pytest.raises(UnknownModel):
        playground.inspect("nothing", Request(prompt="Hi"))
    assert playground.preparation(playground.variants(["slow-to-prepare"])[0]).status == "missing"


def test_a_model_that_is_not_on_the_hub_has_no_card_there(playground: Playground) -> None:
    assert playground.card("fast", "unknown").hub is None
    with pytest.raises(UsageError, match="not on the Hub"):
        playground.card("fast", "always")


def test_served_models_come_once_and_in_order(playground: Playground) -> None:
    served = [entry.spec.id for entry in playground.served()]
    assert served == list(dict.fromkeys(variant.model for variant in playground.default_variants()))


def test_a_mistyped_set_of_kernels_is_told_before_anything_runs(
    make_settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAYGROUND_KERNELS", "avx2x")
    with pytest.raises(ConfigError, match="PLAYGROUND_KERNELS is avx2x, which is none of off, "):
        Playground(make_settings())
