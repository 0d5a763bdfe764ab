"""The nouns of the product: frozen values that travel between processes and into files.

This module knows their fields and their JSON, and nothing else. Field names are a contract: the
CLI's ``--json``, the HTTP API and the database use them as they stand here. Times are seconds
unless a name says otherwise; stamps are ``time.monotonic()`` seconds, comparable between the
processes of one machine.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from playground.messages import NOTHING, Translatable, msg

ModelKind = Literal["chat", "base", "text2text"]
EventKind = Literal["queued", "preparing", "loading", "prefill", "token", "done", "failed", "stopped"]
Verdict = Literal["exact", "faithful", "lossy", "rejected"]
FinishReason = Literal["stop", "length", "stopped", "error"]
Mode = Literal["fair", "fast"]
FactStatus = Literal["card", "catalogue", "measured", "unknown"]
OpenStatus = Literal["yes", "partial", "no", "unknown"]

T = TypeVar("T")

_SURROGATE = re.compile("[\ud800-\udfff]")


def as_id(id: object) -> str:
    """``id`` as something can be kept under it; "", which is nothing's, where it is no text or has halves of characters
    or the end of a string. Of what a caller made up, there is none.
    """
    return id if isinstance(id, str) and "\x00" not in id and not _SURROGATE.search(id) else ""


RENAMED = {
    "others_cores": "other_cpu_cores",
    "twin": "candidate",
    "chance": "probability",
    "reference_chance": "reference_probability",
    "twin_chance": "candidate_probability",
    "twin_perplexity": "candidate_perplexity",
    "parting": "divergence",
}
"""Fields as files written before 0.2 call them."""


class Record:
    """JSON for dataclasses: ``to_json`` gives plain dicts and lists, ``from_json`` the value again."""

    def to_json(self) -> dict[str, Any]:
        return {name: plain_json(getattr(self, name)) for name in _names(type(self))}  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Build the record from ``data``; unknown keys are left out, so newer files stay readable, as are old ones."""
        hints = _hints(cls)  # type: ignore[arg-type]
        named = ((RENAMED.get(name, name), value) for name, value in data.items())
        return cls(**{name: _typed(hints[name], value) for name, value in named if name in hints})

    def well_formed(self, *, any_text: bool = False) -> bool:
        """Whether each field holds what its type says, whole numbers have 64 bits and texts can be written down:
        ``from_json`` takes plain values as they stand, which is enough where nobody else writes the file.

        Args:
            any_text: Whether texts may have halves of characters, as what was typed may.
        """
        hints = _types(type(self))  # type: ignore[arg-type]
        return all(_holds(hint, getattr(self, name), any_text) for name, hint in hints.items())


@cache
def _names(cls: Any) -> tuple[str, ...]:
    """The fields; events are written by the hundred a second, each between two steps of a model."""
    return tuple(each.name for each in fields(cls))


