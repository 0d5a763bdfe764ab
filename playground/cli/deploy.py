"""``deploy space``: the plan shown, the Space brought to it, and waited for until it answers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playground.cli import output
from playground.cli.common import JsonOption
from playground.cli.space import project
from playground.messages import msg

if TYPE_CHECKING:
    from playground.deploy.plan import Plan, PlannedModel
    from playground.deploy.upload import Deployed
    from playground.deploy.waiting import Running

deploy = typer.Typer(help="Put the playground where others reach it.", add_completion=False)

TIMEOUT_MINUTES = 45.0
"""A Space builds in about five minutes and may start for spaces.yaml's startup_duration_timeout."""


@deploy.command("space")
def deploy_space(
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", show_default=False)],
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan with every file, and do nothing; needs no token.")
    ] = False,
    profile: Annotated[str, typer.Option(help="One of spaces.yaml's profiles: zerogpu.")] = "",
    hardware: Annotated[str, typer.Option(help="In place of spaces.yaml's, e.g. cpu-upgrade.")] = "",
    private: Annotated[bool, typer.Option("--private", help="Create it as a private Space.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also where the Space holds another app.")] = False,
    renew_secrets: Annotated[
        bool, typer.Option("--renew-secrets", help="Also set secrets that the Space has already.")
    ] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Leave when it is uploaded.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Minutes to wait until it runs.")] = TIMEOUT_MINUTES,
    json: JsonOption = False,
) -> int:
    """Create or update a Space, and wait until it answers. The token comes from HF_TOKEN or `hf auth login`.

    Exit code 0: it runs and answers, or it was to be shown or uploaded alone; 1: it could not be; 2: the command or
    spaces.yaml is wrong. Run again, it changes what differs and nothing else.
    """
    from playground.deploy.check import check_space
    from playground.deploy.plan import plan_deployment
    from playground.deploy.upload import deploy as carry_out
    from playground.deploy.waiting import wait_until_running

    root, settings = project()
    problems = check_space(settings.space_file, root, settings.catalog_file, os.environ)
    if problems:
        output.stderr().print("\n".join(f"- {output.clean(problem)}" for problem in problems), soft_wrap=True)
        output.stderr().print("Nothing was uploaded: mend these first.")
        return output.FAILED
    deployment = plan_deployment(repo, root, settings, os.environ, profile=profile, hardware=hardware)
    plan = deployment.plan
    if not json:
        _print_plan(plan, every_file=dry_run)
    if dry_run:
        if json:
            output.print_json({"plan": _plan_json(plan)})
        else:
            output.stdout().print(output.clean(msg("Nothing was uploaded: this is what would be.")))
        return output.OK
    with output.steps(repo) as progress:
        deployed = carry_out(deployment, progress, private=private, force=force, renew_secrets=renew_secrets)
    if not json:
        _print_deployed(deployed)
    running = None
    if not no_wait:
        with output.steps(repo) as progress:
            running = wait_until_running(deployed, progress, lambda: False, timeout_s=timeout * 60)
    if json:
        output.print_json({"plan": _plan_json(plan), "deployed": deployed, "running": running})
    elif running:
        _print_running(deployed, running)
    return output.OK


def _plan_json(plan: Plan) -> dict[str, Any]:
    models = [{**model.to_json(), "variant": str(model.variant)} for model in plan.models]
    return {**plan.to_json(), "models": models, "size_bytes": plan.size_bytes}


def _print_plan(plan: Plan, *, every_file: bool) -> None:
    console = output.stdout()
    profile = msg(" with the profile {profile}", profile=plan.profile) if plan.profile else ""
    console.print(output.clean(msg("Plan for {repo}{profile}", repo=plan.repo, profile=profile)), soft_wrap=True)
    console.print(f"\n{output.clean(plan.front_matter)}", soft_wrap=True)
    if every_file:
        for file in plan.files:
            console.print(f"{file.size_bytes:>10,}  {output.clean(file.path)}", soft_wrap=True)
    lines = [
        msg("files: {n}, {mb:.1f} MB", n=len(plan.files), mb=plan.size_bytes / 1e6),
        *([msg("not uploaded: {names}", names=_some(plan.left_out))] if plan.left_out else []),
        *([] if plan.tracked else [msg("git does not say which files are the project's: all of them are taken.")]),
        msg("variables: {names}", names=list(plan.variables) or msg("none")),
        msg("secrets: {names}", names=list(plan.secrets) or msg("none")),
        *(
            [msg("secrets without a value here, left as the Space has them: {names}", names=list(plan.secrets_missing))]
            if plan.secrets_missing
            else []
        ),
        _hardware(plan),
    ]
    for line in lines:
        console.print(output.clean(line), soft_wrap=True)
    _print_first_start(plan)


