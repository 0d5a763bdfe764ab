"""What the Hub tells of a model before anything of it is downloaded: size, licence, architecture, whether it is gated,
which way it would run here and what it would need.

Asks through huggingface_hub (``HF_ENDPOINT`` and ``HF_TOKEN`` are honoured) and reads two small files, config.json and
the card, within limits and through the Hub's own cache. Everything that comes back was written by strangers and is
checked. It fetches no weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from playground.catalog import config_names
from playground.catalog.eval_results import EVAL_RESULTS
from playground.catalog.footprint import Footprint, estimate
from playground.catalog.gguf_names import bits_of, quantisation_in
from playground.catalog.hub_names import HUB_ID, HUB_REVISION, HUB_TAG, HubName
from playground.catalog.hub_weights import hub_weights
from playground.catalog.quantization import advice, quantisation, repositories
from playground.catalog.weight_files import is_pickled, why_none
from playground.errors import SourceError, UsageError
from playground.messages import NOTHING, Translatable, msg, sentences
from playground.records import Record

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

TIMEOUT_S = 15.0
MAX_CONFIG = 1_000_000
MAX_CARD = 2_000_000
MAX_INDEX = 20_000_000
"""Bytes of config.json, of the card and of a list of shards that are fetched."""
MAX_RESULTS = 40
MAX_RESULT = 64_000
"""Files of ``.eval_results`` that are fetched, and bytes of each: a file has a benchmark or a few."""
HUB = "https://huggingface.co"

_SHAPE = {
    "layers": config_names.LAYERS,
    "hidden_size": config_names.HIDDEN_SIZE,
    "attention_heads": config_names.ATTENTION_HEADS,
    # Where a configuration does not tell them apart, every head has keys and values of its own.
    "key_value_heads": (*config_names.KEY_VALUE_HEADS, *config_names.ATTENTION_HEADS),
    "head_dim": config_names.HEAD_DIM,
    "vocab_size": config_names.VOCAB_SIZE,
}


@dataclass(frozen=True)
class HubInfo(Record):
    """A repository at one commit, and what of it would be taken.

    Attributes:
        revision: The commit.
        tag: The quantisation that was asked for, "" without one.
        parameters: From the metadata of its safetensors, or of its GGUF files; 0 where there is none.
        bits: That a weight takes in the GGUF file that would be fetched, about; 0 where it is none.
        download_bytes: Of the weights that would be fetched.
        gated: "" where anybody may download it, else ``auto`` or ``manual``: how access is granted.
        license: As the card gives it, "" where it does not.
        onnx_files: Ready-made graphs.
        way: In words, how it would run here.
        refusal: Why it does not run here; "" where it does.
        shape: For ``footprint.estimate``.
        config: config.json, {} where it can't be read.
        card: README.md as text.
        tags: As the Hub gives them.
        eval_results: The YAML files of ``.eval_results``, name and text (``eval_results``).
    """

    repo: str
    revision: str
    tag: str = ""
    parameters: int = 0
    bits: float = 0.0
    download_bytes: int = 0
    gated: str = ""
    license: str = ""
    architecture: str = ""
    model_type: str = ""
    context_length: int = 0
    onnx_files: tuple[str, ...] = ()
    way: Translatable = NOTHING
    refusal: Translatable = NOTHING
    notes: tuple[Translatable, ...] = ()
    shape: dict[str, int] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    card: str = ""
    tags: tuple[str, ...] = ()
    eval_results: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> HubName:
        """How it is named at this commit."""
        return HubName(self.repo, self.tag, self.revision)

    @property
    def url(self) -> str:
        return f"{HUB}/{self.repo}"

    def footprint(self, runtime: str = "onnx", precision: str = "int8") -> Footprint | None:
        """The estimate; where the metadata gives no number of parameters, they are counted by the size of the files."""
        parameters = self.parameters or int(self.download_bytes * 8 / (self.bits or 16))
        if not parameters or self.refusal:
            return None
        return estimate(parameters, runtime, precision, self.shape, prebuilt=bool(self.onnx_files))


def reachable(timeout_s: float) -> bool:
    """Whether the Hub answers, asked once and for nothing but that. What stands between (a proxy that refuses) does not
    count as the Hub; neither does one that is not to be asked (HF_HUB_OFFLINE).
    """
    import httpx2
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    try:
        answer = httpx2.head(endpoint, timeout=timeout_s, follow_redirects=False)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError):
        return False
    return answer.status_code < 400 or answer.status_code == 404


def fetch_model_info(repo: str, revision: str = "", tag: str = "") -> HubInfo:
    """Ask the Hub about a repository.

    Args:
        repo: ``OWNER/NAME``.
        revision: Branch, tag or commit; the newest of main without one.
        tag: The quantisation whose GGUF file is meant.

    Raises:
        UsageError: That is no name of a repository, revision or quantisation.
        SourceError: No network, no such repository, no access; with the next step.
    """
    optional = ((revision, HUB_REVISION), (tag, HUB_TAG))
    if not HUB_ID.fullmatch(repo) or not all(pattern.fullmatch(text) for text, pattern in optional if text):
        raise UsageError(
            msg("'{repo}' is not a name OWNER/NAME of the Hub", repo=repo), msg("Copy it from the model's page.")
        )
    from huggingface_hub import HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=os.environ.get("HF_TOKEN") or None)
    with hub_errors(repo, revision):
        info = api.model_info(repo, revision=revision or None, files_metadata=True, timeout=TIMEOUT_S)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or [] if isinstance(file.rfilename, str)}
    commit = info.sha or revision or "main"
    small = _Small(api, info.id or repo, commit, sizes)
    weights, unclear = _weights(HubName(info.id or repo, tag.upper(), revision), sizes, small)
    inner = f"{PurePosixPath(weights[0]).parent}/config.json" if weights else ""
    config_text, config_note = small.read(inner if inner in sizes else "config.json", MAX_CONFIG)
    card, card_note = small.read("README.md", MAX_CARD)
    results, results_notes = _results(sizes, small)
    notes = tuple(filter(None, (config_note, card_note, *results_notes)))
    found = _read(
        info, commit, sizes, config=_json(config_text), card=card, notes=notes, weights=weights, unclear=unclear
    )
    return replace(found, tag=tag.upper(), eval_results=results)


def _results(sizes: Mapping[str, int], small: _Small) -> tuple[dict[str, str], list[Translatable]]:
    """The files of ``.eval_results``, and why some are not among them."""
    names = sorted(name for name in sizes if EVAL_RESULTS.fullmatch(name))
    read = {name: small.read(name, MAX_RESULT) for name in names[:MAX_RESULTS]}
    notes = [note for _, note in read.values() if note]
    if len(names) > MAX_RESULTS:
        notes.append(
            msg("It has {n} files of evaluation results; {most} of them are read.", n=len(names), most=MAX_RESULTS)
        )
    return {name: text for name, (text, note) in read.items() if not note}, notes


def _weights(name: HubName, sizes: Mapping[str, int], small: _Small) -> tuple[tuple[str, ...], Translatable]:
    """The weights that would be fetched, and why none are where that is unclear."""

    def read(name: str) -> str:
        text, note = small.read(name, MAX_INDEX)
        if note:
            raise _Unread(note)
        return text

    try:
        found = hub_weights(name, sizes, read)
    except _Unread:  # a gated repository shows its names alone: nearly always all of these are the shards
        return tuple(name for name in sizes if name.endswith(".safetensors") and "/" not in name), NOTHING
    except SourceError as error:
        return (), error.message
    return (found.files if found else ()), NOTHING


class _Unread(Exception):
    """A small file can't be had."""