@cache
def _types(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {name: hints[name] for name in _names(cls)}


@cache
def _hints(cls: Any) -> dict[str, Any]:
    """The type of each field, None where JSON's own value is the value: events are read by the hundred a second."""
    return {name: None if _is_plain(hint) else hint for name, hint in get_type_hints(cls).items()}


def _is_plain(hint: Any) -> bool:
    if get_origin(hint) in (Union, types.UnionType):
        return all(_is_plain(option) for option in get_args(hint))
    return hint in (str, int, float, bool, type(None), Any) or get_origin(hint) is Literal


def plain_json(value: Any) -> Any:
    """A value as JSON has it: records and messages as objects, in lists and mappings too. Words that are nobody's
    template, and none at all, are a text.
    """
    if value is None or type(value) in (str, int, float):
        return value
    if isinstance(value, Translatable) and not value.template:
        return str(value)
    if isinstance(value, (Record, Translatable)):
        return value.to_json()
    if isinstance(value, dict):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    return value


def _typed(hint: Any, value: Any) -> Any:
    if value is None or hint is None:
        return value
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        options = [arg for arg in get_args(hint) if arg is not type(None)]
        if isinstance(value, dict) and Translatable in options:
            return Translatable.from_json(value)
        if isinstance(value, dict):
            options = [arg for arg in options if isinstance(arg, type) and is_dataclass(arg)] or options
        return _typed(options[0], value) if len(options) == 1 else value
    if origin is tuple:
        item_hint = get_args(hint)[0]
        if _is_plain(item_hint):  # the stamps of a run are hundreds
            return tuple(value)
        return tuple(_typed(item_hint, item) for item in value)
    if origin is dict:
        return {key: _typed(get_args(hint)[1], item) for key, item in value.items()}
    if hint is Translatable:
        return Translatable.from_json(value)
    if isinstance(hint, type) and issubclass(hint, Record) and isinstance(value, dict):
        return hint.from_json(value)
    return value


def _holds(hint: Any, value: Any, any_text: bool) -> bool:
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_holds(option, value, any_text) for option in options)
    if origin is Literal:
        return isinstance(value, str) and value in options
    if origin is tuple:
        if not isinstance(value, tuple) or not (options[-1] is ... or len(options) == len(value)):
            return False
        if options[0] in (int, float) and options[-1] is ...:
            return _hold_numbers(options[0], value)
        each = options[:1] * len(value) if options[-1] is ... else options
        return all(_holds(option, item, any_text) for option, item in zip(each, value, strict=True))
    if origin is dict:
        return isinstance(value, dict) and all(
            _holds(options[0], key, any_text) and _holds(options[1], item, any_text) for key, item in value.items()
        )
    if hint is str:
        return isinstance(value, str) and (any_text or not _SURROGATE.search(value))
    if hint in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
        return whole or (hint is float and isinstance(value, float))
    if hint is Any:
        return True
    return isinstance(value, hint) and (not isinstance(value, Record) or value.well_formed(any_text=any_text))


def _hold_numbers(hint: Any, values: tuple[Any, ...]) -> bool:
    """As ``_holds`` of each: stamps and ids of an answer's tokens are hundreds."""
    kinds = set(map(type, values))
    if not kinds <= ({int} if hint is int else {int, float}):
        return False
    return int not in kinds or all(-(2**63) <= value < 2**63 for value in values if type(value) is int)


@dataclass(frozen=True)
class Remote(Record):
    """A model that somebody serves over the OpenAI protocol, as the configuration names it. It holds no secret.

    Attributes:
        name: What stands behind ``remote:``.
        model: The name the server knows it by.
        url: Base address of the protocol, e.g. ``http://127.0.0.1:8000/v1``.
        provider: The Inference Provider to be chosen where ``url`` is the Hub's router; empty for one's own server.
        key_env: Name of the environment variable that holds the key; empty where none is needed.
        context_length: Most tokens of prompt and answer together; 0 where unknown.
        timeout_s: Longest wait for the first piece of an answer.
        replicas: Base addresses of further servers of the same model; any of them may answer.
        at_once: How many answers each of these servers may be asked for at the same time.
        public: Whether it may only be reached at public addresses.
    """

    name: str
    model: str
    url: str
    provider: str = ""
    key_env: str = ""
    kind: Literal["chat", "base"] = "chat"
    context_length: int = 0
    timeout_s: float = 60.0
    replicas: tuple[str, ...] = ()
    at_once: int = 1
    public: bool = False

    @property
    def addresses(self) -> tuple[str, ...]:
        """All that serve it."""
        return (self.url, *self.replicas)


