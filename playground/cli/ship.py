"""``ship``: the chosen model as a folder that onnxruntime-genai runs anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from playground.cli import output
from playground.cli.common import JsonOption
from playground.cli.models import ModelArgument
from playground.messages import msg

if TYPE_CHECKING:
    from playground.ship.folder import Shipped


def ship(
    model: ModelArgument,
    folder: Annotated[Path, typer.Argument(help="Where to; it must not exist, or be empty.", show_default=False)],
    *,
    json: JsonOption = False,
    licence: Annotated[
        Path | None, typer.Option(help="The licence of the weights as a text file, where they come without one.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a model that was shipped there before.")] = False,
) -> int:
    """Write the measured model as an onnxruntime-genai folder, with receipts, card, licence and an example.

    Exit code 0: it is there, and onnxruntime-genai ran it; 1: it could not be made, 2: the command was wrong. Nothing
    is left half written.
    """
    from playground.config.settings import own_settings
    from playground.service import Playground

    with Playground(own_settings()) as playground, output.working_on(model), output.steps(model) as progress:
        shipped = playground.ship(model, folder, force=force, licence=licence, progress=progress)
    if json:
        output.print_json({**shipped.to_json(), "variant": str(shipped.variant)})
    else:
        _print(shipped)
    return output.OK


def _print(shipped: Shipped) -> None:
    console = output.stdout()
    trial = shipped.trial
    size = msg("{mb:,.0f} MB, artifact {sha256}", mb=shipped.size_bytes / 1e6, sha256=shipped.artifact_sha256[:12])
    console.print(f"{shipped.variant} → {output.clean(shipped.folder)}  ({output.clean(size)})", soft_wrap=True)
    tried = msg(
        "onnxruntime-genai {version} ran it: {same} of {n} tokens are the playground's own.",
        version=trial.version,
        same=trial.same_tokens,
        n=min(len(trial.tokens), trial.our_tokens),
    )
    console.print(output.clean(tried), soft_wrap=True)
    for caution in shipped.cautions:
        console.print(f"note: {output.clean(caution)}", soft_wrap=True)
    for task in shipped.left_to_do:
        left = msg("Before you pass it on: {task}", task=task)
        console.print(output.clean(left), soft_wrap=True)
    console.print(output.clean(msg("Try it: python {path}", path=f"{shipped.folder}/example.py")), soft_wrap=True)
