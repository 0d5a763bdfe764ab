"""What the Learn tab shows: what "open" means, why people choose open models, families, how to choose, how to read this
page; and a prompt to try at each point. Text of ours and facts of the catalogue, as HTML.

Sentences are Markdown in messages, so that a translator sees whole sentences; facts and names are escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt

from playground.catalog.search import Listed
from playground.catalog.sets import ModelSet, download_bytes
from playground.messages import Translatable, msg
from playground.records import Fact
from playground.ui.html.format import card_word, esc, link, megabytes, rich
from playground.ui.html.tables import ANSWERS, OPENNESS, YES_NO
from playground.ui.i18n import say

_MARKDOWN = MarkdownIt("commonmark", {"html": False})
FAMILIES = ("Llama 2", "Mistral", "Falcon", "OLMo")
"""The families of the lesson, as the catalogue's families begin."""
LEDGER = (
    "smollm2-135m-instruct",
    "gemma-3-270m",
    "qwen3-0.6b",
    "llama-2-7b-chat",
    "mistral-7b-instruct-v0.3",
    "olmo-7b",
)
"""Models whose answers to the five questions stand side by side: the starters, and one of each kind of openness."""
USES = {
    "training_data": msg(
        "see what the model has read, search it for your test questions, look for bias and for copyright"
    ),
    "weights": msg("run the model yourself, on your own machine, for as long as you like"),
    "evaluation_code": msg("get the published scores again, instead of believing them"),
    "finetuning_code": msg("adapt the model the way its makers did"),
    "training_metrics": msg("see how training went, and compare your own training with it"),
}
"""What each item of openness lets one do."""
RELATIONS = {
    "finetune": msg("fine-tuned"),
    "pretrained": msg("trained further"),
    "expanded": msg("new blocks added"),
    "quantized": msg("quantised"),
    "merge": msg("merged"),
}


@dataclass(frozen=True)
class Lesson:
    """What the tab is drawn from.

    Attributes:
        models: Of the catalogue, in its order.
        sets: To begin with.
        ready: Whether a model needs no download any more.
        chosen: Ids of models that are served: what a prompt to try is sent to where the lesson needs no others.
    """

    models: Sequence[Listed]
    sets: Sequence[ModelSet]
    ready: Callable[[Listed], bool]
    chosen: tuple[str, ...]


def lesson_html(lesson: Lesson) -> str:
    """The whole tab."""
    parts = (
        ("learn-open", msg("What “open” means"), _open(lesson)),
        ("learn-why", msg("Why people choose open models"), _why(lesson)),
        ("learn-families", msg("Families, and what grew out of them"), _families(lesson)),
        ("learn-choose", msg("How to choose one"), _choose(lesson)),
        ("learn-sets", msg("Sets to begin with"), sets_html(lesson)),
        ("learn-page", msg("Reading this page"), _page(lesson)),
    )
    tour = "".join(f'<li><a href="#{name}">{esc(say(title))}</a></li>' for name, title, _ in parts)
    drawn = "".join(
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{esc(say(title))}</h2>'
        f"{body}</section>"
        for name, title, body in parts
    )
    return f'<div class="lesson"><nav aria-label="{esc(say(msg("Lesson")))}"><ol>{tour}</ol></nav>{drawn}</div>'


def _prose(*paragraphs: Translatable) -> str:
    return "".join(str(_MARKDOWN.render(say(each))) for each in paragraphs)


def _points(items: Iterable[Translatable], tag: str = "ul") -> str:
    return f"<{tag}>{''.join(f'<li>{rich(each)}</li>' for each in items)}</{tag}>"


def try_html(prompt: Translatable, models: Sequence[str], look: Translatable) -> str:
    """A prompt to try: it fills the form and runs nothing.

    Args:
        look: What to look at in the answers.
    """
    said = say(prompt)
    names = ", ".join(models)
    return (
        f'<div class="try-it"><blockquote dir="auto">{esc(said)}</blockquote><p>{rich(look)}</p>'
        f'<button type="button" data-do="use" data-prompt="{esc(said)}" data-models="{esc(",".join(models))}">'
        f"{esc(say(msg('Try it')))}</button><small>{esc(say(msg('with {models}', models=names)))}</small></div>"
    )


# -- what open means ----------------------------------------------------------------------------------------------


def _open(lesson: Lesson) -> str:
    shown = [item for name in LEDGER for item in lesson.models if item.entry.spec.id == name]
    return (
        _prose(
            msg(
                "Weights you can download are one thing of five. Ask all five of every model; *Model cards* does, with "
                "the source of each answer."
            )
        )
        + _ledger(shown)
        + _prose(
            msg(
                "Most “open” models publish the weights and a report. That is *open weights*. Read the licence too: "
                "some allow any use, some bind you and everyone who uses your service to rules."
            ),
            msg("**Unknown** is not *no*: it means that no source we trust says either."),
        )
        + try_html(
            msg("List three sources of the text you were trained on."),
            lesson.chosen,
            msg(
                "What a model says of its own training data is a guess, whatever it says. Only the maker's "
                "publications are evidence: compare the answers with the table."
            ),
        )
    )


