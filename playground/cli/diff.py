"""``diff`` and ``replay``: one model in two variants token by token, and a stored comparison run once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from playground.cli import output
from playground.cli.common import MOST_TOKENS, JsonOption, print_terms, read_prompt
from playground.errors import UsageError
from playground.messages import msg

if TYPE_CHECKING:
    from rich.text import Text

    from playground.experiments.diff import Side, VariantDiff
    from playground.experiments.replay import Change, ModelReplay, Replay
    from playground.experiments.teacher_forcing import Choice, Forced
    from playground.experiments.token_diff import Difference, Token

MAX_FLIPS = 12
"""Rows of the table of flips; --json has all."""


def diff(
    reference: Annotated[str, typer.Argument(metavar="MODEL@RUNTIME-PRECISION", help="The reference.")],
    candidate: Annotated[str, typer.Argument(metavar="MODEL@RUNTIME-PRECISION", help="Another variant of that model.")],
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from stdin.", show_default=False)],
    *,
    system: Annotated[str, typer.Option(help="System prompt, for models that have a template for it.")] = "",
    max_new_tokens: Annotated[int | None, typer.Option(help=MOST_TOKENS)] = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="For both alike.")] = 0,
    with_prompt: Annotated[
        bool, typer.Option("--with-prompt", help="Score the prompt's own tokens too, not only the answer's.")
    ] = False,
    json: JsonOption = False,
    save: Annotated[bool, typer.Option("--save", help="Keep the two answers in the history.")] = False,
) -> int:
    """Two variants of one model: where their answers part, and how far apart they are on the same text."""
    from playground.cli.live import follow
    from playground.config.settings import own_settings
    from playground.records import Request
    from playground.service import Playground

    settings = own_settings()
    most = settings.limits.usual_tokens() if max_new_tokens is None else max_new_tokens
    request = Request(
        prompt=read_prompt(prompt), system=system, max_new_tokens=most, temperature=temperature, seed=seed
    )
    with Playground(settings) as playground, output.working_on(f"{reference} and {candidate}"):
        found = follow(playground.diff(request, reference, candidate, with_prompt=with_prompt))
        if save:
            playground.keep(found.answers())
        if json:
            output.print_json(found.to_json())
        else:
            _print_diff(found)
            print_terms(playground, [side.run.variant.model for side in (found.reference, found.candidate)])
    return output.OK


def replay(
    id: Annotated[str, typer.Argument(metavar="ID", help="Of a stored comparison; history lists them.")],
    json: JsonOption = False,
    save: Annotated[bool, typer.Option("--save", help="Keep the rerun in the history too.")] = False,
) -> int:
    """Run a stored comparison again: the same tokens, or where they part and what has changed since.

    Exits with 0 only if every model wrote the same tokens.
    """
    from playground.cli.live import follow
    from playground.config.settings import own_settings
    from playground.service import Playground

    with Playground(own_settings()) as playground:
        stored = playground.comparison(id)
        if stored is None:
            raise UsageError(msg("No comparison has the id '{id}'", id=id), msg("`playground history` lists them."))
        with output.working_on(id):
            report = follow(playground.replay(stored))
        if save:
            playground.keep(report.rerun)
    if json:
        output.print_json(report.to_json())
    else:
        _print_replay(report, save)
    return output.OK if report.same else output.FAILED


# -- diff -------------------------------------------------------------------------------------------------------


def _print_diff(diff: VariantDiff) -> None:
    console = output.stdout()
    common = diff.common_tokens
    flips = set(diff.answer.flips)
    for side, marked in ((diff.reference, flips), (diff.candidate, set())):
        name = "reference" if side is diff.reference else "candidate"
        console.rule(f"{side.run.variant} ({name})", align="left")
        console.print(_marked(side, common if diff.difference else None, marked), soft_wrap=True)
        console.print(f"[{side.run.finish_reason}]")
    console.print()
    console.print(_parting_words(diff), soft_wrap=True)
    _print_forced(diff.answer, "the reference's answer", diff)
    if diff.prompt:
        _print_forced(diff.prompt, "the prompt", diff)
    _print_sides(diff)
    for note in diff.notes:
        console.print(f"note: {output.clean(note)}", soft_wrap=True)


def _marked(side: Side, common: int | None, flips: set[int]) -> Text:
    """The answer with its first other token in ⟦ ⟧, and tokens the candidate would have chosen otherwise in ‹ ›."""
    from rich.text import Text

    text = Text()
    for place, piece in enumerate(side.pieces):
        shown = output.clean(piece)
        if place == common:
            text.append(f"⟦{shown}⟧", "bold reverse")
        elif place in flips:
            text.append(f"‹{shown}›", "underline")
        else:
            text.append(shown, "" if common is None or place < common else "dim")
    return text


def _parting_words(diff: VariantDiff) -> str:
    found = diff.difference
    if found is None:
        return f"The same answer, all {diff.common_tokens:,} tokens."
    words = f"The first {found.position:,} tokens are the same. Then: {_then(found, 'the reference', 'the candidate')}."
    if diff.divergence:
        for name, choices in (("reference", diff.divergence.reference), ("candidate", diff.divergence.candidate)):
            words += f"\n  {name + ':':<11}" + ", ".join(map(_choice, choices))
    return words


def _then(found: Difference, one: str, other: str) -> str:
    return f"{one} {_token(found.one)}, {other} {_token(found.other)}"


def _token(token: Token) -> str:
    if token.id < 0:
        return f"{output.clean(token.text)!r}" if token.text else "has ended"
    return f"{output.clean(token.text)!r} ({token.id})"


def _choice(choice: Choice) -> str:
    return f"{output.clean(choice.text)!r} ({choice.id}) {choice.probability:.1%}"


def _print_forced(forced: Forced, what: str, diff: VariantDiff) -> None:
    from rich.table import Table

    console = output.stdout()
    count = len(forced.positions)
    cut = f" of {forced.total:,}: more logits would not fit on the disk" if forced.total > count else ""
    console.print(f"\nBoth forced along {what} ({count:,} tokens{cut})")
    console.print(f"  top-1 flips  {len(forced.flips):,} of {count:,} ({len(forced.flips) / count:.1%})")
    console.print(f"  mean KL      {forced.mean_kl:.4g} nats a token, KL(reference ‖ candidate), whole vocabulary")
    console.print(
        f"  perplexity   reference {forced.reference_perplexity:.3f}, candidate {forced.candidate_perplexity:.3f}"
        + (" (the text is the reference's own choice)" if forced is diff.answer else "")
    )
    if not forced.flips:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("token", "text", "reference's first choice", "candidate's first choice", "KL, nats"):
        table.add_column(title, justify="right" if title in ("token", "KL, nats") else "left", overflow="fold")
    for place in forced.flips[:MAX_FLIPS]:
        at = forced.positions[place]
        text = repr(output.clean(at.token.text))
        table.add_row(str(place + 1), text, _choice(at.reference), _choice(at.candidate), f"{at.kl:.3f}")
    console.print(table)
    if len(forced.flips) > MAX_FLIPS:
        console.print(f"  and {len(forced.flips) - MAX_FLIPS:,} more; --json has all")


def _print_sides(diff: VariantDiff) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    rows: dict[str, list[str]] = {}
    for side in (diff.reference, diff.candidate):
        table.add_column(str(side.run.variant), justify="right", overflow="fold")
        for name, value in _figures(side).items():
            rows.setdefault(name, []).append(value)
    for name, values in rows.items():
        table.add_row(name, *values)
    output.stdout().print("\nOne run each: repeat before ranking")
    output.stdout().print(table)


def _figures(side: Side) -> dict[str, str]:
    from playground.results.figures import FIGURES

    taken, fidelity = side.run.timings, side.run.fidelity

    def number(value: float | None, decimals: int, factor: float = 1.0) -> str:
        return "–" if value is None else f"{value * factor:,.{decimals}f}"

    named = {name: FIGURES[name] for name in ("decode_tok_s", "ttft_s", "peak_memory_mb")}
    return {
        **{output.say(known.heading): known.shown(getattr(taken, name)) for name, known in named.items()},
        "on disk, MB": number(side.size_bytes or None, 0, 1e-6),
        "export check, mean KL": "–" if fidelity is None else f"{fidelity.mean_kl:.2g} ({fidelity.verdict})",
    }


# -- replay -----------------------------------------------------------------------------------------------------


def _print_replay(report: Replay, is_kept: bool) -> None:
    console = output.stdout()
    kept = f"kept as {report.rerun.id}" if is_kept else "not kept (--save keeps it)"
    console.print(f"{report.stored} of {report.created_at}, run again, {kept}\n", soft_wrap=True)
    for model in report.models:
        console.print(f"{model.variant}: {_verdict_words(model)}", soft_wrap=True)
        if found := model.difference:
            after = found.one_after, found.other_after
            for when, token, rest in zip(("then", "now"), (found.one, found.other), after, strict=True):
                around = output.clean(f"{found.before}⟦{token.text}⟧{rest}")
                console.print(f"  {when + ':':<5} …{' '.join(around.split())}", soft_wrap=True)
        if model.detail:
            console.print(f"  {output.clean(model.detail)}", soft_wrap=True)
        for change in model.changes:
            console.print(_change_line(change), soft_wrap=True)
    console.print("\nMachine and software: " + ("as they were" if not report.changes else "changed"))
    for change in report.changes:
        console.print(_change_line(change), soft_wrap=True)


def _change_line(change: Change) -> str:
    was, now = (output.clean(value) or "none" for value in (change.was, change.now))
    return f"  {output.clean(change.what)}: {was} → {now}"


def _verdict_words(model: ModelReplay) -> str:
    unit = "token" if model.compared == "tokens" else "character"
    if model.verdict == "identical":
        return f"identical, {model.count:,} {unit}{'' if model.count == 1 else 's'}"
    if model.difference:
        at = model.difference
        return f"differs at {at.unit} {at.position + 1:,}: {_then(at, 'then', 'now')}"
    return "can't be told"
