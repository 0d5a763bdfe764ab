"""The process that downloads from the Hub: ``python -m playground.sources.hub.worker``.

A process of its own can be stopped at once, whatever it waits for, and may use the network while the preparation it
belongs to has transformers offline. A job comes as one line of JSON on stdin: ``{"repo", "tag", "revision", "extra",
"onnx", "name", "limit_mb"}``; or, for certain files and no others, ``{"repo", "revision", "files", "most_bytes"}``.
Lines of JSON go out on stdout: ``{"step", "progress"}`` any number of times,
``{"note"}`` for what the reader should know, then one ``{"commit", "files"}`` (path and SHA-256 of each) or
``{"error"}``.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import RepoFile

from playground.catalog import hub, quantization
from playground.catalog.gguf_names import tags_of
from playground.catalog.hub_names import HubName
from playground.catalog.weight_files import IncompleteFiles
from playground.errors import PlaygroundError, SourceError, StorageError
from playground.messages import Translatable, msg
from playground.sources import limits
from playground.sources.files import of_the_disk, sha256_of, write_text
from playground.sources.headers import Header, LyingHeader, read_gguf_beginning
from playground.sources.hub import choose_files
from playground.sources.hub.download import MAX_TRIES, CachedRepository, RemoteFile, retry, verified_sha256
from playground.system.one_job import take_job

log = logging.getLogger(__name__)

INTERVAL_S = 0.1
LOOKUP_TIMEOUT_S = 15.0
WEIGHTS = (".safetensors", ".gguf", ".onnx", ".onnx_data")
DTYPE_BYTES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}

Send = Callable[[dict[str, Any]], None]
Read = Callable[[str], str]
Choose = Callable[[str, Mapping[str, int], Read], tuple[str, ...]]


def run_job(job: dict[str, Any], send: Send) -> dict[str, Any]:
    """Do one job; the message that ends it.

    Args:
        job: As in the module's docstring.
        send: Told steps and notes.

    Raises:
        PlaygroundError: The repository has nothing that may be loaded, or it can't be kept here.
        Exception: What the Hub's client raised; ``to_playground_error`` says it in our words.
    """
    repo, revision = job["repo"], job["revision"] or "main"
    if "files" in job:
        return _named(job, send)

    def choose(repo: str, sizes: Mapping[str, int], read: Read) -> tuple[str, ...]:
        name = HubName(repo, job["tag"], job["revision"])
        return choose_files.files_to_fetch(name, sizes, tuple(job["extra"]), job["onnx"], read=read)

    if constants.HF_HUB_OFFLINE:
        return _cached(repo, job, choose, msg("HF_HUB_OFFLINE is set"), send)
    _step(send, msg("asking the Hub"), None)
    try:
        repo, commit, elements, bases = _resolve(repo, revision, send)
        files = _listing(repo, commit)
    except (httpx2.TransportError, HfHubHTTPError) as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
            raise
        reason = msg("the Hub can't be reached ({error})", error=type(error).__name__)
        try:
            return _cached(repo, job, choose, reason, send)
        except LocalEntryNotFoundError:
            raise error from None
    sizes = {name: file.size for name, file in files.items()}
    names = list(choose(repo, sizes, lambda name: _index(repo, commit, files[name])))
    if (
        job["onnx"]
        and not job["tag"]
        and (need := limits.prepare_mb(sum(elements.values()), job["onnx"])) > job["limit_mb"]
    ):
        names = _prebuilt_instead(repo, sizes, job, need, send) or names
    wanted = [files[name] for name in names]
    limits.check_tokenizer(f"hub:{repo}", [file.name for file in wanted])
    beside = [name for name in files if "/" not in name]

    def check_config(path: Path) -> None:
        config = limits.check_config(job["name"], path)
        if any(file.name.endswith(".safetensors") for file in wanted):
            limits.check_quantised(f"hub:{repo}", config, beside, bases, repo)
            _check_memory(job, config, wanted, elements)

    _check_ggufs(job, CachedRepository(repo, commit, lambda count: None), wanted)
    result = _download(repo, commit, wanted, check_config, send)
    _remember(repo, revision, commit)
    return result


def _named(job: dict[str, Any], send: Send) -> dict[str, Any]:
    """Exactly the files that the job names, whatever they are.

    Raises:
        SourceError: One is not there, or together they are larger than the job allows.
    """
    repo, revision, names = job["repo"], job["revision"] or "main", list(job["files"])

    def present(repo: str, sizes: Mapping[str, int], read: Read) -> tuple[str, ...]:
        if missing := [name for name in names if name not in sizes]:
            raise SourceError(
                msg("hub:{repo} has no file {file}", repo=repo, file=missing[0]), msg("Check its name and revision.")
            )
        return tuple(names)

    if constants.HF_HUB_OFFLINE:
        return _cached(repo, {**job, "tag": "named"}, present, msg("HF_HUB_OFFLINE is set"), send)
    _step(send, msg("asking the Hub"), None)
    repo, commit, _, _ = _resolve(repo, revision, send)
    files = _listing(repo, commit)
    wanted = [files[name] for name in present(repo, {name: file.size for name, file in files.items()}, str)]
    if (size := sum(file.size for file in wanted)) > job["most_bytes"]:
        raise SourceError(
            msg("{file} of hub:{repo} is refused, it has {mb:.0f} MB", file=names[0], repo=repo, mb=size / 1e6)
        )
    result = _download(repo, commit, wanted, lambda path: None, send)
    _remember(repo, revision, commit)
    return result


def _step(send: Send, step: Translatable, progress: float | None) -> None:
    send({"step": step.to_json(), "progress": progress})


def _note(send: Send, note: Translatable) -> None:
    send({"note": note.to_json()})


def _index(repo: str, commit: str, file: RemoteFile) -> str:
    """The text of a list of shards, which alone tells what they are called."""
    if file.size > limits.MAX_TEXT:
        raise SourceError(
            msg("hub:{repo}: {file} is refused, it has {mb:.0f} MB", repo=repo, file=file.name, mb=file.size / 1e6)
        )
    place = CachedRepository(repo, commit, lambda count: None)
    place.check_space([file])
    place.fetch(file)
    return place.path(file.name).read_text(encoding="utf-8", errors="replace")


def _prebuilt_instead(
    repo: str, sizes: Mapping[str, int], job: dict[str, Any], need_mb: float, send: Send
) -> list[str]:
    """Ready-made graphs of a model whose weights can't be held here; none where the repository has none."""
    graphs = choose_files.files_to_fetch(HubName(repo), sizes, tuple(job["extra"]), job["onnx"], originals=False)
    if any(name.endswith((".safetensors", ".gguf")) for name in graphs):
        return []
    note = msg(
        "The ready-made ONNX files of hub:{repo} are taken as they are: comparing them with the original weights "
        "takes {need_gb:.1f} GB of memory, this machine has {limit_gb:.1f} GB.",
        repo=repo,
        need_gb=need_mb / 1000,
        limit_gb=job["limit_mb"] / 1000,
    )
    _note(send, note)
    return list(graphs)


