"""``tokens``: how sure a model was of each token of a stored answer, and what else it might have said."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from playground.cli import output
from playground.cli.common import JsonOption
from playground.errors import UsageError
from playground.messages import msg

if TYPE_CHECKING:
    from playground.experiments.token_view import TokenAt, TokenView

OTHERS = 3
"""Alternatives in the table; --json has all."""


def tokens(
    id: Annotated[str, typer.Argument(metavar="ID", help="Of a stored comparison; history lists them.")],
    column: Annotated[int, typer.Argument(metavar="COLUMN", help="Which of its answers, from 1.")] = 1,
    json: JsonOption = False,
) -> int:
    """How sure a model was of each token of a stored answer: probability, rank, entropy and alternatives.

    The answer is read once more by the same files. Probabilities are a softmax at temperature 1 over the whole
    vocabulary, before the request's temperature, filters and penalties.
    """
    from playground.cli.live import follow
    from playground.config.settings import own_settings
    from playground.service import Playground

    with Playground(own_settings()) as playground:
        stored = playground.comparison(id)
        if stored is None:
            raise UsageError(msg("No comparison has the id '{id}'", id=id), msg("`playground history` lists them."))
        with output.working_on(id):
            view = follow(playground.token_view(stored, column - 1))
    if json:
        output.print_json(view.to_json())
    else:
        _print_view(view)
    return output.OK


def _print_view(view: TokenView) -> None:
    from rich.table import Table
    from rich.text import Text

    console = output.stdout()
    console.print(f"{output.clean(str(view.variant))}, answer {view.column + 1} of {view.comparison}", soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title, side in (("token", "right"), ("id", "right"), ("text", "left"), ("probability", "right")):
        table.add_column(title, justify=side, overflow="fold")  # type: ignore[arg-type]
    for title in ("rank", "entropy, nats"):
        table.add_column(title, justify="right")
    table.add_column("likeliest", overflow="fold")
    for place, token in enumerate(view.tokens, start=1):
        table.add_row(*map(Text, _row(place, token)))
    console.print(table)
    bits = view.mean_entropy / math.log(2)
    console.print(f"perplexity {view.perplexity:.3f}, mean entropy {view.mean_entropy:.3f} nats ({bits:.3f} bits)")
    console.print(output.clean(view.how), soft_wrap=True)


def _row(place: int, token: TokenAt) -> tuple[str, ...]:
    others = ", ".join(f"{each.text!r} {each.probability:.1%}" for each in token.alternatives[:OTHERS])
    given = " (given)" if token.given else ""
    shown = repr(token.name) + given
    share = f"{token.probability:.1%}" if token.probability >= 0.0005 else f"{token.probability:.0e}"
    return str(place), str(token.id), shown, share, f"{token.rank:,}", f"{token.entropy:.3f}", others
