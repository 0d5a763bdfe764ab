"""``playground votes``: the ratings of one's own blind votes, or the votes themselves as a file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from playground.cli import output
from playground.cli.common import JsonOption
from playground.errors import UsageError
from playground.messages import msg, plural

if TYPE_CHECKING:
    from playground.results.ratings import Ratings


def votes(
    *,
    json: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Each vote as pairs: model_a, model_b, winner.")] = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="The same pairs, a JSON object a line.")] = False,
    arena: Annotated[
        bool, typer.Option("--arena", help="Pairs with both conversations, as public collections of votes have them.")
    ] = False,
    by: Annotated[str, typer.Option("--by", help="variant, or model: all its variants together.")] = "variant",
    tag: Annotated[str, typer.Option("--tag", help="Only votes on prompts of this kind.")] = "",
) -> int:
    """What your blind votes say: how often each model would win, with 95 % intervals."""
    from playground.config.settings import own_settings
    from playground.service import Playground

    if json + csv + jsonl + arena > 1:
        raise UsageError(msg("Several formats are given"), msg("Choose one of --json, --csv, --jsonl and --arena."))
    if by not in ("variant", "model"):
        raise UsageError(msg("'{by}' is nothing to rate by", by=by), msg("Rate by variant, or by model."))
    if (csv or jsonl or arena) and (tag or by != "variant"):
        raise UsageError(msg("A file has all votes as they were cast"), msg("Leave --by and --tag out."))
    kind: Literal["variant", "model"] = "model" if by == "model" else "variant"
    with Playground(own_settings()) as playground:
        if csv or jsonl or arena:
            sys.stdout.write(playground.export_votes("", "csv" if csv else "arena" if arena else "jsonl"))
            return output.OK
        tags = playground.vote_tags("")
        if tag and tag.casefold() not in tags:
            known = msg("Tags in use: {tags}.", tags=tags) if tags else msg("No vote has a tag yet.")
            raise UsageError(msg("No vote has the tag '{tag}'", tag=tag), known)
        found = playground.ratings("", kind, tag.casefold())
        if json:
            cast = [vote.to_json() for vote in playground.votes("")]
            output.print_json({"ratings": found.to_json(), "by": kind, "tag": tag.casefold(), "votes": cast})
        else:
            _print(found)
    return output.OK


def _print(found: Ratings) -> None:
    from rich.table import Table

    from playground.results.ratings import LEAST_VOTES

    console = output.stdout()
    if not found.votes:
        said = msg("No votes yet: switch on Vote blind in the app's Compare tab, run a prompt and choose.")
        console.print(output.clean(said), soft_wrap=True)
        return
    rated = [group for group in found.groups if group[0].win_rate is not None]
    for group in rated:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for place, title in enumerate(
            (
                msg("model"),
                msg("would win"),
                msg("95 % interval"),
                msg("votes"),
                msg("won, tied, lost"),
                msg("called bad"),
            )
        ):
            table.add_column(output.say(title), justify="right" if place else "left")
        for rating in group:
            assert rating.win_rate is not None and rating.low is not None and rating.high is not None
            table.add_row(
                output.clean(rating.name),
                f"{rating.win_rate:.0%}",
                f"{rating.low:.0%} – {rating.high:.0%}",
                str(rating.votes),
                f"{rating.wins} · {rating.ties} · {rating.losses}",
                str(rating.bad),
            )
        console.print(table)
        if max(rating.votes for rating in group) < LEAST_VOTES:
            few = msg("Fewer than {n} votes: even if all agree, chance alone explains them.", n=LEAST_VOTES)
            console.print(output.clean(few), soft_wrap=True)
    if len(rated) > 1:
        console.print(output.clean(msg("No chain of votes joins these tables: nothing is said across them.")))
    told = plural("{n} blind vote", "{n} blind votes", n=found.votes)
    bad = msg("{votes}; {n} called every answer bad, which moves no strength.", votes=told, n=found.bad)
    console.print(output.clean(bad if found.bad else told), soft_wrap=True)
