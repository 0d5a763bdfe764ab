"""A plan carried out: the Space made, what differs uploaded in one commit, variables, secrets and hardware set.

What is there already is left as it is, so a second run changes nothing. The token is huggingface_hub's to find
(HF_TOKEN or a stored login); it is neither read nor shown here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.deploy.plan import Deployment
from playground.deploy.profiles import Contents
from playground.errors import PlaygroundError, UsageError
from playground.messages import Translatable, foreign, msg
from playground.records import Record
from playground.sources.files import Progress

if TYPE_CHECKING:
    from huggingface_hub import HfApi

OWN_FOLDERS = ("playground/", "docs/")
"""What lies there and is not of this deployment is deleted: it is of an earlier one."""
CONFLICT = 412


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
        UsageError: The Space holds another app.
        PlaygroundError: The Hub refused or can't be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    hub, plan = api or HfApi(), deployment.plan
    repo = plan.repo
    with hub_errors(repo):
        progress(msg("asking the Hub"), None)
        address = hub.create_repo(
            repo, repo_type="space", space_sdk=deployment.sdk, private=private or None, exist_ok=True
        )
        info = hub.space_info(repo)
        there = _there(hub, repo)
        if not force and "app.py" in there and "spaces.yaml" not in there:
            raise UsageError(
                msg("{repo} holds another app", repo=repo),
                msg("Nothing was uploaded. Name another Space, or let --force replace it."),
            )
        changed = tuple(path for path in sorted(deployment.contents) if _differs(there, path, deployment.contents))
        deleted = tuple(path for path in sorted(there) if path not in deployment.contents and _own(path))
        # Each of these starts the Space anew: they come before the files, which do so once more.
        progress(msg("setting variables and secrets"), None)
        variables = _set_variables(hub, repo, deployment.variables)
        secrets = _set_secrets(hub, repo, deployment.secrets, renew_secrets)
        hardware = _request_hardware(hub, repo, plan.hardware)
        commit = info.sha or ""
        if changed or deleted:
            progress(msg("uploading {n} files", n=len(changed)), None)
            made = hub.create_commit(
                repo,
                [
                    *(CommitOperationAdd(path, _source(deployment.contents[path])) for path in changed),
                    *(CommitOperationDelete(path) for path in deleted),
                ],
                commit_message="Deploy the playground",
                repo_type="space",
                parent_commit=info.sha,
            )
            commit = made.oid
    return Deployed(
        repo=repo,
        address=str(address),
        host=str(info.host or ""),
        commit=commit,
        private=bool(info.private),
        changed=changed,
        deleted=deleted,
        variables=variables,
        secrets=secrets,
        hardware=hardware,
    )


def _there(hub: HfApi, repo: str) -> dict[str, Any]:
    """The Space's files by path."""
    from huggingface_hub.hf_api import RepoFile

    tree = hub.list_repo_tree(repo, recursive=True, repo_type="space")
    return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}


def _differs(there: Mapping[str, Any], path: str, contents: Contents) -> bool:
    entry, content = there.get(path), contents[path]
    if entry is None:
        return True
    data = content if isinstance(content, bytes) else content.read_bytes()
    if entry.lfs:
        return bool(entry.lfs.sha256 != hashlib.sha256(data).hexdigest())
    return bool(entry.blob_id != hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest())


def _own(path: str) -> bool:
    return path.startswith(OWN_FOLDERS) or path == "pre-requirements.txt"


def _source(content: Path | bytes) -> str | bytes:
    return content if isinstance(content, bytes) else str(content)


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


@contextmanager
def hub_errors(repo: str) -> Iterator[None]:
    """What huggingface_hub raises about ``repo`` in words, with a next step.

    Raises:
        PlaygroundError: In its place.
    """
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        yield
    except LocalTokenNotFoundError as error:
        raise PlaygroundError(msg("There is no Hub token"), msg("Set HF_TOKEN or run `hf auth login`.")) from error
    except HfHubHTTPError as error:
        raise _refused(repo, error) from error
    except (HTTPError, OSError, RuntimeError) as error:
        # An upload that broke is a RuntimeError of the library, around what broke it.
        cause = error.__cause__
        if isinstance(error, RuntimeError) and cause is None:
            raise
        if isinstance(cause, HfHubHTTPError):
            raise _refused(repo, cause) from error
        raise PlaygroundError(
            msg("The Hub can't be reached for {repo}: {error}", repo=repo, error=foreign(str(cause or error))),
            msg("Check the network, then run it again: what was uploaded is not uploaded twice."),
        ) from error


def _refused(repo: str, error: Any) -> PlaygroundError:
    status = getattr(error.response, "status_code", None)
    steps: dict[int, Translatable] = {
        401: msg("Set HF_TOKEN to a token that may write, or run `hf auth login`."),
        402: msg("This hardware needs a paid plan; a free account has ZeroGPU: --profile zerogpu."),
        403: msg("Use a token that may write to this owner's repositories."),
        404: msg("Check the name, and whether the token may see it."),
        CONFLICT: msg("Somebody else changed it meanwhile: run it again."),
    }
    said = getattr(error, "server_message", None) or f"HTTP {status}"
    return PlaygroundError(
        msg("The Hub refused {repo}: {reason}", repo=repo, reason=said),
        steps.get(status or 0, msg("Try again later.")),
    )
