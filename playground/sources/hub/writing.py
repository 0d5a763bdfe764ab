"""Files put into a repository of the Hub in one commit: what differs, and nothing else.

The token is huggingface_hub's to find (HF_TOKEN or a stored login); it is neither read nor shown here. It knows
repositories and commits, not what is in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.errors import PlaygroundError
from playground.messages import Translatable, foreign, msg
from playground.sources.files import READ_BYTES

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Contents = Mapping[str, Path | bytes]
"""What is to lie there, by path in the repository."""
CONFLICT = 412


@dataclass(frozen=True)
class Put:
    """What was done.

    Attributes:
        commit: The repository's newest: ours, or the one that was there.
        changed, deleted: Paths.
    """

    commit: str
    changed: tuple[str, ...]
    deleted: tuple[str, ...]


def files_there(hub: HfApi, repo: str, kind: str) -> dict[str, Any]:
    """The repository's files by path, as huggingface_hub describes them.

    Args:
        kind: ``model`` or ``space``.
    """
    from huggingface_hub.hf_api import RepoFile

    return {
        entry.path: entry
        for entry in hub.list_repo_tree(repo, recursive=True, repo_type=kind)
        if isinstance(entry, RepoFile)
    }


def differing(there: Mapping[str, Any], contents: Contents) -> tuple[str, ...]:
    """Paths whose content is not the one that is there; reads every file that is there by the same name and size."""
    return tuple(path for path in sorted(contents) if _differs(there.get(path), contents[path]))


def put(
    hub: HfApi,
    repo: str,
    kind: str,
    contents: Contents,
    *,
    deleted: Iterable[str],
    parent: str | None,
    message: str,
) -> Put:
    """One commit with all of ``contents``; none where nothing is to be done.

    Args:
        contents: Only what differs.
        parent: The commit that was looked at: where there is a newer one, nothing is written.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    gone = tuple(sorted(deleted))
    if not contents and not gone:
        return Put(parent or "", (), ())
    operations: list[Any] = [
        *(CommitOperationAdd(path, _source(contents[path])) for path in sorted(contents)),
        *(CommitOperationDelete(path) for path in gone),
    ]
    made = hub.create_commit(repo, operations, commit_message=message, repo_type=kind, parent_commit=parent)
    return Put(made.oid, tuple(sorted(contents)), gone)


def _differs(entry: Any, content: Path | bytes) -> bool:
    if entry is None:
        return True
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    if entry.size != size:
        return True
    digest = hashlib.sha256() if entry.lfs else hashlib.sha1(b"blob %d\0" % size)
    if isinstance(content, bytes):
        digest.update(content)
    else:
        with content.open("rb") as file:
            while block := file.read(READ_BYTES):
                digest.update(block)
    return bool(digest.hexdigest() != (entry.lfs.sha256 if entry.lfs else entry.blob_id))


def _source(content: Path | bytes) -> str | bytes:
    return content if isinstance(content, bytes) else str(content)


@contextmanager
def writing_errors(repo: str) -> Iterator[None]:
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
