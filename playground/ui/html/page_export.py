"""A comparison or a measurement as one HTML file for whoever has nothing but a browser: no script, no request to
anybody, light and dark, and made to be printed. It knows records and receipts; it does not know gradio.
"""

from __future__ import annotations

from collections.abc import Sequence

from playground import __version__
from playground.messages import Translatable, msg, plural
from playground.records import Comparison, Request
from playground.results.export_files import Document
from playground.results.figures import ONE_LOAD
from playground.results.receipts import (
    Line,
    ModelReceipt,
    Receipts,
    condition_lines,
    machine_lines,
    number,
    of_comparison,
    of_measurement,
)
from playground.results.requests import ROLES, headings, parameter_lines, turns
from playground.results.thinking import split
from playground.ui.html.answer import answer_html, thinking_html
from playground.ui.html.format import esc
from playground.ui.i18n import language, say

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"

STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--ground:#fff;--raised:#f6f8fa;--link:#0550ae}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa4af;--line:#3d444d;--ground:#0d1117;
--raised:#161b22;--link:#79c0ff}}
*{box-sizing:border-box}body{margin:0 auto;max-width:110rem;padding:1.5rem;font:16px/1.55 system-ui,sans-serif;
color:var(--ink);background:var(--ground);overflow-wrap:anywhere}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin:1.6rem 0 .5rem}h3{font-size:1rem;margin:0 0 .5rem}
a{color:var(--link);text-decoration:underline}.soft,dt,figcaption{color:var(--soft)}
.columns{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr))}
article,blockquote.turn{border:1px solid var(--line);border-radius:.5rem;padding:.9rem;margin:0 0 .6rem;min-width:0;
overflow-wrap:anywhere}
blockquote.turn{background:var(--raised)}.turn p{margin:.2rem 0 0;white-space:pre-wrap}
pre{background:var(--raised);border:1px solid var(--line);border-radius:.4rem;padding:.8rem;overflow-x:auto;
white-space:pre-wrap;overflow-wrap:anywhere;font:.85rem/1.5 ui-monospace,monospace}pre.all{user-select:all}
table{border-collapse:collapse}th,td{border:1px solid var(--line);padding:.3rem .55rem;
text-align:start;vertical-align:top}
.scroll{overflow-x:auto}dl{display:grid;grid-template-columns:fit-content(40%) minmax(0,1fr);gap:.2rem .9rem;
margin:0}dd{margin:0;overflow-wrap:anywhere}details{margin:.4rem 0}
summary{cursor:pointer}.failed{border-inline-start:.25rem solid #cf222e;
padding-inline-start:.7rem}
@media (max-width:40rem){body{padding:.8rem}dl{grid-template-columns:minmax(0,1fr)}dd{margin:0 0 .4rem}}
@media print{:root{color-scheme:light;--ink:#000;--soft:#333;--line:#999;--ground:#fff;--raised:#fff;--link:#000}
body{padding:0;max-width:none;font-size:10pt}article,tr,blockquote{break-inside:avoid-page}h2,h3{break-after:avoid}}
"""


def document_html(title: str, body: str) -> str:
    """A whole document around ``body``, which is HTML; ``title`` is text."""
    return (
        f'<!DOCTYPE html>\n<html lang="{esc(language())}"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer"><meta name="color-scheme" content="light dark">'
        f"<title>{esc(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{esc(title)}</h1>{body}</body></html>\n"
    )


def page_html(document: Document) -> str:
    """The document with its answers, figures and receipts."""
    if isinstance(document, Comparison):
        made, names = of_comparison(document), headings([run.variant for run in document.runs])
        title = msg("Comparison {id}", id=document.id)
        about = [msg("{mode} mode", mode=document.mode)]
        if document.parent:
            about.append(msg("goes on from comparison {id}", id=document.parent))
        answers = _answers(document, names)
    else:
        made, names = of_measurement(document), headings([model.variant for model in document.models])
        title, answers = msg("Measurement {id}", id=document.id), ""
        tokens = document.request.max_new_tokens
        repeats = msg("{repeats} repeats, answers of {tokens} tokens", repeats=document.repeats, tokens=tokens)
        about = [repeats, *document.warnings, ONE_LOAD]
    version = msg("open-model-playground {version}", version=__version__)
    head = "".join(f"<li>{esc(say(each))}</li>" for each in (document.created_at, *about, version))
    body = [
        f'<ul class="soft">{head}</ul>',
        _heading(msg("Request")) + _asked(document.request) + _list(parameter_lines(document.request)),
        answers,
        _heading(msg("Figures")) + _figures(made, names),
        _heading(msg("Receipts")) + _receipts(made, names),
        _heading(msg("Machine")) + _list(machine_lines(made.machine)),
    ]
    return document_html(say(title), "".join(body))


def _heading(title: Translatable) -> str:
    return f"<h2>{esc(say(title))}</h2>"


def _asked(request: Request) -> str:
    return "".join(
        f'<blockquote class="turn"><strong>{esc(say(ROLES[turn.role]))}</strong><p dir="auto">{esc(turn.content)}</p>'
        "</blockquote>"
        for turn in turns(request)
    )


def _answers(comparison: Comparison, names: Sequence[str]) -> str:
    shown = []
    for place, (run, name) in enumerate(zip(comparison.runs, names, strict=True)):
        own, shared = comparison.asked(place), comparison.request
        parts = [f"<h3>{esc(name)}</h3>"]
        if turns(own) != turns(shared):
            said = say(msg("It was asked:"))
            parts.append(f"<details open><summary>{esc(said)}</summary>{_asked(own)}</details>")
        if own.answer_ids:
            begun = plural(
                "The first token of this answer was given.",
                "The first {n} tokens of this answer were given.",
                n=len(own.answer_ids),
            )
            parts.append(f'<p class="soft">{esc(say(begun))}</p>')
        if run.error:
            parts.append(f'<p class="failed">{esc(say(run.error))}</p>')
        found = split(run.text)
        if found.thinking:
            parts.append(thinking_html(found, buttons=False))
        parts.append(f'<div dir="auto">{answer_html(found.answer, buttons=False)}</div>')
        shown.append(f"<article>{''.join(parts)}</article>")
    return _heading(msg("Answers")) + f'<div class="columns">{"".join(shown)}</div>'


def _figures(made: Receipts, names: Sequence[str]) -> str:
    known = list(dict.fromkeys(name for model in made.models for name in model.figures))
    head = "".join(f'<th scope="col">{esc(name)}</th>' for name in names)
    rows = []
    for name in known:
        title = next(model.figures[name].title for model in made.models if name in model.figures)
        cells = "".join(f"<td>{esc(_cell(model, name))}</td>" for model in made.models)
        rows.append(f'<tr><th scope="row">{esc(say(title))}</th>{cells}</tr>')
    label = esc(say(msg("Figures")))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(model: ModelReceipt, name: str) -> str:
    found = model.figures.get(name)
    if found is None:
        return "–"
    spread = f" ({number(found.low)} … {number(found.high)})" if len(found.values) > 1 else ""
    return f"{number(found.median)}{spread} {found.unit}"


def _receipts(made: Receipts, names: Sequence[str]) -> str:
    shown = []
    for model, name in zip(made.models, names, strict=True):
        defined = [
            (found.title, msg("{values} {unit}: {definition}", values=[number(each) for each in found.values],
                              unit=found.unit, definition=found.definition))
            for found in model.figures.values()
        ]  # fmt: skip
        failed: list[Line] = [(msg("Error"), model.error)] if model.error else []
        lines = [*failed, *condition_lines(model), *defined]
        shown.append(f"<article><h3>{esc(name)}</h3>{_list(lines)}</article>")
    return f'<div class="columns">{"".join(shown)}</div>'


def _list(lines: Sequence[tuple[Translatable, Translatable]]) -> str:
    return "<dl>" + "".join(f"<dt>{esc(say(a))}</dt><dd>{esc(say(b))}</dd>" for a, b in lines) + "</dl>"