def _remember(repo: str, revision: str, commit: str) -> None:
    """Note in the cache, as huggingface_hub does, which commit a branch or tag was: what offline use looks up."""
    ref = _folder(repo) / "refs" / revision
    with contextlib.suppress(OSError):  # a cache that was filled beforehand may be read-only
        if revision != commit:
            ref.parent.mkdir(parents=True, exist_ok=True)
            write_text(ref, commit)


def _folder(repo: str) -> Path:
    return Path(constants.HF_HUB_CACHE).expanduser() / repo_folder_name(repo_id=repo, repo_type="model")


def _snapshot(repo: str, revision: str) -> tuple[Path, str]:
    """Where the cache would hold this revision, and its commit as far as the cache knows."""
    ref = _folder(repo) / "refs" / revision
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision
    return _folder(repo) / "snapshots" / commit, commit


def _resolve(repo: str, revision: str, send: Send) -> tuple[str, str, dict[str, int], tuple[str, ...]]:
    """The repository's present name, the commit, its elements by type where the Hub knows them, and the models that
    its card says it was made from.
    """
    api = HfApi()
    # With a copy in the cache nobody has to wait for a network that is not there.
    tries = 1 if _snapshot(repo, revision)[0].is_dir() else MAX_TRIES
    info = retry(lambda: api.model_info(repo, revision=revision, timeout=LOOKUP_TIMEOUT_S), tries=tries)
    if not info.sha:
        raise SourceError(
            msg("hub:{repo}: the Hub names no commit for '{revision}'", repo=repo, revision=revision),
            msg("Try again later."),
        )
    if info.id != repo:
        _note(send, msg("hub:{repo} is called {name} now; that is what was fetched.", repo=repo, name=info.id))
    weights = info.safetensors
    bases = quantization.repositories(getattr(info.card_data, "base_model", None))
    return info.id, info.sha, dict(weights.parameters) if weights else {}, bases


