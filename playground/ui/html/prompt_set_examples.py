"""Prompts to begin with, in each of the forms that a prompt set may have, and the buttons that fill the box with them.

Knows words, not how a prompt set is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from playground.messages import Translatable, msg
from playground.ui.html.format import esc


@dataclass(frozen=True)
class Example:
    """Prompts to begin with.

    Attributes:
        file: A name that says how they are to be read.
    """

    name: Translatable
    text: str
    file: str


EXAMPLES = (
    Example(
        msg("Questions"),
        "What is the capital of Germany?\n"
        "Which planet is the largest in the solar system?\n"
        "How many days does a leap year have?\n"
        "Write one sentence about rain.",
        "questions.txt",
    ),
    Example(
        msg("A table with checks"),
        "prompt,__expected\n"
        "What is the capital of Germany?,icontains:Berlin\n"
        "What is the capital of Japan?,icontains:Tokyo\n"
        "Which planet is the largest in the solar system?,icontains:Jupiter\n"
        "How many days does a leap year have?,contains:366\n"
        "What is 12 plus 30? Answer with the number alone.,contains:42\n"
        "Who wrote Romeo and Juliet?,icontains:Shakespeare\n"
        "What colour do blue and yellow make?,icontains:green\n"
        "What is the chemical symbol of gold?,contains:Au",
        "questions.csv",
    ),
    Example(
        msg("A prompt with variables"),
        "What is the capital of {{country}}? Answer in one word.\n"
        "---\n"
        "country,__expected\n"
        "France,icontains:Paris\n"
        "Japan,icontains:Tokyo\n"
        "Kenya,icontains:Nairobi\n"
        "Canada,icontains:Ottawa\n"
        "Peru,icontains:Lima",
        "",
    ),
    Example(
        msg("YAML"),
        "# The form of promptfoo's files\n"
        "description: Capitals\n"
        "prompts:\n"
        '  - "What is the capital of {{country}}? Answer in one word."\n'
        "defaultTest:\n"
        "  assert:\n"
        "    - type: icontains\n"
        '      value: "{{capital}}"\n'
        "    - type: tokens\n"
        "      threshold: 40\n"
        "      weight: 0\n"
        "tests:\n"
        "  - vars: {country: France, capital: Paris}\n"
        "  - vars: {country: Japan, capital: Tokyo}\n"
        "  - vars: {country: Kenya, capital: Nairobi}\n"
        "  - vars: {country: Canada, capital: Ottawa}\n"
        "  - vars: {country: Peru, capital: Lima}",
        "capitals.yaml",
    ),
)


def examples_html(examples: Sequence[Example] = EXAMPLES) -> str:
    """Buttons that fill the box, and a picker of files."""
    buttons = "".join(
        f'<button type="button" data-suite="example" data-text="{esc(each.text)}" data-file="{esc(each.file)}">'
        f"{esc(each.name)}</button>"
        for each in examples
    )
    file = esc(msg("Open a file…"))
    large = esc(msg("This file is larger than the page takes: run it in a terminal, with playground suite FILE."))
    kept = esc(msg("Your prompts are kept: empty the box to try an example."))
    return (
        f'<div class="examples" data-large="{large}"><span>{esc(msg("Try:"))}</span>{buttons}'
        f'<label class="suite-file">{file}<input type="file" data-suite="file" '
        'accept=".txt,.csv,.tsv,.json,.jsonl,.ndjson,.yaml,.yml,text/plain,text/csv,application/json"></label>'
        f'<button type="button" data-suite="clear" hidden>{esc(msg("Empty the box"))}</button>'
        f"<small hidden>{kept}</small></div>"
    )
