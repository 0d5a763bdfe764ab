"""The typer application: commands by name, and what becomes of every error.

Exit codes: 0 every model answered; 1 something failed while it was done; 2 the command itself was wrong; 130 Ctrl-C.
Heavy modules are imported inside the commands, so that ``--help`` stays quick.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from playground import __version__
from playground.cli import (
    choose,
    compare,
    costs,
    deploy,
    diff,
    mcp,
    models,
    output,
    serve_api,
    ship,
    space,
    suite,
    tokens,
    turns,
    votes,
)
from playground.cli import eval as evaluation
from playground.errors import PlaygroundError
from playground.messages import foreign, msg, sentences

app = typer.Typer(
    name="playground",
    help="One prompt, several small open models, side by side, with figures you can trust.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"open-model-playground {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What stands before a command."""


app.command("models")(models.models)
app.command("prepare")(models.prepare)
app.command("compare")(compare.compare)
app.command("choose")(choose.choose)
app.command("eval")(evaluation.evaluate)
app.command("ship")(ship.ship)
app.command("costs")(costs.costs)
app.command("card")(models.card)
app.command("inspect")(models.inspect)
app.command("history")(compare.history)
app.command("reply")(turns.reply)
app.command("go-on")(turns.go_on)
app.command("tokens")(tokens.tokens)
app.command("diff")(diff.diff)
app.command("replay")(diff.replay)
app.command("votes")(votes.votes)
app.command("suite")(suite.suite)
app.command("bench", context_settings=space.PASS_ON)(space.bench)
app.command("serve", context_settings=space.PASS_ON)(space.serve)
app.command("serve-api")(serve_api.serve_api)
app.command("mcp")(mcp.mcp)
app.add_typer(space.space, name="space")
app.add_typer(deploy.deploy, name="deploy")
space.space.command("deploy", hidden=True)(deploy.deploy_space)  # its name before 0.2

RENAMED = {"twins": "diff", "again": "replay"}
"""Commands of versions before 0.2 and what they are called now."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; never raises for an error a reader could meet."""
    args = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in args[: args.index("--")] if "--" in args else "--json" in args
    if args[:1] in (["bench"], ["serve"]) and "--" in args:
        args.insert(args.index("--"), "--")  # what they start reads its own command line, two dashes included
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if args[:1] and args[0] in RENAMED:
        return output.report(_renamed(args[0]), as_json)
    try:
        code = int(app(args=args or ["--help"], prog_name=_name(), standalone_mode=False) or output.OK)
    except typer.TyperException as error:
        return output.report(_command_line_error(error, args), as_json)
    except PlaygroundError as error:
        return output.report(error, as_json)
    except SystemExit:  # typer's answer to a reader of our output that left, as `| head` does
        return output.FAILED
    except Exception as error:
        return output.report_unexpected(error, as_json, _home())
    if code == output.INTERRUPTED:  # typer's answer to Ctrl-C
        output.report_interrupt(as_json)
    return code


def _renamed(command: str) -> PlaygroundError:
    from playground.errors import UsageError

    now = RENAMED[command]
    return UsageError(
        msg("The command {old} is called {new} now", old=command, new=now),
        msg("Run {program} {command} --help.", program=_name(), command=now),
    )


def _name() -> str:
    """What the reader typed: the installed command, or the module."""
    return "playground" if Path(sys.argv[0]).stem == "playground" else "python -m playground"


def _command_line_error(error: typer.TyperException, args: Sequence[str]) -> PlaygroundError:
    from playground.errors import UsageError

    context = getattr(error, "ctx", None)
    command = context.command_path if context else _name()
    advice = msg("See {command} --help.", command=command)
    meant = getattr(error, "option_name", "") or next((arg for arg in args if arg.startswith("-") and " " in arg), "")
    if meant and context and any(parameter.name == "prompt" for parameter in context.command.params):
        last = msg(
            'A prompt that begins with a dash comes last, behind two dashes: -- "{word} …".', word=meant.split()[0]
        )
        advice = sentences(last, advice)
    return UsageError(foreign(error.format_message()), advice)


def _home() -> Path | None:
    from playground.config.settings import load_settings

    try:
        return load_settings().home
    except PlaygroundError:
        return None
