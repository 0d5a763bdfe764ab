"""Commands about models: ``models``, ``prepare``, ``card``, ``inspect``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from playground.catalog.kinds import WORDS, kind_told
from playground.cli import output
from playground.cli.common import JsonOption, print_terms, read_prompt
from playground.errors import PlaygroundError, UsageError
from playground.messages import msg

if TYPE_CHECKING:
    from playground.catalog.entries import CatalogEntry
    from playground.catalog.hub import HubInfo
    from playground.catalog.search import Listed
    from playground.catalog.stores import Stored
    from playground.records import Artifact, Fact, ModelFacts, PromptView
    from playground.ship.push import Pushed

Choice = TypeVar("Choice", bound=str)

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL[@RUNTIME-PRECISION]", show_default=False)]

MARKS = {"card": "✓", "catalogue": "≈", "measured": "◆", "unknown": "?"}
LEGEND = "✓ the developer's card, licence or config   ≈ second-hand   ◆ measured here   ? unknown"


def models(  # noqa: PLR0917 (typer's options, never given by position)
    task: Annotated[str, typer.Option(help="Only this task, e.g. text-generation.")] = "",
    license: Annotated[str, typer.Option(help="Only this licence id, e.g. apache-2.0.")] = "",
    max_params: Annotated[str, typer.Option(help="At most so many parameters, e.g. 300M.")] = "",
    specialisation: Annotated[str, typer.Option(help="Made for this, e.g. japanese, biomedical, math, code.")] = "",
    family: Annotated[str, typer.Option(help="Only families that begin so, e.g. falcon.")] = "",
    commercial: Annotated[str, typer.Option(help="yes: without conditions of its own; conditional: those too.")] = "",
    min_openness: Annotated[int, typer.Option(min=0, max=5, help="At least so many of the five items open.")] = 0,
    runs_here: Annotated[bool, typer.Option("--runs-here", help="Only what fits this machine's memory.")] = False,
    search: Annotated[str, typer.Option(help="Words that must all occur in a model's facts.")] = "",
    sort: Annotated[str, typer.Option(help="catalogue, name, parameters, openness, context or release.")] = "catalogue",
    json: JsonOption = False,
) -> None:
    """List the models of the catalogue, their variants and what is ready. hub:OWNER/NAME works beside them.

    What Ollama and LM Studio have on this machine is listed below them, as ollama:NAME and lmstudio:FILE.
    """
    from playground.catalog.search import SORTS, Filters
    from playground.config.settings import own_settings
    from playground.service import Playground
    from playground.system.memory import limit_mb

    filters = Filters(
        task=task,
        license=license,
        commercial=_choice(commercial, "--commercial", ("", "yes", "conditional")),
        family=family,
        specialisation=specialisation,
        max_parameters=parse_count(max_params) if max_params else None,
        min_openness=min_openness,
        runs_here=runs_here,
        search=search,
    )
    order = _choice(sort, "--sort", SORTS)
    with Playground(own_settings()) as playground:
        found = playground.search(filters, order)
        rows = [playground.model_json(item) for item in found]
        stored = playground.stored_models()
        if json:
            kept = [{"id": each.source, "size_bytes": each.size_bytes, "rounding": each.rounding} for each in stored]
            output.print_json({"models": rows, "stores": kept, "memory_limit_mb": round(limit_mb())})
        elif rows:
            _print_models(found, rows)
            if stored and filters == Filters():
                _print_stored(stored)
            print_terms(playground, [item.entry.spec.id for item in found])
        else:
            asked = {"task": task, "license": license, "family": family, "specialisation": specialisation}
            _print_none_fits({name: value for name, value in asked.items() if value}, playground.filter_choices())


def prepare(
    models: Annotated[list[str], typer.Argument(metavar="MODEL[@RUNTIME-PRECISION]…", show_default=False)],
    push_to: Annotated[
        str, typer.Option(metavar="OWNER/REPO", help="Put them into this repository of the Hub, with a model card.")
    ] = "",
    private: Annotated[bool, typer.Option("--private", help="Create that repository as a private one.")] = False,
    json: JsonOption = False,
) -> int:
    """Fetch, export and check models; prints each artifact and its fidelity.

    With --push-to they are uploaded afterwards, and a playground with PLAYGROUND_PREPARED_FROM=OWNER/REPO starts from
    them without exporting. The token comes from HF_TOKEN or `hf auth login`.
    """
    from playground.config.settings import own_settings
    from playground.service import Playground

    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    with Playground(own_settings()) as playground:
        for variant in dict.fromkeys(playground.variants(models)):
            try:
                with output.working_on(variant), output.steps(str(variant)) as progress:
                    artifact = playground.prepare(variant, progress)
            except PlaygroundError as error:
                failed.append({"variant": str(variant), **output.error_json(error)})
                output.stderr().print(f"{variant}: {output.clean(error.message)}")
                continue
            done.append(artifact.to_json())
            if not json:
                _print_artifact(artifact)
        pushed = None
        if push_to and not failed:
            with output.steps(push_to) as progress:
                pushed = playground.push(models, push_to, private=private, progress=progress)
            if not json:
                _print_pushed(pushed)
    if json:
        output.print_json({"artifacts": done, "errors": failed, **({"pushed": pushed} if pushed else {})})
    return output.FAILED if failed else output.OK


def card(
    model: ModelArgument,
    online: Annotated[
        bool, typer.Option("--online", help="Also read the model's card on the Hub as it is now.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """What the model's card really says: each fact with its source, then the rest to read."""
    from playground.config.settings import own_settings
    from playground.service import Playground

    with Playground(own_settings()) as playground:
        found = playground.card(model, "always" if online else "unknown")
    if found.problem:
        warning = msg("Warning: {error} What follows was read earlier, if anything.", error=found.problem)
        output.stderr().print(output.clean(warning), soft_wrap=True)
    if json:
        output.print_json(found.to_json())
        return
    yes, of = found.openness
    _print_facts(
        found.entry, found.facts, f"{yes} of {of}", "" if found.hub else f": {output.say(WORDS[found.entry.spec.kind])}"
    )
    if found.hub:
        _print_hub(found.hub)
    if found.entry.card or not found.hub:
        _print_markdown(found.rest)