@dataclass(frozen=True)
class ModelSpec(Record):
    """One model as the catalogue names it.

    Attributes:
        id: Short name, e.g. ``smollm2-135m-instruct``.
        source: ``hub:OWNER/NAME``, ``hub:OWNER/NAME:Q4_K_M``, ``pypi:…``, ``path:…``, ``remote:NAME``, ``fake:…``,
            ``ollama:NAME:TAG`` or ``lmstudio:PUBLISHER/REPO/FILE``.
        revision: Commit, version or checksum the source is pinned to; empty for the newest of a ``hub:`` source.
        runtime: Preferred runtime.
        precision: Default precision of that runtime.
        context_length: Most tokens of prompt and answer together; 0 where only the model's own files say it.
        precisions: Every ``runtime-precision`` offered, the default one first.
        upstream: The model's name on the Hub, where cards and licences live.
        download_bytes: What fetching it will transfer, for honest progress; 0 where unknown.
        remote: Who serves it, for a ``remote:`` source.
        chat_template: The documented prompt format as a Jinja chat template, for a tokenizer that brings none.
        file: Where the weights lie, of a source that another program keeps here (``ollama:``, ``lmstudio:``).

    A ``pypi:`` source is ``pypi:PACKAGE==VERSION/MEMBER``, several of them joined by ``+`` where one file is
    split over wheels; its revision is the ``sha256:…`` of the whole.
    """

    id: str
    name: str
    source: str
    revision: str
    runtime: str
    precision: str
    context_length: int
    kind: ModelKind
    precisions: tuple[str, ...] = ()
    upstream: str = ""
    download_bytes: int = 0
    remote: Remote | None = None
    chat_template: str = ""
    file: str = ""


ON_ACCELERATOR = "torch bf16 on "
"""What the name of an engine begins with that computes on an accelerator: its figures have no rank beside others."""

_VARIANT = re.compile(r"^(?P<runtime>[a-z][a-z0-9]*)-(?P<precision>[a-z0-9]+)$")


