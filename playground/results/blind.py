"""A comparison without anything that tells which column is which model: letters for names, and no figures.

Its texts stay, so does what was asked of all. What a vote is cast on is made here, before it leaves the server, so that
whatever draws, lists or exports it has nothing to give away. It can't hide what an answer says of itself.
"""

from __future__ import annotations

from dataclasses import replace

from playground.messages import msg
from playground.records import Comparison, ModelRun, Request, Variant

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NO_ANSWER = msg("There is no answer in this column. Why is told after the vote.")


def letter(column: int) -> Variant:
    """What stands for the model of a column."""
    return Variant(LETTERS[column])


def answered(run: ModelRun) -> bool:
    """Whether a column can be voted on: it has a text, and no error cut it short."""
    return bool(run.text) and run.error is None


def blinded(comparison: Comparison) -> Comparison:
    """``comparison`` with letters in place of models.

    Gone are variants, runtimes, timings, token ids (each model has its own), settings of single columns, the prepared
    files and their checksums, errors (they name the model) and warnings. How a model was asked in its own column may
    tell which it is; the request of all stays.
    """
    runs = tuple(blinded_run(run, column) for column, run in enumerate(comparison.runs))
    return replace(comparison, runs=runs, request=_without_ids(comparison.request))


def blinded_run(run: ModelRun, column: int) -> ModelRun:
    """One run likewise."""
    broken = not answered(run)
    return ModelRun(
        variant=letter(column),
        runtime="",
        precision="",
        text="" if broken else run.text,
        finish_reason="error" if broken else run.finish_reason,
        error=NO_ANSWER if broken else None,
    )


def _without_ids(request: Request) -> Request:
    return replace(request, answer_ids=())