@contextmanager
def hub_errors(repo: str, revision: str = "") -> Iterator[None]:
    """Errors of huggingface_hub as this product's, with what to do about them."""
    from huggingface_hub import errors

    page = f"{HUB}/{repo}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise SourceError(
            msg("hub:{repo} is gated", repo=repo),
            msg(
                "Accept its licence at {page}, then give a token of that account (huggingface.co/settings/tokens): set "
                "HF_TOKEN, or run `hf auth login`.",
                page=page,
            ),
        ) from error
    except errors.RevisionNotFoundError as error:
        raise SourceError(
            msg("hub:{repo} has no revision '{revision}'", repo=repo, revision=revision),
            msg("See {page}/tree/main for its branches.", page=page),
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(
            msg("There is no repository hub:{repo}, or it is private", repo=repo),
            msg(
                "The Hub does not tell which. Check the spelling on huggingface.co; for a private one set HF_TOKEN, or "
                "run `hf auth login`, with a token that may read it."
            ),
        ) from error
    except errors.HFValidationError as error:
        raise UsageError(
            msg("'{repo}' is not a name of the Hub", repo=repo), msg("Copy it from the model's page.")
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise SourceError(
            msg("hub:{repo}: the Hub is not asked, because HF_HUB_OFFLINE is set", repo=repo), msg("Unset it.")
        ) from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "?")
        raise SourceError(
            msg("hub:{repo}: the Hub answered {status}", repo=repo, status=status), msg("Try again later.")
        ) from error
    except (OSError, ValueError) as error:
        raise SourceError(
            msg("hub:{repo}: the Hub's answer can't be used ({kind})", repo=repo, kind=type(error).__name__),
            msg("Try again later."),
        ) from error
    except Exception as error:
        # The client's own transport errors (connection refused, time-out, name not found) have no root of ours.
        if not type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3")):
            raise
        raise SourceError(
            msg("hub:{repo}: the Hub can't be reached ({kind})", repo=repo, kind=type(error).__name__),
            msg("Check the network, HF_ENDPOINT and proxy settings; models that are prepared run without it."),
        ) from error


@dataclass(frozen=True)
class _Small:
    """The small files of a repository at one commit."""

    api: Any
    repo: str
    commit: str
    sizes: Mapping[str, int]

    def read(self, name: str, most: int) -> tuple[str, Translatable]:
        """The text of a file ("" where there is none to read), and why not."""
        if name not in self.sizes:
            return "", msg("It has no {file}.", file=name)
        if self.sizes[name] > most:
            return "", msg("Its {file} has {size:,} bytes and is not read.", file=name, size=self.sizes[name])
        try:
            with hub_errors(self.repo, self.commit):
                path = self.api.hf_hub_download(self.repo, name, revision=self.commit)
            with Path(path).open(encoding="utf-8", errors="replace") as file:
                return file.read(most), NOTHING
        except SourceError as error:
            return "", msg("Its {file} can't be read: {reason}.", file=name, reason=error.what)


def _read(
    info: ModelInfo,
    commit: str,
    sizes: Mapping[str, int],
    *,
    config: dict[str, Any],
    card: str,
    notes: tuple[Translatable, ...],
    weights: tuple[str, ...],
    unclear: Translatable,
) -> HubInfo:
    described = config or (info.config if isinstance(info.config, dict) else {})
    text_config = described.get("text_config")
    inner = text_config if isinstance(text_config, dict) else described
    names = described.get("architectures")
    model_type = described.get("model_type")
    license_id = getattr(info.card_data, "license", "") if info.card_data else ""
    kind = model_type if isinstance(model_type, str) else ""
    custom = "auto_map" in described
    as_gguf = bool(weights) and weights[0].lower().endswith(".gguf")
    gguf = info.gguf if as_gguf and isinstance(info.gguf, dict) else {}
    # Nothing is compared with the graphs of a GGUF's repository, so they are not taken.
    onnx = () if as_gguf else tuple(sorted(name for name in sizes if name.endswith(".onnx")))
    rounded = quantisation(config, sizes) if any(name.endswith(".safetensors") for name in weights) else None
    refusal = unclear or _refusal((*weights, *onnx), sizes, kind, custom, bool(described))
    if rounded and not rounded.becomes_floats:
        bases = repositories(getattr(info.card_data, "base_model", None))
        it = msg("It")
        why = msg("{problem}.", problem=rounded.refusal(it))
        refusal = refusal or sentences(why, advice(bases, info.id))
    elif rounded and not refusal:
        notes += (
            msg("Its weights are rounded ({method}); transformers makes floats of them here.", method=rounded.name),
        )
    if custom and not refusal:
        notes += (msg("It brings code of its own, which is never run; transformers' own class is used."),)
    known = info.safetensors
    held = (rounded.values(known.parameters) if rounded else known.total) if known else 0
    held = config_names.whole(gguf, "total") or held
    return HubInfo(
        repo=info.id,
        revision=commit,
        parameters=held if config_names.is_whole(held) else 0,
        download_bytes=sum(sizes[name] for name in weights),
        gated=str(info.gated) if info.gated else "",
        license=license_id if isinstance(license_id, str) else "",
        bits=bits_of(quantisation_in(weights[0])) if as_gguf else 0.0,
        architecture=str(names[0] if isinstance(names, list) and names else gguf.get("architecture") or "")[:100],
        model_type=kind[:100],
        context_length=config_names.whole(inner, *config_names.CONTEXT_LENGTH)
        or config_names.whole(gguf, "context_length"),
        onnx_files=onnx,
        way=_way(weights, onnx),
        refusal=refusal,
        notes=notes,
        shape={name: found for name, keys in _SHAPE.items() if (found := config_names.whole(inner, *keys))},
        config=config,
        card=card,
        tags=tuple(tag for tag in info.tags or [] if isinstance(tag, str))[:200],
    )


def _refusal(
    usable: Sequence[str], names: Iterable[str], model_type: str, custom: bool, described: bool
) -> Translatable:
    """Why what would be fetched (``usable``) does not run here; "" where it does."""
    if not usable:
        if other := why_none(names):
            return msg("It {problem}.", problem=other)
        if any(is_pickled(name) for name in names):
            return msg(
                "Its weights are pickle files (.bin, .pt), which can run code while they are read. Only safetensors, "
                "GGUF and ONNX are loaded; ask its authors for safetensors."
            )
        return msg("It has no weights in a format that is read here (safetensors, GGUF, ONNX).")
    if usable[0].lower().endswith(".gguf"):
        return NOTHING
    if not described:
        return msg("It has no config.json that can be read: this is not a transformers model.")
    if custom and not _native(model_type):
        return msg(
            "It needs code of its own from the repository (auto_map in config.json). Code from the Hub is never run "
            "here; an -hf version of the model usually does without."
        )
    return NOTHING


def _native(model_type: str) -> bool:
    """Whether transformers itself has a class for it."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return model_type in CONFIG_MAPPING_NAMES


def _way(weights: tuple[str, ...], onnx: tuple[str, ...]) -> Translatable:
    if onnx and not weights:
        return msg("Ready-made ONNX, taken as it is: the repository has no original weights to compare it with")
    if onnx:
        return msg(
            "Ready-made ONNX in the repository, compared with torch before it is used; an export made here otherwise"
        )
    if any(name.endswith(".safetensors") for name in weights):
        return msg("Exported to ONNX here and compared with torch; run by torch where no export is close enough")
    return msg("Imported from GGUF, then exported to ONNX here and compared with torch")


def _json(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
