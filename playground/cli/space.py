"""Commands about the project itself: ``space``, ``bench``, ``serve``."""

from __future__ import annotations

import runpy
import sys
from typing import Annotated

import typer

from playground.cli import output
from playground.errors import UsageError

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Options behind the command belong to the script it starts."""

BENCH_HELP = """Usage: python -m playground bench MEASUREMENT [OPTIONS]

Measure on this machine, in one run. `bench MEASUREMENT --help` tells what it does and its options. There are:
"""

space = typer.Typer(help="The hosted Space: spaces.yaml is its one source.", add_completion=False)


@space.command("render")
def render() -> None:
    """Write the block on top of README.md from spaces.yaml."""
    from playground.config.settings import load_settings
    from playground.deploy import render_readme
    from playground.paths import ROOT

    changed = render_readme(load_settings().space_file, ROOT / "README.md")
    output.stdout().print("README.md written." if changed else "README.md is as it should be.")


@space.command("check")
def check() -> int:
    """List what disagrees between spaces.yaml, README.md, requirements.txt and the catalogue."""
    from playground.config.settings import load_settings
    from playground.deploy import check_space
    from playground.paths import ROOT

    settings = load_settings()
    problems = check_space(settings.space_file, ROOT, settings.catalog_file)
    for problem in problems:
        output.stdout().print(f"- {problem}", soft_wrap=True)
    if not problems:
        output.stdout().print("The Space's configuration is consistent.")
    return output.FAILED if problems else output.OK


@space.command("deploy")
def deploy(
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files, upload nothing.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Create it as a private Space.")] = False,
) -> int:
    """Create or update a Space. The token comes from HF_TOKEN or `hf auth login`."""
    from playground.config.settings import load_settings
    from playground.deploy import check_space, deploy_space, files_to_deploy
    from playground.paths import ROOT

    settings = load_settings()
    problems = check_space(settings.space_file, ROOT, settings.catalog_file)
    if problems:
        output.stderr().print("\n".join(f"- {problem}" for problem in problems), soft_wrap=True)
        output.stderr().print("Nothing was uploaded: mend these first.")
        return output.FAILED
    if dry_run:
        for path in files_to_deploy(ROOT):
            print(path.relative_to(ROOT))
        return output.OK
    address = deploy_space(repo, settings.space_file, ROOT, private=private)
    output.stdout().print(f"Deployed: {address}", soft_wrap=True)
    return output.OK


def bench(context: typer.Context) -> int:
    """Measurements: `bench models` of models, `bench engine` of our decode loop beside others on this machine."""
    from playground.cli import benchmark
    from playground.paths import ROOT

    if context.args[:1] == ["models"]:
        return benchmark.main(context.args[1:])
    names = sorted(path.stem for path in (ROOT / "bench").glob("*.py") if not path.stem.startswith("_"))
    name = context.args[0] if context.args else ""
    if name in ("--help", "-h"):
        output.stdout().print(BENCH_HELP + "\n".join(f"  {each}" for each in ("models", *names)))
        return output.OK
    if name not in names:
        problem = f"There is no measurement '{name}'" if name else "The measurement is missing"
        raise UsageError(problem, f"Known: {', '.join(['models', *names])}.")
    return _run_script(str(ROOT / "bench" / f"{name}.py"), context.args[1:])


def serve(context: typer.Context) -> int:
    """Start the web app; the same as `python app.py`, with its options."""
    from playground.paths import ROOT

    return _run_script(str(ROOT / "app.py"), context.args)


def _run_script(path: str, args: list[str]) -> int:
    before = sys.argv
    sys.argv = [path, *args]
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else output.OK if end.code is None else output.FAILED
    finally:
        sys.argv = before
    return output.OK
