"""The columns of a comparison before it begins: checked, carried over, and set against the memory there is.

It knows what may be asked of which model, and nothing of how it is answered.
"""

from __future__ import annotations

from collections.abc import Sequence

from playground.errors import UsageError
from playground.experiments.base import Machine
from playground.experiments.memory_plan import plan_of
from playground.experiments.progress import ModelProgress
from playground.messages import msg
from playground.records import Column, ModelRun, Request, Variant
from playground.workers.expected_memory import refusal


def checked(
    machine: Machine, request: Request, columns: Sequence[str | Variant | Column | ModelRun]
) -> list[ModelProgress]:
    """The columns in their order, each with what it is asked.

    Raises:
        UsageError: A request, a model or the list is wrong.
    """
    machine.check_number(len(columns), msg("comparison"))
    asked = [column for column in columns if not isinstance(column, ModelRun)]
    found = iter(machine.check(request, asked, msg("comparison")))
    lanes = []
    for place, column in enumerate(columns):
        if isinstance(column, ModelRun):
            lanes.append(ModelProgress(place, column.variant, None, column.request or request, carried=column))
            continue
        spec, variant = next(found)
        own = (column.request if isinstance(column, Column) else None) or request
        _check_reuse(machine, own)
        lanes.append(ModelProgress(place, variant, spec, own, own != request))
    return lanes


def _check_reuse(machine: Machine, request: Request) -> None:
    if request.reuse and machine.settings.strangers:
        raise UsageError(
            msg("Visitors share the models here: what one skips would tell what another has asked"),
            msg("Ask without reuse, or run the playground on your own machine."),
        )


def plan_memory(machine: Machine, lanes: Sequence[ModelProgress]) -> int:
    """Refuse what is too large before anything is fetched for it (what turns out larger when it is prepared, the pool
    refuses); returns how many models fast mode will run at the same time.
    """
    wanted = [lane for lane in lanes if not lane.carried]
    asked = [(lane.variant, lane.request) for lane in wanted]
    found = plan_of(machine.catalog, machine.preparer, asked, machine.pool.budget_mb)
    planned = {model.variant: model for model in found.models}
    for lane in wanted:
        lane.expected_mb = planned[lane.variant].expected_mb
        if lane.expected_mb is not None and not planned[lane.variant].alone:
            lane.refusal = refusal(lane.variant, lane.expected_mb, found.budget_mb)
    return max(map(len, found.groups()), default=1)
