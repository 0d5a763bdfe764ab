"""The Choose tab: state limits, see which models meet them and why, and quality against speed and memory.

``playground.choose`` decides, ``html.choose`` and ``html.scatter`` draw; this file has the components and their
events. Scores of a reader's own are pasted (or read by the browser into the box): the app takes no files.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from playground.choose.answers import SuiteAnswers, stored_suites, suite_answers
from playground.choose.board import Stored, board, candidates_of, stored, with_figures
from playground.choose.constraints import Constraints, Eligibility, check_limits
from playground.choose.deciding import difference_words, differences
from playground.choose.quality import Quality, file_scores
from playground.errors import PlaygroundError, UsageError
from playground.messages import msg
from playground.records import Variant
from playground.results.figures import CHOICE
from playground.ui import offered
from playground.ui.failures import line_of
from playground.ui.html import choose
from playground.ui.html.format import esc
from playground.ui.tabs import votes
from playground.ui.theme import html
from playground.ui.visitors import visitor

if TYPE_CHECKING:
    from playground.choose.board import Board
    from playground.service import Playground

HEAD = msg(
    "State what a model must keep to. Figures are those stored on this machine, facts those of the model cards. A "
    "limit left empty asks for nothing."
)
OWN = msg("pasted scores")
FIRST_OF_SUITE = 6
"""Place of the suite among the limits."""
OWN_CHARS = 100_000
"""Of the reader's own scores. The app remembers what each visitor sent, so that is no place for large files."""
BELOW = [(msg("Speed"), "decode_tok_s"), (CHOICE["ttft_s"].title, "ttft_s"), (msg("Memory"), "peak_memory_mb")]
PICKER = msg("or read a file into the box:")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choose:
    """The components; ``limits`` in the order of ``read_limits``."""

    tab: gr.Tab
    limits: tuple[Any, ...]
    suite: gr.Dropdown
    task: gr.Dropdown
    models: gr.Dropdown
    every: gr.Checkbox
    quality: gr.Dropdown
    below: gr.Radio
    memory: gr.Checkbox
    own: gr.Textbox
    verdicts: gr.HTML
    picture: gr.HTML
    ratings: votes.Table

    @property
    def inputs(self) -> list[Any]:
        return [*self.limits, self.models, self.every, self.quality, self.below, self.memory, self.own]


def build(playground: Playground, tab: gr.Tab) -> Choose:
    """Draw the tab's parts; they are filled when it is opened."""
    html(lambda: f'<p class="note">{esc(HEAD)}</p>')
    with gr.Row():
        memory_limit = _limit(msg("Memory, at most (MB)"))
        ttft = _limit(msg("First token, at most (s)"))
        speed = _limit(msg("Speed, at least (tok/s)"))
        openness = gr.Slider(0, 5, 0, step=1, label=msg("Open items, min."), min_width=130)
        context = _limit(msg("Context, at least (tokens)"))
        commercial = gr.Checkbox(False, label=msg("Commercial use"), min_width=120)
    with gr.Row():
        suite = gr.Dropdown(
            [], value=None, label=msg("Prompt set that was run"), elem_id="choose-suite", scale=2, min_width=220
        )
        pass_rate = _limit(msg("Pass rate, at least (%)"))
        task = gr.Dropdown(
            [], value=None, label=msg("Benchmark that was taken"), elem_id="choose-task", scale=2, min_width=220
        )
        score = _limit(msg("Score, at least"))
    models = gr.Dropdown(
        [str(variant) for variant in _offered(playground)],
        value=[],
        multiselect=True,
        label=msg("Models (empty: those of Compare and all with figures here)"),
        elem_id="choose-models",
    )
    every = gr.Checkbox(False, label=msg("The whole catalogue"))
    verdicts = html(elem_id="verdicts")
    with gr.Row():
        quality = gr.Dropdown([], value=None, label=msg("Quality figure"), elem_id="quality", scale=2, min_width=220)
        below = gr.Radio(BELOW, value=BELOW[0][1], label=msg("Against"), scale=2, min_width=220)
        memory = gr.Checkbox(False, label=msg("Memory counts for the front too"), min_width=160)
    with gr.Accordion(msg("Scores of your own"), open=False):
        own = gr.Textbox(
            "",
            label=msg("CSV or JSON: model,score. Higher is better. Read by the app, stored nowhere."),
            placeholder="model,score\nsmollm2-135m-instruct,41.2\ngemma-3-270m,38",
            lines=4,
            max_lines=12,
            elem_id="own-scores",
        )
        html(
            lambda: (
                f'<label class="pick-file">{esc(PICKER)} '
                '<input type="file" accept=".csv,.tsv,.json,.txt" data-fill="#own-scores textarea"></label>'
            )
        )
    picture = html(elem_id="picture")
    html(votes_head)
    table = votes.build_table()
    limits = (memory_limit, ttft, speed, commercial, openness, context, suite, pass_rate, task, score)
    return Choose(tab, limits, suite, task, models, every, quality, below, memory, own, verdicts, picture, table)