def _hardware(plan: Plan) -> str:
    if not plan.hardware:
        return msg("hardware: as the Space has it")
    if plan.per_hour is None:
        return msg("hardware: {flavor}; its price is not in the table of prices", flavor=plan.hardware)
    if plan.per_hour == 0:
        return msg("hardware: {flavor}, free by the hour", flavor=plan.hardware)
    return msg("hardware: {flavor}, {price:.2f} USD an hour while it runs", flavor=plan.hardware, price=plan.per_hour)


def _print_first_start(plan: Plan) -> None:
    from rich.table import Table

    console = output.stdout()
    console.print(output.say(msg("\nFirst start, estimates in MB:")))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("model", "download", "on disk", "preparing", "running"):
        table.add_column(title, justify="left" if title == "model" else "right")
    for model in plan.models:
        figures = (model.download_mb, model.disk_mb, model.prepare_mb, model.run_mb)
        table.add_row(str(model.variant), *("unknown" if each is None else f"{each:,.0f}" for each in figures))
    console.print(table)
    for reached in (True, False):
        some = [model for model in plan.models if model.needs_hub is reached]
        if some:
            console.print(output.clean(_sum(plan, some, reached)), soft_wrap=True)
    if plan.prepared_from:
        told = msg("Nothing is exported there: prepared artifacts come from {repo}.", repo=plan.prepared_from)
        console.print(output.clean(told), soft_wrap=True)
    console.print("")


def _sum(plan: Plan, models: list[PlannedModel], reached: bool) -> str:
    from playground.deploy.plan import most_mb

    memory = most_mb(models)
    where = msg("Where the Space reaches the Hub") if reached else msg("Where it does not")
    if plan.memory_gb is None:
        return msg("{where}: {mb:,.0f} MB of memory at most", where=where, mb=memory)
    return msg("{where}: {mb:,.0f} MB of memory at most, of {gb:.0f} GB", where=where, mb=memory, gb=plan.memory_gb)


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else msg("{names} and {n} more", names=shown, n=len(names) - 5)


def _print_deployed(deployed: Deployed) -> None:
    console = output.stdout()
    if deployed.nothing_changed:
        told = [
            msg("Nothing changed: {repo} has all of it at {commit}.", repo=deployed.repo, commit=deployed.commit[:12])
        ]
    else:
        told = [
            msg(
                "Uploaded {n} files, deleted {m}; the commit is {commit}.",
                n=len(deployed.changed),
                m=len(deployed.deleted),
                commit=deployed.commit[:12],
            ),
            *([msg("Set variables: {names}.", names=list(deployed.variables))] if deployed.variables else []),
            *([msg("Set secrets: {names}.", names=list(deployed.secrets))] if deployed.secrets else []),
            *([msg("Requested hardware: {flavor}.", flavor=deployed.hardware)] if deployed.hardware else []),
        ]
    for line in (*told, msg("Its page: {address}", address=deployed.address)):
        console.print(output.clean(line), soft_wrap=True)


def _print_running(deployed: Deployed, running: Running) -> None:
    told = msg("It runs on {hardware}, {s:.0f} s after the upload.", hardware=running.hardware, s=running.waited_s)
    console = output.stdout()
    console.print(output.clean(told), soft_wrap=True)
    if running.health:
        said = msg("{host}/healthz says: {said}", host=deployed.host.rstrip("/"), said=running.health)
        console.print(output.clean(said), soft_wrap=True)
    elif running.note:
        console.print(output.clean(running.note), soft_wrap=True)