@dataclass(frozen=True)
class Variant(Record):
    """A model in one runtime and precision, written ``MODEL@RUNTIME-PRECISION``."""

    model: str
    runtime: str = ""
    precision: str = ""

    def __str__(self) -> str:
        return f"{self.model}@{self.runtime}-{self.precision}" if self.runtime else self.model

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Read ``MODEL`` or ``MODEL@RUNTIME-PRECISION``; the catalogue fills in what is left out.

        The last ``@`` counts, and only if a runtime and a precision follow it, so a path may hold one.

        Raises:
            ValueError: Nothing stands before the ``@``, or no ``RUNTIME-PRECISION`` behind it.
        """
        text = text.strip()
        model, at, tail = text.rpartition("@")
        if not at:
            return cls(text)
        match = _VARIANT.match(tail)
        if match and model:
            return cls(model, match["runtime"], match["precision"])
        if ":" in model:
            return cls(text)
        raise ValueError(msg("'{text}' is not MODEL or MODEL@RUNTIME-PRECISION", text=text))


@dataclass(frozen=True)
class PromptView(Record):
    """What the model really reads.

    Attributes:
        rendered: The text that is encoded.
        token_ids: Of the prompt; empty where only a server knows them.
        tokens: Each of them for a reader: special tokens and bytes that are no whole character are spelt out.
        control: Places in ``token_ids`` of control tokens: read as such, not as the text they are called by.
        answer: The tokens that the answer begins with (``Request.answer_ids``), for a reader; read behind these.
        context_length: Most tokens of prompt and answer together; 0 where unknown.
        room: Tokens that the context leaves for the answer; None where unknown.
    """

    model: str
    rendered: str
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    warnings: tuple[Translatable, ...] = ()
    control: tuple[int, ...] = ()
    answer: tuple[str, ...] = ()
    context_length: int = 0
    room: int | None = None


@dataclass(frozen=True)
class Fidelity(Record):
    """How close an export is to the model it was made from, teacher-forced on fixed texts.

    Attributes:
        reference: What it was compared with, e.g. ``transformers in fp32 on the original files``.
        positions: Number of positions compared.
        top1_agreement: Share of positions with the same most likely token, 0 to 1.
        mean_kl: Mean KL divergence from the reference, in nats.
        max_logit_error: Largest absolute difference of two logits.
        reason: Why the verdict is what it is, for a reader.
        relative_error: Root mean square error of logits, beside the root mean square of their spread over the
            vocabulary; None in records from before it was taken.
        overturned: Positions where the original's most likely token led by more than noise explains, and lost.
        kl_by_text: Mean KL divergence of each kind of text, in nats.
    """

    reference: Translatable
    positions: int
    top1_agreement: float
    mean_kl: float
    max_logit_error: float
    verdict: Verdict
    reason: Translatable = NOTHING
    relative_error: float | None = None
    overturned: int | None = None
    kl_by_text: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact(Record):
    """A model on disk, ready for one runtime. ``path`` is a folder; ``notes`` say what was odd when it was fetched.

    Attributes:
        engine: What computed when it was compared with the original, and computes when it runs: ``kernels`` and an
            instruction set, or ``onnxruntime``.
        engine_note: Why it is not the kernels.
    """

    variant: Variant
    path: str
    recipe: Literal["fused", "dynamo", "optimum", "prebuilt", "none"]
    revision: str
    sha256: str
    size_bytes: int
    tool_versions: dict[str, str] = field(default_factory=dict)
    fidelity: Fidelity | None = None
    created_at: str = ""
    fallbacks: tuple[Translatable, ...] = ()
    notes: tuple[Translatable, ...] = ()
    engine: str = ""
    engine_note: Translatable = NOTHING


@dataclass(frozen=True)
class Message(Record):
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Request(Record):
    """One question to a model. Either ``prompt`` or ``messages``; a temperature of 0 means greedy.

    Attributes:
        min_new_tokens: The model's end of turn is not chosen before so many tokens (as in transformers); a stop string
            still ends the answer. With ``max_new_tokens`` it makes answers of equal length, for equal work.
        reuse: Whether a warm model may skip what this prompt has in common with its last one. Off, each prompt is read
            whole: figures of repeated prompts stay comparable.
        answer_ids: Tokens that the answer begins with: they are read behind the prompt, not chosen. They are part of
            the run's ``text`` and ``token_ids``; ``max_new_tokens`` and all timings count only the tokens chosen after
            them.
        logprobs: So many of the most likely tokens are reported beside each token of the answer, with their
            log-probabilities (``ModelRun.logprobs``); 0 reports the chosen one's alone, None nothing.
        json_schema: JSON text of a schema that the answer is held to while it is decoded; ``{}`` is any JSON object.
            Empty: the model is free.
        plain: Whether a prompt is read as it stands, also by a model with a chat template.
        prompt_ids: The prompt as token ids, read as they are in place of ``prompt``, which may say their text for a
            reader.
    """

    prompt: str = ""
    messages: tuple[Message, ...] = ()
    system: str = ""
    max_new_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = 0
    stop: tuple[str, ...] = ()
    reuse: bool = False
    min_new_tokens: int = 0
    answer_ids: tuple[int, ...] = ()
    logprobs: int | None = None
    json_schema: str = ""
    plain: bool = False
    prompt_ids: tuple[int, ...] = ()

    @property
    def prompts(self) -> tuple[str, ...]:
        """What a person asked, in order; never empty."""
        return tuple(each.content for each in self.messages if each.role == "user") or (self.prompt,)


@dataclass(frozen=True)
class TokenLogprob(Record):
    """A token of an answer or of a text, and how likely the model held it at its place.

    Attributes:
        logprob: ln of its probability by a softmax at temperature 1 over the model's own logits, before any sampling
            parameter; None where nothing stands before it.
        top_ids, top_logprobs: The likeliest tokens at that place, the likeliest first.
    """

    id: int
    logprob: float | None
    top_ids: tuple[int, ...] = ()
    top_logprobs: tuple[float, ...] = ()


@dataclass(frozen=True)
class Column(Record):
    """One column of a comparison: a variant and what it is asked.

    Attributes:
        request: What this model is asked, where that is not the request of all: own parameters, its own conversation.
    """

    variant: Variant
    request: Request | None = None


@dataclass(frozen=True)
class Timings(Record):
    """The figures of one run; docs/measurement.md defines each. None is what could not be taken, or not of this model.

    *Began* is when the worker begins to tokenise; rates and ``ttft_s`` hold neither loading nor waiting.

    Attributes:
        queue_s: Waiting for other comparisons, for the models before it and for a worker that was busy, in seconds.
        load_s: Starting the worker, loading the model and warming it up, in seconds; 0 where it was warm.
        cold: Whether the worker had to load for this run.
        tokenize_s: From began until the prompt's ids are known, in seconds.
        prompt_tokens: Length of the prompt as the model reads it, template and special tokens included, and of what the
            answer begins with (``Request.answer_ids``).
        reused_tokens: How many of them were in the cache from the prompt before and not read again.
        output_tokens: Tokens of the answer that were chosen, its end of turn included.
        ttft_s: From began until the first token is chosen, in seconds.
        prefill_tok_s: Tokens of the prompt that were read, a second.
        decode_tok_s: Tokens a second from the first to the last one; None below two.
        total_s: From began to the end, in seconds.
        token_stamps: Seconds since began, one for each token (or chunk).
        cpu_s: Processor time of all threads of the worker, in seconds.
        expected_memory_mb: Peak that the memory plan expected, in MB of 10^6 bytes.
        peak_memory_mb: Most resident memory of the worker while it answered, in MB.
        disk_mb: The prepared model's files, in MB.
        cache_mb_per_1000: Keys and values of 1,000 tokens, in MB.
        memory_method: Which counter of the system gave ``peak_memory_mb``.
        threads: Threads the runtime was given.
        mode: Whether the model had the machine to itself.
        unit: What is counted as output: tokens, or the pieces of a server that does not say where tokens end.
        other_cpu_cores: Cores that other programs kept busy while the model read and answered, and was loaded if it had
            to be; None where nobody looked, the time was too short to tell, or a server elsewhere answered.
    """

    queue_s: float | None = None
    load_s: float | None = None
    cold: bool | None = None
    tokenize_s: float | None = None
    prompt_tokens: int | None = None
    reused_tokens: int | None = None
    output_tokens: int | None = None
    ttft_s: float | None = None
    prefill_tok_s: float | None = None
    decode_tok_s: float | None = None
    total_s: float | None = None
    token_stamps: tuple[float, ...] = ()
    cpu_s: float | None = None
    expected_memory_mb: float | None = None
    peak_memory_mb: float | None = None
    disk_mb: float | None = None
    cache_mb_per_1000: float | None = None
    memory_method: Translatable | None = None
    threads: int | None = None
    mode: Mode | None = None
    unit: Literal["token", "chunk"] = "token"
    other_cpu_cores: float | None = None


@dataclass(frozen=True)
class ModelRun(Record):
    """One model's answer. It has a text or an error, always (a stopped run has what came before).

    Attributes:
        error: What went wrong and the next step.
        fallbacks: Why it did not run as it was asked for, a sentence a step.
        warnings: What a reader should know of this answer.
        tokenizer: Who counted the tokens, in words.
        token_ids: Of the answer, those that it was to begin with and the end-of-turn token included; None where only a
            server knows them, and in comparisons kept before there was this field.
        revision: Of the weights it ran on, as in ``Artifact``.
        artifact_sha256: Of the files it ran on, as in ``Artifact``.
        engine: What computed, as in ``Artifact``, or ``torch``.
        request: What this model was asked, where that is not the comparison's request: own parameters, its own
            conversation.
        taken_in: Id of the comparison this run was taken in, where it is carried over from an earlier one; else empty.
        thinking_tokens: How many of its tokens are thinking, marks included; None where none is, or they can't be told.
        logprobs: One for each of ``token_ids``, where the request asked for them.
        error_kind: The error's class in ``playground.errors``, so that a program can tell them apart.
    """

    variant: Variant
    runtime: str
    precision: str
    text: str
    finish_reason: FinishReason
    timings: Timings = field(default_factory=Timings)
    error: Translatable | None = None
    fallbacks: tuple[Translatable, ...] = ()
    warnings: tuple[Translatable, ...] = ()
    recipe: str | None = None
    fidelity: Fidelity | None = None
    tokenizer: Translatable | None = None
    token_ids: tuple[int, ...] | None = None
    revision: str | None = None
    artifact_sha256: str | None = None
    engine: str | None = None
    request: Request | None = None
    taken_in: str = ""
    thinking_tokens: int | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    error_kind: str | None = None


@dataclass(frozen=True)
class Event(Record):
    """One thing that happened in a run.

    Attributes:
        model: The variant, as text.
        text: For ``token`` the new piece of text; for the others what to tell the reader, a message.
        n_tokens: Tokens so far (``prefill``: of the prompt; ``token``: of the answer).
        progress: 0 to 1 where it is known.
        at: When, on the clock of ``time.monotonic()``.
        run: The finished run, on ``done``, ``failed`` and ``stopped``.
        column: Whose it is in a comparison, where two columns may be of one variant.
        logprobs: On ``token``: of the tokens chosen since the last one, where the request asked for them. Text can be
            held back, so the tokens of a piece may have come with an earlier event.
    """

    model: str
    kind: EventKind
    text: str | Translatable = ""
    n_tokens: int = 0
    progress: float | None = None
    at: float = 0.0
    run: ModelRun | None = None
    column: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Environment(Record):
    """The machine and the software that figures were taken with.

    Attributes:
        cores: What this process may use: the smaller of the two below.
        cores_affinity: Cores that the scheduler may put this process on.
        cores_cgroup: CPU quota of the container in cores, which may be a fraction; None where there is none.
    """

    cpu: str
    cores: int
    memory_limit_mb: float
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    cores_affinity: int | None = None
    cores_cgroup: float | None = None


@dataclass(frozen=True)
class Comparison(Record):
    """One request and what each model answered.

    Attributes:
        request: Of all columns but those whose run has its own.
        runs: A run a column, in order.
        parent: Id of the comparison this one goes on from (a reply, one column again, an answer continued); else empty.
    """

    id: str
    created_at: str
    request: Request
    runs: tuple[ModelRun, ...]
    environment: Environment
    mode: Mode = "fair"
    parent: str = ""

    def asked(self, column: int) -> Request:
        """What the model of that column was asked."""
        return self.runs[column].request or self.request


@dataclass(frozen=True)
class CheckResult(Record):
    """What one check of a suite says of one answer.

    Attributes:
        type: As the suite's file names it: ``contains``, ``not-regex``, ``tokens-per-second``.
        score: 0 to 1; of a check that only passes or fails, 1 or 0.
        reason: Why, for a reader.
        weight: Of ``score`` in the cell's mean; 0 is told and does not count.
        value: What the answer was held against, shortened for a reader.
        metric: The name that the file gives this figure, to be summed up over rows by; empty for none.
    """

    type: str
    passed: bool
    score: float
    reason: Translatable = NOTHING
    weight: float = 1.0
    value: str = ""
    metric: str = ""


@dataclass(frozen=True)
class Cell(Record):
    """One answer of a suite: a row's prompt, a column's model, one of the repeats.

    Attributes:
        row, column, sample: Places from 0.
        passed: Whether the checks are met; None where there is none to meet.
        score: Weighted mean of the checks' scores, 0 to 1; None without checks.
    """

    row: int
    column: int
    sample: int
    run: ModelRun
    checks: tuple[CheckResult, ...] = ()
    passed: bool | None = None
    score: float | None = None


@dataclass(frozen=True)
class SuiteRow(Record):
    """One prompt of a suite, its variables filled in.

    Attributes:
        id: Names the row for regression: stable when rows are added; unique within its suite.
        label: For a reader: the description in the file, or the prompt's beginning.
        vars: Values by variable, as text.
        metadata: ``__metadata:*`` of a CSV file, ``metadata`` of a test.
        messages: The turns, where the prompt is a conversation; else ``prompt`` has it.
        place: Where in the file it stands, for errors: ``row 12``.
    """

    id: str
    label: str
    prompt: str = ""
    messages: tuple[Message, ...] = ()
    system: str = ""
    vars: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    place: str = ""


@dataclass(frozen=True)
class SuiteRun(Record):
    """A suite and how far it has come; its cells are kept apart, each when it is finished.

    Attributes:
        columns: Each with the request that its rows' prompts are put into.
        repeats: Samples of each cell.
        file: The suite as it was written, so that it can be run again.
        status: ``running``, ``paused`` (resumable), ``done``.
    """

    id: str
    created_at: str
    name: str
    rows: tuple[SuiteRow, ...]
    columns: tuple[Column, ...]
    environment: Environment
    repeats: int = 1
    mode: Mode = "fair"
    file: str = ""
    status: Literal["running", "paused", "done"] = "running"
    finished_at: str = ""

    @property
    def cells(self) -> int:
        """How many there will be."""
        return len(self.rows) * len(self.columns) * self.repeats


@dataclass(frozen=True)
class Fact(Record):
    """One statement about a model and where it comes from.

    Attributes:
        value: A JSON value, or a message; None where unknown.
        source: Where it was read, in words.
        url: Where to check it.
        note: A caution or a detail, in the words of whoever researched it.
    """

    value: Any = None
    source: str | Translatable = ""
    url: str = ""
    status: FactStatus = "unknown"
    note: str | Translatable = ""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        value = data.get("value")
        if isinstance(value, dict):
            data = {**data, "value": Translatable.from_json(value)}
        return super().from_json(data)


UNKNOWN = Fact()


@dataclass(frozen=True)
class Openness(Record):
    """The five questions of openness; each ``value`` is yes, partial, no or unknown."""

    training_data: Fact = UNKNOWN
    weights: Fact = UNKNOWN
    evaluation_code: Fact = UNKNOWN
    finetuning_code: Fact = UNKNOWN
    training_metrics: Fact = UNKNOWN


@dataclass(frozen=True)
class ModelFacts(Record):
    """What is known of a model. ``quality`` holds one fact a benchmark, named in its ``note``."""

    model: str
    license: Fact = UNKNOWN
    parameters: Fact = UNKNOWN
    context_length: Fact = UNKNOWN
    languages: Fact = UNKNOWN
    base_model: Fact = UNKNOWN
    base_model_relation: Fact = UNKNOWN
    datasets: Fact = UNKNOWN
    specialisation: Fact = UNKNOWN
    openness: Openness = field(default_factory=Openness)
    quality: dict[str, Fact] = field(default_factory=dict)
    extra: dict[str, Fact] = field(default_factory=dict)


Cancelled = Callable[[], bool]
"""Asked between steps (and between chunks of a long prompt); True ends the answer with ``stopped``."""


@dataclass(frozen=True)
class LoadSpec(Record):
    """All that a runtime needs to load a model, ready to travel into the worker's process.

    Attributes:
        kv_bits: Bits of a key or value in the cache, 16 or 8, where the engine has the choice.
    """

    spec: ModelSpec
    artifact: Artifact
    threads: int
    kv_bits: int = 16


@dataclass(frozen=True)
class DecodedTokens(Record):
    """Token ids as text, by the tokenizer of a loaded model.

    Attributes:
        pieces: What each id adds to the text of those before it; joined, they are the text of the answer. Special
            tokens add nothing, and of a character spread over several tokens the last one adds it.
        names: Each id for a reader, alone: special tokens and bytes that are no whole character are spelt out.
        vocabulary: A digest of each block of the vocabulary, in order, see ``same_vocabulary``.
    """

    pieces: tuple[str, ...]
    names: tuple[str, ...]
    vocabulary: tuple[str, ...]
