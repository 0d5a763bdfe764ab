"""Prepared artifacts put into a repository of the Hub, with a model card: what another playground starts from without
exporting (``export.prepared`` takes them), and what anybody can check.

One repository holds as many artifacts as one likes; what is there already stays, or is replaced where it is pushed
again. Libraries of machine code stay at home: they are made anew wherever an artifact runs.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playground.errors import ChecksumError, ExportError, UsageError
from playground.export.cache import recorded
from playground.export.prepared import (
    FORMAT,
    GRAPH,
    KIND,
    MANIFEST,
    OWN,
    Manifest,
    NotTaken,
    Offered,
    can_be_taken,
    offer,
    read_manifest,
    sums_of,
)
from playground.messages import Translatable, clauses, msg
from playground.records import Artifact, ModelFacts, ModelSpec, Record, Variant
from playground.ship import papers
from playground.ship.shipment import Known
from playground.sources.files import Progress
from playground.sources.hub.writing import differing, files_there, put, writing_errors

if TYPE_CHECKING:
    from huggingface_hub import HfApi

README, SUMS = "README.md", "SHA256SUMS"
LIBRARY = "onnx"
TAG = "open-model-playground"


@dataclass(frozen=True)
class Pushing:
    """One artifact and what is known of it."""

    spec: ModelSpec
    artifact: Artifact
    facts: ModelFacts
    known: Known


@dataclass(frozen=True)
class Pushed(Record):
    """What lies in the repository now.

    Attributes:
        address: Its page.
        commit: Its newest: ours, or the one that had all of it already.
        artifacts: All that it holds.
        changed, deleted: Paths.
        left_to_do: What licences ask of whoever passes the files on and no program can do.
    """

    repo: str
    address: str
    commit: str
    artifacts: tuple[str, ...]
    changed: tuple[str, ...]
    deleted: tuple[str, ...]
    left_to_do: tuple[Translatable, ...] = field(default=())


def cannot_push(spec: ModelSpec, variant: Variant) -> UsageError | None:
    """Why a variant can't be pushed, whatever its artifact; None where that is to be seen."""
    if spec.source.startswith("path:"):
        return UsageError(
            msg("{model} is a file of this machine: nobody else could tell what it is", model=variant),
            msg("Push models that the Hub or the catalogue knows."),
        )
    if not can_be_taken(spec, variant):
        return UsageError(
            msg("{model} has no graph of its own that another machine could start from", model=variant),
            msg("Push onnx-int8, onnx-int4 or onnx-fp32."),
        )
    return None


def push(
    models: tuple[Pushing, ...], repo: str, progress: Progress, *, private: bool = False, api: HfApi | None = None
) -> Pushed:
    """Upload them in one commit; a second run uploads nothing.

    Raises:
        ExportError: One has no graph, or was not compared with its original.
        ChecksumError: A file is not the one that was judged.
        UsageError: The repository holds something else.
        PlaygroundError: The Hub refused or can't be reached.
    """
    from huggingface_hub import HfApi

    hub = api or HfApi()
    for each in models:
        _check(each.artifact)
    with tempfile.TemporaryDirectory() as folder, writing_errors(repo):
        address = hub.create_repo(repo, repo_type="model", private=private or None, exist_ok=True)
        info = hub.model_info(repo)
        there = files_there(hub, repo, "model")
        before = _before(hub, repo, there, info.sha or "")
        new: dict[str, Offered] = {}
        contents: dict[str, Path | bytes] = {}
        left: list[Translatable] = []
        for each in models:
            progress(msg("writing its papers"), None)
            place = _place(each.artifact.variant)
            stage = Path(folder) / place
            stage.mkdir(parents=True)
            todo = papers.licence_files(stage, each.spec, each.artifact, each.facts, each.known)
            left += todo
            offered = offer(each.spec, each.artifact, place, _paper(each, todo), each.known.licence_id)
            new[str(each.artifact.variant)] = offered
            contents |= {f"{place}/{name}": Path(each.artifact.path) / name for name in offered.files}
            contents |= {f"{place}/{path.name}": path for path in stage.iterdir()}
        manifest = Manifest({**before.artifacts, **new})
        contents |= _about(manifest)
        places = {offered.folder + "/" for offered in new.values()}
        gone = [path for path in there if path.startswith(tuple(places)) and path not in contents]
        changed = differing(there, contents)
        if changed or gone:
            progress(msg("uploading {n} files", n=len(changed)), None)
        done = put(
            hub,
            repo,
            "model",
            {path: contents[path] for path in changed},
            deleted=gone,
            parent=info.sha,
            message="Prepared artifacts of the open-model playground",
        )
    names = tuple(manifest.artifacts)
    return Pushed(repo, str(address), done.commit, names, done.changed, done.deleted, tuple(dict.fromkeys(left)))


def _place(variant: Variant) -> str:
    """The folder of an artifact in its repository."""
    model = re.sub(r"[^A-Za-z0-9._-]+", "-", variant.model).strip("-.")
    return f"{model}/{variant.runtime}-{variant.precision}"