def votes_head() -> str:
    """Above the ratings."""
    words = msg("What your blind votes say. From five votes on two models on, it is one of the quality figures above.")
    return f'<h2 class="votes-head">{esc(msg("Your votes"))}</h2><p class="note">{esc(words)}</p>'


def _limit(label: str) -> gr.Textbox:
    """A field that may be empty; gradio's own for numbers shows an empty one as 0, which would be a limit."""
    return gr.Textbox("", label=label, placeholder=msg("no limit"), max_lines=1, max_length=40, min_width=130)


def connect(playground: Playground, tab: Choose, choices: Sequence[Any]) -> None:
    """Say which event does what.

    Args:
        choices: The form's choices of models, which count where none are chosen here.
    """

    fields = len(tab.inputs)
    drawn_scores = gr.State("")

    def show(request: gr.Request, seen: str, *values: Any) -> tuple[Any, ...]:
        own = str(values[fields - 1] or "")
        mark = hashlib.sha256(own.encode("utf-8", "replace")).hexdigest()  # shorter than the scores, and kept
        new = bool(own.strip()) and mark != seen
        owner = visitor(request)
        return (mark, *shown(playground, values[:fields], values[fields:], prefer_own=new, owner=owner))

    def offer(request: gr.Request) -> tuple[Any, Any]:
        return offers(playground, visitor(request))

    tab.tab.select(offer, None, [tab.suite, tab.task], queue=False, show_progress="hidden", api_visibility="private")
    # Text has arrived by "change". The quality list changes by itself too, and there only a hand's input counts.
    changes = [part.change if isinstance(part, gr.Textbox) else part.input for part in tab.inputs]
    # One event for all triggers: of two events, the answer to the older one could come last and stay.
    # Not preprocessed: gradio would check the quality against the empty list the page was built with.
    gr.on(
        [tab.tab.select, *changes],
        show,
        [drawn_scores, *tab.inputs, *choices],
        [drawn_scores, tab.quality, tab.verdicts, tab.picture],
        trigger_mode="always_last",
        preprocess=False,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    votes.connect_table(playground, tab.ratings, tab.tab, visitor)


def shown(
    playground: Playground, values: Sequence[Any], choices: Sequence[Any], *, prefer_own: bool = False, owner: str = ""
) -> tuple[Any, ...]:
    """The quality dropdown, the verdicts and the picture for what stands in the fields.

    Args:
        prefer_own: The reader's own scores have just come, so they are drawn.
        owner: Whose votes are a quality figure.
    """
    *limit_values, models, every, wanted, below, memory, own = values
    try:
        limits = read_limits(limit_values)
        kept = stored(playground)
        variants = _variants(playground, kept, models, choices, every=bool(every))
        chosen_suite = limit_values[FIRST_OF_SUITE] if len(limit_values) > FIRST_OF_SUITE else None
        answers = _answers(playground, chosen_suite, variants, owner)
        found = board(playground, variants, kept, owner, answers)
        verdicts = found.verdicts(limits)
        table = choose.verdicts_html(verdicts, limits) + _notes(found, verdicts)
    except PlaygroundError as error:
        return gr.skip(), _problem(error.message), ""
    except Exception as error:
        log.error("The models could not be judged: %s", line_of(error))
        return gr.skip(), _problem("Something broke in the app itself; its log says what."), ""
    try:
        mine = _own(playground, found, str(own or ""))
    except PlaygroundError as error:
        return gr.skip(), table, _problem(error.message)
    quality, choice = _chosen(found, mine, None if prefer_own else wanted)
    axis = below if below in dict(BELOW).values() else BELOW[0][1]
    drawn = choose.picture_html(found, quality, verdicts, limits, axis, memory=bool(memory))
    return choice, table, drawn


def read_limits(values: Sequence[Any]) -> Constraints:
    """What stands in the fields, in the order of ``Constraints``; an empty field and openness 0 ask for nothing.

    Raises:
        UsageError: A field holds no number that can be a limit.
    """
    memory, ttft, speed, commercial, openness, context, *measured = values
    suite, rate, task, score = measured if len(measured) == 4 else (None,) * 4
    if _number(rate) is not None and not suite:
        raise UsageError(msg("A pass rate is asked for, and no prompt set is chosen"), msg("Run one under Prompt set."))
    if _number(score) is not None and not task:
        raise UsageError(
            msg("A score is asked for, and no benchmark is chosen"), msg("`playground eval` takes one of a model.")
        )
    open_items, least = _number(openness), _number(context)
    limits = Constraints(
        _number(memory),
        _number(ttft),
        _number(speed),
        bool(commercial),
        int(open_items) if open_items else None,
        int(least) if least is not None else None,
        None if (percent := _number(rate)) is None else percent / 100,
        {str(task): wanted} if task and (wanted := _number(score)) is not None else {},
    )
    check_limits(limits)
    return limits


def offers(playground: Playground, owner: str) -> tuple[Any, Any]:
    """The suites with answers, and the tasks with scores, to choose from."""
    try:
        kept = stored_suites(playground, owner)
        named = Counter(name for _, name, _ in kept.values())
        suites = [
            (name if named[name] == 1 else f"{when[:16].replace('T', ' ')} UTC · {name}", mark)
            for mark, (_, name, when) in kept.items()
        ]
        tasks = sorted({each.task for each in stored(playground).scores})
    except PlaygroundError:
        return gr.skip(), gr.skip()  # the verdicts say what is wrong with the store
    return (
        gr.update(choices=[(msg("none"), ""), *suites]),
        gr.update(choices=[(msg("none"), ""), *((task, task) for task in tasks)]),
    )


def _answers(playground: Playground, mark: Any, variants: Sequence[Variant], owner: str) -> SuiteAnswers | None:
    """Those of the suite that is chosen; None where none is, or it was deleted since."""
    if not isinstance(mark, str) or not mark:
        return None
    found = stored_suites(playground, owner).get(mark)
    return suite_answers(playground, (mark, found[1]), variants, owner) if found else None


def _number(value: Any) -> float | None:
    text = str(value if value is not None else "").replace(",", "").strip()
    if not text:
        return None
    try:
        read = float(text)
    except ValueError:
        read = math.nan
    if not math.isfinite(read):
        raise UsageError(
            msg("'{value}' is no limit", value=str(value)[:40]), msg("Write a number, or leave the field empty.")
        )
    return read


def _variants(
    playground: Playground, kept: Stored, models: Any, choices: Sequence[Any], *, every: bool
) -> list[Variant]:
    """What is chosen here; else what is chosen above and what has figures. Names that mean nothing are left out."""
    ids = set(playground.ids())
    texts = [text for text in offered.names([models]) if str(text).partition("@")[0] in ids]
    if not texts and not every:
        texts = [*offered.names(choices), *map(str, with_figures(playground, kept))]
    if every:
        texts += map(str, candidates_of(playground, kept))
    return offered.known(playground, texts)


def _offered(playground: Playground) -> list[Variant]:
    return [variant for entry in playground.entries() for variant in entry.variants]


def _own(playground: Playground, found: Board, text: str) -> Quality | None:
    """The reader's own scores.

    Raises:
        UsageError: They can't be read; the words say where.
    """
    if not text.strip():
        return None
    if len(text) > OWN_CHARS:
        raise UsageError(
            msg("The scores have {n:,} characters", n=len(text)),
            msg("At most {most:,}: one line a model.", most=OWN_CHARS),
        )
    content = text.encode("utf-8", "replace")
    return file_scores(content, OWN, [item.variant for item in found.candidates], playground.ids())


def _chosen(found: Board, mine: Quality | None, wanted: Any) -> tuple[Quality | None, Any]:
    """The quality figure to draw and what the dropdown offers; the reader's own scores come first."""
    offered = [*([mine] if mine and mine.values else []), *found.qualities]
    by_key = {quality.key: quality for quality in offered}
    quality = by_key.get(str(wanted)) or (offered[0] if offered else None)
    total = len(found.candidates)
    names = [
        (msg("{quality} · {n} of {all}", quality=quality.title, n=len(quality.values), all=total), quality.key)
        for quality in offered
    ]
    return quality, gr.update(choices=names, value=quality.key if quality else None)


def _notes(found: Board, verdicts: Sequence[Eligibility]) -> str:
    told = [difference_words(each) for each in differences(found, verdicts)]
    rows = "".join(f"<li>{esc(note)}</li>" for note in (*told, *found.evidence.notes))
    return f'<ul class="note cautions">{rows}</ul>' if rows else ""


def _problem(text: str) -> str:
    return f'<p class="problem" data-say="alert">{esc(text)}</p>'
