"""A plan carried out: the Space made, what differs uploaded in one commit, variables, secrets and hardware set.

What is there already is left as it is, so a second run changes nothing. The token is huggingface_hub's to find
(HF_TOKEN or a stored login); it is neither read nor shown here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from playground.deploy.plan import Deployment
from playground.errors import UsageError
from playground.messages import msg
from playground.records import Record
from playground.sources.files import Progress
from playground.sources.hub.writing import differing, files_there, put, writing_errors

if TYPE_CHECKING:
    from huggingface_hub import HfApi

OWN_FOLDERS = ("playground/", "docs/")
"""What lies there and is not of this deployment is deleted: it is of an earlier one."""


@dataclass(frozen=True)
class Deployed(Record):
    """What was done.

    Attributes:
        address: The Space's page.
        host: Where the app itself answers; empty where the Hub does not say.
        commit: The Space's newest, ours or the one that was there.
        changed, deleted: Paths.
        variables, secrets: Names of those that were set.
        hardware: What was requested; empty where it was so already.
    """

    repo: str
    address: str
    host: str
    commit: str
    private: bool
    changed: tuple[str, ...]
    deleted: tuple[str, ...]
    variables: tuple[str, ...]
    secrets: tuple[str, ...]
    hardware: str

    @property
    def nothing_changed(self) -> bool:
        return not (self.changed or self.deleted or self.variables or self.secrets or self.hardware)


def deploy(
    deployment: Deployment,
    progress: Progress,
    *,
    private: bool = False,
    force: bool = False,
    renew_secrets: bool = False,
    api: HfApi | None = None,
) -> Deployed:
    """Bring the Space to what the plan says.

    Args:
        private: Make a new Space private; one that exists stays what it is.
        force: Also where the Space holds another app.
        renew_secrets: Also set secrets that the Space has: their values can't be compared.

    Raises:
        UsageError: The Space holds another app, or would have nobody who may sign in.
        PlaygroundError: The Hub refused or can't be reached.
    """
    from huggingface_hub import HfApi

    hub, plan = api or HfApi(), deployment.plan
    repo = plan.repo
    with writing_errors(repo):
        progress(msg("asking the Hub"), None)
        address = hub.create_repo(
            repo, repo_type="space", space_sdk=deployment.sdk, private=private or None, exist_ok=True
        )
        info = hub.space_info(repo)
        there = files_there(hub, repo, "space")
        if not force and "app.py" in there and "spaces.yaml" not in there:
            raise UsageError(
                msg("{repo} holds another app", repo=repo),
                msg("Nothing was uploaded. Name another Space, or let --force replace it."),
            )
        lacking = sorted(set(deployment.needed) - set(hub.get_space_secrets(repo))) if deployment.needed else []
        if lacking:
            raise UsageError(
                msg("The login is by password, and {repo} has no secret {names}", repo=repo, names=lacking),
                msg("Nothing was uploaded. Run this again with PLAYGROUND_USERS=NAME:PASSWORD in your environment."),
            )
        changed = differing(there, deployment.contents)
        deleted = [path for path in sorted(there) if path not in deployment.contents and _own(path)]
        # Each of these starts the Space anew: they come before the files, which do so once more.
        progress(msg("setting variables and secrets"), None)
        variables = _set_variables(hub, repo, deployment.variables)
        secrets = _set_secrets(hub, repo, deployment.secrets, renew_secrets)
        hardware = _request_hardware(hub, repo, plan.hardware)
        if changed or deleted:
            progress(msg("uploading {n} files", n=len(changed)), None)
        done = put(
            hub,
            repo,
            "space",
            {path: deployment.contents[path] for path in changed},
            deleted=deleted,
            parent=info.sha,
            message="Deploy the playground",
        )
    return Deployed(
        repo=repo,
        address=str(address),
        host=str(info.host or ""),
        commit=done.commit,
        private=bool(info.private),
        changed=done.changed,
        deleted=done.deleted,
        variables=variables,
        secrets=secrets,
        hardware=hardware,
    )


def _own(path: str) -> bool:
    return path.startswith(OWN_FOLDERS) or path == "pre-requirements.txt"


def _set_variables(hub: HfApi, repo: str, wanted: Mapping[str, str]) -> tuple[str, ...]:
    known = {name: each.value for name, each in hub.get_space_variables(repo).items()} if wanted else {}
    new = [name for name in sorted(wanted) if known.get(name) != wanted[name]]
    for name in new:
        hub.add_space_variable(repo, name, wanted[name])
    return tuple(new)


def _set_secrets(hub: HfApi, repo: str, wanted: Mapping[str, str], renew: bool) -> tuple[str, ...]:
    known = set(hub.get_space_secrets(repo)) if wanted and not renew else set()
    new = [name for name in sorted(wanted) if name not in known]
    for name in new:
        hub.add_space_secret(repo, name, wanted[name])
    return tuple(new)


def _request_hardware(hub: HfApi, repo: str, wanted: str) -> str:
    if not wanted:
        return ""
    runtime = hub.get_space_runtime(repo)
    now = runtime.requested_hardware or runtime.hardware
    if now == wanted:
        return ""
    hub.request_space_hardware(repo, wanted)  # type: ignore[arg-type]  # a flavor by name, which the Hub checks
    return wanted