def _listing(repo: str, commit: str) -> dict[str, RemoteFile]:
    api = HfApi()
    entries = retry(lambda: list(api.list_repo_tree(repo, recursive=True, revision=commit)))
    return {
        entry.path: RemoteFile(entry.path, entry.size, entry.blob_id, entry.lfs.sha256 if entry.lfs else "")
        for entry in entries
        if isinstance(entry, RepoFile) and ".." not in entry.path.split("/")
    }


def _download(
    repo: str, commit: str, files: list[RemoteFile], check_config: Callable[[Path], None], send: Send
) -> dict[str, Any]:
    total, done, told = max(1, sum(file.size for file in files)), 0, 0.0

    def more(count: int) -> None:
        nonlocal done, told
        done += count
        if time.monotonic() - told >= INTERVAL_S:
            told = time.monotonic()
            _step(send, msg("downloading"), min(1.0, done / total))

    place = CachedRepository(repo, commit, more)
    place.check_space(files)
    _step(send, msg("downloading"), 0.0)
    found: dict[str, tuple[Path, str]] = {}
    # Small files first: a configuration that is refused costs no gigabytes.
    for file in sorted(files, key=lambda file: (file.name.endswith(WEIGHTS), file.size)):
        found[file.name] = (place.path(file.name), place.fetch(file))
        if file.name == "config.json":
            check_config(place.path(file.name))
    _step(send, msg("downloading"), 1.0)
    return _result(commit, {file.name: found[file.name] for file in files})


def _check_memory(
    job: dict[str, Any], config: dict[str, Any], files: list[RemoteFile], elements: dict[str, int]
) -> None:
    """Refuse what can't be held here before its weights are fetched."""
    size = sum(file.size for file in files if file.name.endswith(".safetensors"))
    kind = str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")
    parameters = limits.parameter_count(config, elements) or size // DTYPE_BYTES.get(kind, 4)
    wanted = {"precision": job["onnx"]} if job["onnx"] else {"whole": True}
    limits.check_memory(job["name"], parameters, job["limit_mb"], **wanted)


FEWEST_BITS = 1.5
"""A weight takes no less in a GGUF file."""


def _check_ggufs(job: dict[str, Any], place: CachedRepository, files: list[RemoteFile]) -> None:
    """Refuse GGUF files of what can't be held here before they are fetched, by what their headers say.

    Raises:
        SourceError: With both figures.
    """
    ggufs = [file for file in files if file.name.lower().endswith(".gguf")]
    wanted = {"precision": job["onnx"]} if job["onnx"] else {"whole": True}

    def check(parameters: int, **wanted: Any) -> None:
        limits.check_memory(job["name"], parameters, job["limit_mb"], **wanted)

    try:
        check(int(sum(file.size for file in ggufs) * 8 / FEWEST_BITS), whole=True)
    except SourceError:  # it may be too large
        if not place.missing_bytes(ggufs):
            return  # what is here is looked at as a whole
        headers = [place.look(file, partial(_gguf_header, job["name"], file)) for file in ggufs]
        if any(header is None for header in headers):
            return
        if any(limits.unpacked_whole(header.metadata) for header in headers if header):
            wanted = {"whole": True}
        check(sum(header.parameters for header in headers if header), **wanted)


def _gguf_header(name: str, file: RemoteFile, beginning: bytes) -> Header | None:
    try:
        return read_gguf_beginning(beginning, file.size)
    except LyingHeader as error:
        raise limits.refused(name, file.name, error.reason) from error