def _ledger(shown: Sequence[Listed]) -> str:
    names = "".join(f'<th scope="col">{esc(item.entry.spec.name)}</th>' for item in shown)
    head = f'<tr><th scope="col">{esc(say(msg("Item")))}</th>{names}</tr>'
    rows = "".join(
        f'<tr><th scope="row">{esc(title)}<small>{esc(msg("with it you can {use}", use=USES[key]))}</small></th>'
        + "".join(
            f'<td data-model="{esc(item.entry.spec.name)}">{_answer(getattr(item.facts.openness, key))}</td>'
            for item in shown
        )
        + "</tr>"
        for key, title in OPENNESS.items()
    )
    caption = esc(say(msg("The five items, asked of six models")))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table class="facts">'
        f"<caption>{caption}</caption><thead>{head}</thead><tbody>{rows}</tbody></table></div>"
    )


def _answer(fact: Fact) -> str:
    value = str(fact.value or "unknown")
    words = f'<span aria-hidden="true">{ANSWERS.get(value, "?")}</span> {esc(YES_NO.get(value, YES_NO["unknown"]))}'
    return f"{words} {link(fact.url, say(msg('source')))}" if fact.url else words


# -- why ----------------------------------------------------------------------------------------------------------


def _why(lesson: Lesson) -> str:
    return (
        _points(
            (
                msg(
                    "**Customisation.** You can fine-tune, quantise, or cut a model to one job, and it stays as it is "
                    "until you change it."
                ),
                msg("**Cost.** A small model on a CPU you already have costs no fee for each token."),
                msg(
                    "**Flexibility.** It runs where the data is: offline, on a laptop, inside a product. No provider "
                    "can retire it."
                ),
            )
        )
        + _prose(msg("A large hosted model still knows more. The question is whether your task needs that."))
        + try_html(
            msg("Rewrite this politely: Send me the report today, I am tired of waiting."),
            lesson.chosen,
            msg("A small job. *Timings* says what the answer cost on this machine, and on hardware for rent."),
        )
    )


# -- families -----------------------------------------------------------------------------------------------------


def _families(lesson: Lesson) -> str:
    stories = {
        "Llama 2": msg(
            "Weights under a licence of Meta's own, the base of many others: ELYZA (Japanese), and LLaMA Pro, which "
            "adds new blocks for code and mathematics."
        ),
        "Mistral": msg(
            "Apache-2.0 weights, training data not told. Mixtral is its mixture of experts; BioMistral (biomedicine) "
            "and OpenMath (mathematics) grew out of it."
        ),
        "Falcon": msg(
            "Its web data set is published in part. OpenAssistant's (conversations by volunteers) and GPT4All's models "
            "grew out of it."
        ),
        "OLMo": msg("Open as a whole, with data, code, metrics and checkpoints beside the weights."),
    }
    drawn = "".join(
        f'<div class="family"><h3>{esc(name)}</h3>{_prose(stories[name])}{lineage_html(name, lesson.models)}</div>'
        for name in FAMILIES
    )
    return f'<div class="families">{drawn}</div>' + _prose(
        msg(
            "All of them are in *Models*, beside the small models of today that answer on a laptop: SmolLM, Qwen, "
            "Gemma, Granite, LFM2, Phi."
        )
    )


def lineage_html(family: str, models: Sequence[Listed]) -> str:
    """A family as a tree: what each model was made from, as far as a source says so."""
    members = [item for item in models if item.family == family or item.family.startswith(f"{family} ")]
    repos = {item.entry.spec.upstream or item.entry.spec.id: item for item in members}
    children: dict[str, list[Listed]] = {}
    for item in members:
        base = str(item.facts.base_model.value or "")
        children.setdefault(base if "/" in base else "", []).append(item)
    roots = [base for base in children if base and base not in repos]
    drawn = "".join(
        f'<li><span class="outside">{link(f"https://huggingface.co/{base}", base.rpartition("/")[2])}'
        f"<small>{esc(say(msg('not in the catalogue')))}</small></span>{_branch(base, children, repos, set())}</li>"
        for base in roots
    )
    drawn += "".join(_node(item, children, repos, set()) for item in children.get("", ()))
    for item in members:  # bases that name each other in a ring hang on none of the roots
        if f'data-model="{esc(item.entry.spec.id)}"' not in drawn:
            drawn += _node(item, children, repos, set(repos))
    return f'<ul class="lineage">{drawn}</ul>'


def _branch(base: str, children: dict[str, list[Listed]], repos: dict[str, Listed], seen: set[str]) -> str:
    if base in seen or base not in children:
        return ""
    return f"<ul>{''.join(_node(item, children, repos, seen | {base}) for item in children[base])}</ul>"


