"""Commands about the project itself: ``space``, ``bench``, ``serve``."""

from __future__ import annotations

import ast
import os
import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from playground.cli import output
from playground.errors import UsageError
from playground.messages import NOTHING, msg, sentences

if TYPE_CHECKING:
    from playground.config.settings import Settings

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Options behind the command belong to the script it starts."""

BENCH_HELP = """Usage: {command} MEASUREMENT [OPTIONS]

Measure on this machine, in one run. `bench MEASUREMENT --help` tells what it does and its options. There are:
"""

MODELS_HELP = "Models one after the other, in rotated order, with answers of equal length"

space = typer.Typer(help="The hosted Space: spaces.yaml is its one source.", add_completion=False)


@space.command("render")
def render(
    profile: Annotated[str, typer.Option(help="One of spaces.yaml's profiles, e.g. zerogpu; with --to.")] = "",
    to: Annotated[Path | None, typer.Option(help="Write the whole Space into this new folder instead.")] = None,
) -> None:
    """Write the block on top of README.md from spaces.yaml; with --to, every file that a Space gets."""
    from playground.deploy.profiles import write_space
    from playground.deploy.space_file import render_readme, served_words

    root, settings = project()
    if to is not None:
        n = write_space(root, settings.space_file, profile, to)
        output.stdout().print(output.clean(msg("{n} files in {folder}.", n=n, folder=to)), soft_wrap=True)
        return
    if profile:
        raise UsageError(
            msg("A profile is written into a folder of its own"),
            msg("Name it: --profile {name} --to FOLDER.", name=profile),
        )
    changed = render_readme(settings.space_file, root / "README.md")
    output.stdout().print("README.md written." if changed else "README.md is as it should be.")
    output.stdout().print(output.clean(served_words(settings.space_file)), soft_wrap=True)


@space.command("check")
def check() -> int:
    """List what disagrees between spaces.yaml, README.md, requirements.txt and the catalogue."""
    from playground.deploy.check import check_space
    from playground.deploy.space_file import served_words

    root, settings = project()
    problems = check_space(settings.space_file, root, settings.catalog_file)
    output.stdout().print(output.clean(served_words(settings.space_file)), soft_wrap=True)
    for problem in problems:
        output.stdout().print(f"- {output.clean(problem)}", soft_wrap=True)
    if not problems:
        output.stdout().print("The Space's configuration is consistent.")
    return output.FAILED if problems else output.OK


def project() -> tuple[Path, Settings]:
    """The checkout that ``space`` is about, and its settings: the one this runs from, else the working directory.

    Raises:
        UsageError: Neither is a checkout.
    """
    from playground.config.settings import load_settings
    from playground.paths import CHECKOUT

    settings = load_settings()
    if CHECKOUT:
        return CHECKOUT, settings
    here = Path.cwd()
    if not all((here / name).is_file() for name in ("spaces.yaml", "README.md", "app.py")):
        raise UsageError(
            msg("There is no checkout of the playground here, and a Space is made from one"),
            msg("Run this in the folder that holds spaces.yaml, README.md and app.py."),
        )
    return here, settings if os.environ.get("PLAYGROUND_SPACE") else replace(settings, space_file=here / "spaces.yaml")


def bench(context: typer.Context) -> int:
    """Measurements on this machine: `bench models` of models; in a checkout also `bench engine` of our decode loop,
    `bench peers` of our engine beside others, and the rest that `bench --help` names.
    """
    from playground.cli import benchmark
    from playground.paths import CHECKOUT

    if context.args[:1] == ["models"]:
        return benchmark.main(context.args[1:], f"{context.command_path} models")
    scripts = (CHECKOUT / "benchmarks").glob("[!_]*.py") if CHECKOUT else ()
    found = {path.stem: str(path) for path in sorted(scripts)}
    name = context.args[0] if context.args else ""
    if name in ("--help", "-h"):
        output.stdout().print(
            BENCH_HELP.format(command=context.command_path)
            + "\n".join(
                f"  {each:<12}{about}" for each, about in (("models", MODELS_HELP), *map(_about, found.items()))
            )
        )
        return output.OK
    if name not in found:
        problem = msg("There is no measurement '{name}'", name=name) if name else msg("The measurement is missing")
        known = msg("Known: {names}.", names=["models", *found])
        others = NOTHING if found else msg("The others are in a checkout of the playground: run them there.")
        raise UsageError(problem, sentences(known, others))
    return _run(lambda: runpy.run_path(found[name], run_name="__main__"), [found[name], *context.args[1:]])


def _about(script: tuple[str, str]) -> tuple[str, str]:
    """The name of a measurement and the first sentence that it says of itself."""
    name, path = script
    said = (ast.get_docstring(ast.parse(Path(path).read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return name, said.partition(". ")[0].rstrip(".")


def serve(context: typer.Context) -> int:
    """Start the web app; the same as `open-model-playground` and `python app.py`, with their options."""
    # Not imported: this package and the page's stand side by side.
    app = "playground.ui.app"
    return _run(lambda: runpy.run_module(app, run_name="__main__"), ["playground serve", *context.args])


def _run(script: Callable[[], object], argv: list[str]) -> int:
    """``script`` as a command of its own, which reads ``argv`` itself."""
    before = sys.argv
    sys.argv = argv
    try:
        script()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else output.OK if end.code is None else output.FAILED
    finally:
        sys.argv = before
    return output.OK