def inspect(
    model: ModelArgument,
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from stdin.", show_default=False)],
    system: Annotated[str, typer.Option(help="System prompt.")] = "",
    json: JsonOption = False,
) -> None:
    """Show what the model would really read: rendered prompt, token ids, warnings."""
    from playground.config.settings import own_settings
    from playground.records import Request
    from playground.service import Playground

    request = Request(prompt=read_prompt(prompt), system=system)
    with Playground(own_settings()) as playground:
        variant = playground.resolve(model)[1]
        with output.working_on(variant), output.steps(str(variant)) as progress:
            view = playground.inspect(str(variant), request, progress)
    if json:
        output.print_json(view.to_json())
    else:
        _print_view(view)


def parse_count(text: str) -> int:
    """``135M``, ``1.5B`` or a plain number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmb]?)", text.strip().lower())
    if not match:
        raise UsageError(
            msg("'{text}' is not a number of parameters", text=text), msg("Write it like 300M, 1.5B or 135000000.")
        )
    return int(float(match[1]) * {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}[match[2]])


def _print_stored(stored: list[Stored]) -> None:
    console = output.stdout()
    console.print(output.clean(msg("\nIn the stores of Ollama and LM Studio on this machine, by name like any other:")))
    for each in stored:
        told = " ".join(filter(None, (f"{each.size_bytes / 1e9:.1f} GB", each.rounding)))
        console.print(f"  {output.clean(each.source)}  {output.clean(told)}", soft_wrap=True)


def _choice(value: str, option: str, known: tuple[Choice, ...]) -> Choice:
    from playground.config.validation import closest

    for choice in known:
        if choice == value.lower():
            return choice
    names = [str(choice) for choice in known if choice]
    raise UsageError(msg("'{value}' is no value of {option}", value=value, option=option), closest(value, names))


def _print_models(found: list[Listed], rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from playground.catalog.cards import OPENNESS

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    figures = ("parameters", "context", "licence", "made for", "open items", "memory")
    for title in ("model", "kind", *figures, "runs here", "prepared"):
        table.add_column(title, justify="right" if title in ("parameters", "context", "memory") else "left")
    for row in rows:
        expected = row["expected_memory"]
        table.add_row(
            row["id"],
            row["kind"],
            f"{row['parameters'] / 1e6:,.0f} M" if row["parameters"] else "unknown",
            f"{row['context_length']:,}" if row["context_length"] else "unknown",
            row["license"] or "unknown",
            row["specialisation"] or "unknown",
            f"{row['open_items']} of 5",
            f"{max(expected['run_mb'], expected['prepare_mb']) / 1000:.1f} GB" if expected else "unknown",
            "refused" if row["refused"] else {True: "yes", False: "no", None: "unknown"}[row["runs_here"]],
            _states(row["variants"]),
        )
    console = output.stdout()
    console.print(table)
    console.print(f"\nopen items: how many of {', '.join(OPENNESS).replace('_', ' ')} are a plain yes.")
    console.print("memory: estimate of the most that preparing or running the default variant takes.")
    for names, some in _offers(rows).items():
        console.print(f"variants{some}: {', '.join(names)}; the first is the default.", soft_wrap=True)
    console.print("prepared: on this disk and checked. Any other variant is prepared when it is first asked for.")
    for item in found:
        if item.refused:
            told = msg(
                "{model}: {why} Instead: {other}.", model=item.entry.spec.id, why=item.refused, other=item.instead
            )
            console.print(output.clean(told), soft_wrap=True)
    console.print()


def _states(variants: list[dict[str, Any]]) -> str:
    """What is at hand or in the making: ``int8, torch-fp32; failed: int4``. A variant nobody asked for is no news."""
    states: dict[str, list[str]] = {}
    for item in variants:
        if item["status"] != "missing":
            states.setdefault(item["status"], []).append(item["variant"].rpartition("@")[2])
    ready = states.pop("ready", [])
    return "; ".join([*filter(None, [", ".join(ready)]), *(f"{state}: {', '.join(n)}" for state, n in states.items())])


def _offers(rows: list[dict[str, Any]]) -> dict[tuple[str, ...], str]:
    """The sets of variants that are offered, each with the models it is of where there are several sets."""
    sets: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        names = tuple(item["variant"].rpartition("@")[2] for item in row["variants"])
        sets.setdefault(names, []).append(row["id"])
    return {names: f" of {', '.join(models)}" if len(sets) > 1 else "" for names, models in sets.items()}


def _print_none_fits(asked: dict[str, str], offered: dict[str, list[str]]) -> None:
    """No model: name the wish that no model of the catalogue fulfils by itself, with the values that there are."""
    console = output.stdout()
    console.print("No model fits.")
    for name, value in asked.items():
        known = offered[name]
        met = [item for item in known if re.match(re.escape(value) + ("" if name == "family" else "$"), item, re.I)]
        if not met:
            console.print(f"No model has --{name} {value}. There are: {', '.join(known)}.", soft_wrap=True)


def _print_hub(info: HubInfo) -> None:
    expected = info.footprint()
    runs = output.say(info.refusal or info.way)
    lines = [
        f"On the Hub: {info.url} at {info.revision[:12]}",
        f"  to fetch  {info.download_bytes / 1e6:,.0f} MB" if info.download_bytes else "",
        f"  gated     {info.gated}: accept its licence on that page, then set HF_TOKEN" if info.gated else "",
        f"  does      {output.say(WORDS[kind])}" if (kind := kind_told(info.config, info.tags)) else "",
        f"  runs here {runs}",
        f"  memory    about {expected.need_mb / 1000:.1f} GB (estimate)" if expected else "",
        *(f"  note      {output.say(note)}" for note in info.notes),
    ]
    output.stdout().print(output.clean("\n".join(filter(None, lines))) + "\n", soft_wrap=True)


def _print_artifact(artifact: Artifact) -> None:
    lines = [
        f"{artifact.variant}: ready",
        f"  recipe    {artifact.recipe}",
        *_engine_lines(artifact),
        f"  size      {artifact.size_bytes / 1e6:,.{0 if artifact.size_bytes >= 1e7 else 1}f} MB",
        f"  folder    {artifact.path}",
    ]
    fidelity = artifact.fidelity
    if fidelity:
        lines.append(
            f"  fidelity  {fidelity.verdict}, compared with {output.say(fidelity.reference)}, "
            f"over {fidelity.positions} positions: "
            f"top-1 agreement {fidelity.top1_agreement:.1%}, mean KL {fidelity.mean_kl:.4f} nats, "
            f"largest logit error {fidelity.max_logit_error:.3g}"
        )
    lines += [f"  not used  {output.clean(reason)}" for reason in artifact.fallbacks]
    lines += [f"  note      {output.clean(note)}" for note in artifact.notes]
    output.stdout().print("\n".join(lines), soft_wrap=True)


def _print_pushed(pushed: Pushed) -> None:
    told = (
        msg("Uploaded {n} files to {address}", n=len(pushed.changed), address=pushed.address)
        if pushed.changed or pushed.deleted
        else msg("Nothing changed: {address} has all of it", address=pushed.address)
    )
    console = output.stdout()
    console.print(output.clean(told), soft_wrap=True)
    for task in pushed.left_to_do:
        console.print(output.clean(msg("Left to you: {task}", task=task)), soft_wrap=True)
    start = msg(
        "To start from it: PLAYGROUND_PREPARED_FROM={repo}#{commit}, or app.prepared_from in spaces.yaml.",
        repo=pushed.repo,
        commit=pushed.commit,
    )
    console.print(output.clean(start), soft_wrap=True)


def _engine_lines(artifact: Artifact) -> list[str]:
    if not artifact.engine:
        return []
    note = f" (not the playground's kernels: {output.clean(artifact.engine_note)})" if artifact.engine_note else ""
    if artifact.engine.startswith("kernels ") and (library := artifact.tool_versions.get("kernels")):
        note = f" (library: {output.clean(library)})"
    return [f"  engine    {artifact.engine}{note}"]


def _print_facts(entry: CatalogEntry, facts: ModelFacts, openness: str, does: str) -> None:
    from rich.table import Table

    from playground.catalog.cards import fact_title

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("fact", "", "value", "source"):
        table.add_column(title, overflow="fold")
    named: dict[str, Fact] = {
        name: getattr(facts, name)
        for name in facts.__dataclass_fields__
        if name not in ("model", "openness", "quality", "extra")
    }
    named |= {f"openness: {name}": getattr(facts.openness, name) for name in facts.openness.__dataclass_fields__}
    named |= facts.extra | facts.quality
    for name, fact in named.items():
        shown = output.clean(_shown(name, fact.value))
        table.add_row(output.say(fact_title(name)), MARKS[fact.status], shown, output.clean(fact.url or fact.source))
    console = output.stdout()
    console.print(f"{entry.spec.name}{does}\n")
    console.print(table)
    console.print(f"\nOpenness: {openness} items are a plain yes.\n{LEGEND}\n")


def _shown(name: str, value: Any) -> str:
    if name == "size_bytes" and value is not None:
        return f"{value / 1e6:,.0f} MB"
    if name == "top1_agreement" and value is not None:
        return f"{value:.1%}"
    if isinstance(value, (list, tuple)):
        return ", ".join(output.say(item) if isinstance(item, str) else str(item) for item in value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        return output.say(value)
    return "unknown" if value is None else str(value)


def _print_markdown(text: str) -> None:
    console = output.stdout()
    if console.is_terminal:
        from rich.markdown import Markdown

        console.print(Markdown(text))
    else:
        console.print(text, soft_wrap=True)


def _print_view(view: PromptView) -> None:
    console = output.stdout()
    reads = f"reads {len(view.token_ids)} tokens" if view.token_ids else "is sent this; its number of tokens is unknown"
    console.print(f"{view.model} {reads}:\n", soft_wrap=True)
    console.print(output.clean(view.rendered), soft_wrap=True)
    console.print()
    for token_id, token in zip(view.token_ids, view.tokens, strict=True):
        console.print(f"{token_id:>8}  {output.clean(token)!r}", soft_wrap=True)
    for warning in view.warnings:
        output.stderr().print(output.clean(msg("Warning: {warning}", warning=warning)), soft_wrap=True)