def _cached(repo: str, job: Mapping[str, Any], choose: Choose, reason: Translatable, send: Send) -> dict[str, Any]:
    """What the cache holds of the revision, if it is complete.

    Args:
        job: Has the revision and the quantisation that were named.

    Raises:
        LocalEntryNotFoundError: It is not there.
        SourceError: It is there in part, or it is a GGUF file that nobody named.
    """
    snapshot, commit = _snapshot(repo, job["revision"] or "main")
    files = [path for path in snapshot.rglob("*") if path.exists() and path.is_file()]
    sizes = {str(path.relative_to(snapshot)): path.stat().st_size for path in files}
    if not sizes:
        raise LocalEntryNotFoundError(repo)
    _step(send, msg("verifying"), None)
    try:
        chosen = choose(repo, sizes, lambda name: (snapshot / name).read_text(encoding="utf-8", errors="replace"))
    except IncompleteFiles as error:
        raise _partial(repo, error.problem, reason) from error
    if not job["tag"] and (ggufs := [name for name in chosen if name.lower().endswith(".gguf")]):
        # The cache has what was asked for before, by tags too: it does not tell what else the repository holds.
        proposed = tags_of(ggufs[:1])[ggufs[0]]
        raise SourceError(
            msg(
                "{reason}, and the cache does not tell whether {file} is all that hub:{repo} has",
                reason=reason,
                file=ggufs[0],
                repo=repo,
            ),
            msg("Connect to the network, or name it as hub:{repo}:{tag}.", repo=repo, tag=proposed)
            if proposed
            else msg("Connect to the network and try again."),
        )
    found = {name: (snapshot / name, _verified(snapshot / name)) for name in chosen}
    if broken := sorted(name for name, (_, digest) in found.items() if not digest):
        raise _partial(repo, msg("{file} is broken", file=broken[0]), reason)
    note = msg(
        "{reason}: what the cache holds of hub:{repo} is used (commit {commit}).",
        reason=reason,
        repo=repo,
        commit=commit[:12],
    )
    _note(send, note)
    return _result(commit, found)


def _verified(path: Path) -> str:
    """The SHA-256 of a cached file, "" if it is not what its blob's name promises."""
    tag, size = path.resolve().name, path.stat().st_size
    promised = {64: RemoteFile(path.name, size, "", tag), 40: RemoteFile(path.name, size, tag)}.get(len(tag))
    if promised is None or not path.is_symlink():  # a file system without links keeps no etag
        return sha256_of(path)
    return verified_sha256(path, promised)


def _partial(repo: str, problem: Translatable, reason: Translatable) -> SourceError:
    return SourceError(
        msg(
            "hub:{repo} is in the cache in part only ({problem}), and {reason}",
            repo=repo,
            problem=problem,
            reason=reason,
        ),
        msg("Connect to the network and try again."),
    )


def _result(commit: str, files: dict[str, tuple[Path, str]]) -> dict[str, Any]:
    return {"commit": commit, "files": {name: [str(path), digest] for name, (path, digest) in files.items()}}


def to_playground_error(error: Exception, job: dict[str, Any]) -> PlaygroundError:
    """Any failure as one of ours. Texts of the libraries are left out: they may hold signed addresses."""
    repo = job["repo"]
    if isinstance(error, PlaygroundError):
        return error
    if isinstance(error, LocalEntryNotFoundError):
        cause = error.__cause__
        if isinstance(cause, OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
            return SourceError(
                msg("hub:{repo} is not in the cache, and HF_HUB_OFFLINE is set", repo=repo),
                msg("Unset it, or fetch the model once before."),
            )
        error = cause if isinstance(cause, Exception) else error
    if isinstance(error, OSError) and not isinstance(error, HfHubHTTPError) and (disk := of_the_disk(error)):
        return StorageError(
            msg(
                "hub:{repo} can't be written to {folder} ({error})",
                repo=repo,
                folder=constants.HF_HUB_CACHE,
                error=disk.strerror,
            ),
            msg("Free some space there, or set HF_HOME to a folder that can be written. What arrived is kept."),
        )
    if isinstance(error, HfHubHTTPError) and error.response.status_code == 429:
        return SourceError(
            msg("hub:{repo}: the Hub answered 429, too many requests from this address", repo=repo),
            msg(
                "Wait a few minutes; with a token (HF_TOKEN or `hf auth login`) more are allowed. What arrived is kept."
            ),
        )
    if isinstance(error, HfHubHTTPError) and error.response.status_code == 401 and type(error) is HfHubHTTPError:
        return SourceError(
            msg("hub:{repo}: the Hub does not accept the token it was given", repo=repo),
            msg("Set HF_TOKEN to a valid one (huggingface.co/settings/tokens), or run `hf auth login`, or give none."),
        )
    try:
        with hub.hub_errors(repo, job["revision"]):
            raise error
    except PlaygroundError as told:
        return told


def main() -> int:
    job, send = take_job()
    if job is None:
        return 2
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
    # The library's own warnings quote addresses, signatures included.
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    try:
        send(run_job(job, send))
    except Exception as error:
        send({"error": to_playground_error(error, job).to_json()})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