def _node(item: Listed, children: dict[str, list[Listed]], repos: dict[str, Listed], seen: set[str]) -> str:
    spec = item.entry.spec
    relation = str(item.facts.base_model_relation.value or "")
    base = str(item.facts.base_model.value or "")
    origin = say(RELATIONS[relation]) if relation in RELATIONS else relation
    if not base:
        unknown = msg("base model unknown")
        origin = say(msg("{how}, {unknown}", how=origin, unknown=unknown) if origin else unknown)
    elif "/" not in base:
        origin = say(msg("trained from scratch"))
    about = [origin, *map(card_word, item.specialisations), item.license_id]
    about.append(msg("{n} of 5 items open", n=item.open_items))
    told = " · ".join(esc(part) for part in about if part)
    return (
        f'<li><button type="button" class="node" data-do="show-model" data-model="{esc(spec.id)}">'
        f"{esc(spec.name)}</button><small>{told}</small>{_branch(spec.upstream or spec.id, children, repos, seen)}</li>"
    )


# -- choosing -----------------------------------------------------------------------------------------------------


def _choose(lesson: Lesson) -> str:
    return (
        _points(
            (
                msg(
                    "**Filter by the task.** *Models ▸ Find* does: what a model is made for, its licence, openness, "
                    "size and what fits this machine."
                ),
                msg(
                    "**Weigh quality, speed and cost.** Published scores narrow the list, each under its own settings. "
                    "Memory and tokens a second say what the hardware will cost; *Models ▸ Decide* puts them side by "
                    "side."
                ),
                msg(
                    "**Try your own prompts.** Twenty real ones tell you more than any table. Look at the failures, "
                    "and vote blind: a known name is half a verdict."
                ),
            ),
            "ol",
        )
        + _prose(
            msg(
                "**Cost and speed.** Money for a million tokens = price of an hour ÷ 3,600 × 1,000,000 ÷ tokens a "
                "second. A model that writes 40 tokens a second on a machine of 0.10 $ an hour writes a million for "
                "0.69 $; one of half the speed for twice as much. Measure yours in *Measure*."
            )
        )
        + try_html(
            msg("A train leaves at 14:10 and arrives at 16:45. How long is the journey? Answer with the time only."),
            lesson.chosen,
            msg(
                "There is one right answer (2 h 35 min). Ask five such questions of your own before you trust a model."
            ),
        )
    )


def sets_html(lesson: Lesson) -> str:
    """Sets of models, each with what it would download and a button that chooses it."""
    return f'<div class="sets">{"".join(_set(each, lesson.ready) for each in lesson.sets)}</div>'


def _set(each: ModelSet, ready: Callable[[Listed], bool]) -> str:
    if not each.models:
        body = f"<p>{esc(say(msg('No model of the catalogue that runs here fits this rule.')))}</p>"
        return f'<article class="set"><h3>{esc(say(each.title))}</h3><p>{esc(say(each.rule))}</p>{body}</article>'
    lines = "".join(
        f"<li>{esc(item.entry.spec.name)}<small>{_fetching(item, ready)}</small></li>" for item in each.models
    )
    names = ",".join(item.entry.spec.id for item in each.models)
    return (
        f'<article class="set"><h3>{esc(say(each.title))}</h3><p>{esc(say(each.rule))}</p><ul>{lines}</ul>'
        f"<p><small>{_total(each, ready)}</small></p>"
        f'<button type="button" data-do="use" data-models="{esc(names)}">{esc(say(msg("Choose these")))}</button>'
        "</article>"
    )


def _fetching(item: Listed, ready: Callable[[Listed], bool]) -> str:
    if ready(item):
        return esc(say(msg("ready here")))
    size = download_bytes(item)
    if size is None:
        return esc(say(msg("size unknown")))
    about = item.entry.spec.download_bytes == 0
    shown = megabytes(size / 1e6)
    template = msg("about {size} (estimate)", size=shown) if about else msg("{size} to download", size=shown)
    return esc(say(template))


def _total(each: ModelSet, ready: Callable[[Listed], bool]) -> str:
    missing = [item for item in each.models if not ready(item)]
    sizes = [download_bytes(item) for item in missing]
    if not missing:
        return esc(say(msg("Nothing to download: all are ready here.")))
    known = sum(size for size in sizes if size)
    if None in sizes:
        return esc(say(msg("To download: {size} and more; not every size is known.", size=megabytes(known / 1e6))))
    return esc(say(msg("To download: about {size} in all.", size=megabytes(known / 1e6))))


# -- this page ----------------------------------------------------------------------------------------------------


def _page(lesson: Lesson) -> str:
    return _points(
        (
            msg("A **base model** continues text. Give it the beginning of what you want, not a question."),
            msg(
                "**int8** and **int4** are rounded weights: smaller and faster, and not quite the same model. Each "
                "export is compared with the original before it is used; the verdict and the figures stand under "
                "every answer."
            ),
            msg(
                "**Temperature 0** always takes the likeliest token, so the same prompt gives the same answer. Above "
                "0, the seed decides."
            ),
            msg(
                "**Time to first token** is reading your prompt; **decode rate** is the speed of writing. Loading and "
                "waiting are shown apart."
            ),
        )
    ) + try_html(
        msg("The most important invention of the nineteenth century was"),
        lesson.chosen,
        msg("The beginning of a text: a base model goes on with it, a chat model answers it. Compare how they differ."),
    )