def _check(artifact: Artifact) -> None:
    """
    Raises:
        ExportError, ChecksumError: See ``push``.
    """
    variant, folder = artifact.variant, Path(artifact.path)
    if variant.runtime != "onnx" or not (folder / GRAPH).is_file():
        why = clauses(*artifact.fallbacks) if artifact.fallbacks else msg("it is more than a decoder")
        raise ExportError(
            msg("{model} has no graph that could be pushed ({why})", model=variant, why=why),
            msg("Choose another precision or model."),
        )
    if artifact.fidelity is None:
        raise ExportError(
            msg("{model} was compared with no original, so nobody would take it", model=variant),
            msg("Choose a model that brings its weights."),
        )
    for name, record in recorded(folder).items():
        if name not in OWN and not record.matches(folder / name):
            raise ChecksumError(
                msg("{model}: {file} is not the file that was judged", model=variant, file=name),
                msg("Prepare it again: `playground prepare {model}`.", model=variant),
            )


def _before(hub: HfApi, repo: str, there: Mapping[str, Any], commit: str) -> Manifest:
    """What the repository holds already.

    Raises:
        UsageError: Something else.
    """
    if MANIFEST in there:
        try:
            return read_manifest(Path(hub.hf_hub_download(repo, MANIFEST, revision=commit)).read_bytes())
        except NotTaken as error:
            raise UsageError(
                msg("{repo} holds artifacts, and {reason}", repo=repo, reason=error.reason), msg("Name another one.")
            ) from error
    if set(there) - {".gitattributes", README}:
        raise UsageError(
            msg("{repo} holds something else than prepared artifacts", repo=repo),
            msg("Nothing was uploaded. Name a repository of their own."),
        )
    return Manifest()


def _about(manifest: Manifest) -> dict[str, bytes]:
    """README, list and sums of all artifacts of the repository."""
    document = {
        "kind": KIND,
        "format": FORMAT,
        "artifacts": {name: papers.plain(offered) for name, offered in sorted(manifest.artifacts.items())},
    }
    return {
        README: _readme(manifest).encode(),
        MANIFEST: (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode(),
        SUMS: sums_of(manifest).encode(),
    }


def _readme(manifest: Manifest) -> str:
    offered = [each for _, each in sorted(manifest.artifacts.items())]
    about = msg(
        "Models as the open-model playground prepares them: exported to ONNX, rounded, and compared with the original "
        "weights. A playground takes them from here instead of exporting them itself, where its versions are the "
        "same: set `PLAYGROUND_PREPARED_FROM` to this repository. {file} tells what was made by what, SHA256SUMS has "
        "the checksum of every file: `sha256sum -c SHA256SUMS`. There is no code in here.",
        file=MANIFEST,
    )
    return papers.paragraphs([_front_matter(offered), str(msg("# Prepared models")), str(about), *_parts(offered)])


def _parts(offered: list[Offered]) -> list[str]:
    return [each.paper for each in offered]


def _front_matter(offered: list[Offered]) -> str:
    import yaml

    bases = sorted({each.upstream for each in offered if each.upstream})
    licences = sorted({each.licence.lower() for each in offered if each.licence})
    told: dict[str, Any] = {
        "library_name": LIBRARY,
        "pipeline_tag": "text-generation",
        "tags": ["onnx", TAG, *sorted({f"{each.artifact.variant.precision}" for each in offered})],
    }
    if bases:
        told |= {"base_model": bases[0] if len(bases) == 1 else bases, "base_model_relation": "quantized"}
    if len(licences) == 1:
        told["license"] = licences[0]
    elif licences:
        told |= {"license": "other", "license_name": " and ".join(licences), "license_link": README}
    return f"---\n{yaml.safe_dump(told, sort_keys=True)}---"


def _paper(pushing: Pushing, left: list[Translatable]) -> str:
    """What the README says of one artifact."""
    spec, artifact, facts, known = pushing.spec, pushing.artifact, pushing.facts, pushing.known
    made = [
        msg("Base model: {base}, revision {revision}.", base=spec.upstream or spec.source, revision=artifact.revision),
        msg("Recipe: {recipe}; prepared {when}.", recipe=artifact.recipe, when=artifact.created_at[:10]),
        msg(
            "Made with {tools}.",
            tools=[f"{name} {version}" for name, version in artifact.tool_versions.items() if name != "kernels"],
        ),
        msg("It was compared as {engine} computes it.", engine=artifact.engine or "onnxruntime"),
        *artifact.fallbacks,
        *artifact.notes,
    ]
    return papers.paragraphs(
        [
            f"## {spec.name}, {artifact.variant.runtime}-{artifact.variant.precision}",
            papers.section(msg("Origin"), made).replace("## ", "### ", 1),
            papers.section(msg("Fidelity"), papers.fidelity_lines(artifact)).replace("## ", "### ", 1),
            papers.section(msg("Licence and terms"), papers.licence_lines(facts, known, left)).replace(
                "## ", "### ", 1
            ),
        ]
    ).rstrip("\n")
