"""The steps that make one artifact: fetch, import, build, check. Runs in a preparation's own process.

For each recipe in turn: build, compare with the original, take it unless it is rejected. Where only the rounding was
rejected, the exact graph is taken; what no recipe can do, torch runs from the import, compared with the original as
well. The artifact says why. A source that brings ONNX files and no weights has nothing to import, to compare with or to
fall back to. Knows the order of the steps, not how any of them works.
"""

from __future__ import annotations

import dataclasses
import datetime
import gc
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from playground import sources
from playground.errors import ExportError, FidelityError, PlaygroundError, Reason, first_line
from playground.export import cache, prepared, room
from playground.export.recipes.base import Recipe, Work
from playground.export.recipes.overlay import OverlayError
from playground.export.reference import Reference
from playground.export.weights import original_folder
from playground.messages import NOTHING, Translatable, clauses, msg
from playground.records import Artifact, Fidelity, ModelSpec, Variant
from playground.sources.files import Cancelled, Progress, locked, of_the_disk, put_in_place, staging, storage_errors

if TYPE_CHECKING:
    from playground.export.kernels import Ahead

log = logging.getLogger(__name__)

TORCH = ("torch", "fp32")
"""Runtime and precision of the original, and of what is used when no recipe gave a usable graph."""

ACCELERATED = ("torch", "bf16")
"""Runtime and precision of the original on an accelerator, for those who ask for it."""

EXACT = ("onnx", "fp32")
"""Runtime and precision of a graph without rounding, used where the rounding alone was too coarse."""

GGUF_REFERENCE = msg("transformers' own reading of the GGUF file, in fp32")
NOTHING_TO_COMPARE = msg("The source brings ONNX files alone: there is no original that they could be compared with.")

RETRY_S = 3600.0
"""How long torch stands in where the exporter could not be installed; then it is tried again."""


@dataclass(frozen=True)
class _Job:
    """What every step needs, and kernels that are being built meanwhile."""

    spec: ModelSpec
    variant: Variant
    home: Path
    progress: Progress
    cancelled: Cancelled
    notes: tuple[Translatable, ...] = ()
    lent: bool = False
    kernels: Ahead | None = None

    def lock(self, folder: Path) -> AbstractContextManager[None]:
        """Two processes that want the same folder make it once."""

        def waiting() -> None:
            self.progress(msg("waiting for another process"), None)

        return locked(self.home, folder.name, self.cancelled, waiting)


def make(
    spec: ModelSpec,
    variant: Variant,
    home: Path,
    progress: Progress,
    cancelled: Cancelled,
    *,
    origin: str = "",
    lent: bool = False,
) -> Artifact:
    """The artifact of ``variant``, made now, taken from where somebody prepared it, or found in the cache.

    Its ``variant`` is the one it holds: where every ONNX recipe failed, that is ``…@torch-fp32`` and ``fallbacks`` says
    why.

    Args:
        origin: A repository of prepared artifacts (``prepared``); what it has not, or what does not fit, is made here.
        lent: An accelerator is lent for answers and not for preparations (ZeroGPU): bf16 is compared as fp32 here.

    Raises:
        PlaygroundError: Naming the model and the next step.
    """
    job = _Job(spec, variant, home, progress, cancelled, lent=lent)
    if origin and prepared.can_be_taken(spec, variant):
        try:
            return prepared.take(spec, variant, home, origin, progress=progress, cancelled=cancelled)
        except prepared.NotTaken as error:
            why = msg("Not taken from {repo}, and prepared here: {reason}.", repo=origin, reason=error.reason)
            log.warning("%s: %s", variant, why)
            progress(why, None)
            job = dataclasses.replace(job, notes=(why,))
    if (variant.runtime, variant.precision) == ACCELERATED:
        from playground.runtimes.torch.accelerator import find_accelerator

        if find_accelerator() is None and not lent:
            raise ExportError(
                msg("{model} can't run in bf16: torch finds no accelerator here (CUDA or MPS)", model=spec.name),
                msg("Ask for {variant}.", variant=Variant(spec.id, *TORCH)),
            )
    onnx = variant.precision if variant.runtime == "onnx" else ""
    fetched = sources.fetch(spec, home, progress, cancelled, onnx=onnx)
    if _only_onnx(fetched) and variant.runtime != "onnx":
        precision = spec.precision if spec.runtime == "onnx" else "int8"
        raise ExportError(
            msg(
                "{model} brings ONNX files and no weights that {runtime} reads",
                model=spec.name,
                runtime=variant.runtime,
            ),
            msg("Ask for {variant}.", variant=Variant(spec.id, "onnx", precision)),
        )
    if _only_onnx(fetched):
        return _made(job, _Material(fetched, None))
    from playground.export import kernels

    with kernels.ahead(home, _wants_kernels(job, fetched)) as ready:
        return _made(dataclasses.replace(job, kernels=ready), _Material(fetched, _import(job, fetched)))


def _wants_kernels(job: _Job, fetched: sources.Fetched) -> bool:
    """Whether a graph of rounded weights is to be made, or one to be compared anew."""
    if job.variant.runtime != EXACT[0] or job.variant.precision == EXACT[1]:
        return False
    return cache.read(cache.artifact_folder(job.home, job.spec, job.variant, fetched.revision), job.home) is None


@dataclass(frozen=True)
class _Material:
    """What a preparation starts from: the files, and their import where they hold weights."""

    fetched: sources.Fetched
    imported: Artifact | None

    @property
    def torch(self) -> Artifact:
        """The import, for ways that are only gone where there is one."""
        assert self.imported is not None
        return self.imported

    @property
    def original(self) -> tuple[Path, Translatable]:
        """What everything is compared with and its name; of a GGUF file transformers reads no more than we import."""
        from playground.export.check import REFERENCE

        if self.fetched.format == "gguf":
            return Path(self.torch.path), GGUF_REFERENCE
        return original_folder(self.fetched.files), REFERENCE

    @property
    def notes(self) -> tuple[Translatable, ...]:
        return self.imported.notes if self.imported else (*self.fetched.notes, NOTHING_TO_COMPARE)


def _made(job: _Job, material: _Material) -> Artifact:
    """The artifact of the job's variant, found or made under its own lock."""
    folder = cache.artifact_folder(job.home, job.spec, job.variant, material.fetched.revision)
    with job.lock(folder), storage_errors(job.home):
        if (old := cache.outdated(folder, job.home)) and (renewed := _renewed(job, folder, old, material)):
            return renewed
        if artifact := cache.verify(folder, job.home):
            return artifact
        make = _export if job.variant.runtime == "onnx" else _judge_torch
        return make(job, folder, material)


def _judge_torch(job: _Job, folder: Path, material: _Material) -> Artifact:
    """Compare what the torch runtime makes of the import with the original, and write the verdict down.

    Raises:
        FidelityError: It does not run, or is rejected.
    """
    from playground.export import check

    imported, (original, reference) = material.torch, material.original

    exact = job.variant.precision == TORCH[1] or job.lent

    def compare() -> Fidelity:
        if exact:
            return check.torch_fidelity(Path(imported.path), original, job.progress, reference)
        return check.torch_fidelity(Path(imported.path), original, job.progress, reference, job.variant.precision)

    try:
        room.check_whole(Path(imported.path), "torch")
    except ExportError as error:
        what = msg("{model} can't be run by torch here: {reason}", model=job.spec.name, reason=error.what)
        raise ExportError(what, error.next_step) from error
    try:
        fidelity = _judged(job, "torch", compare)
    except FidelityError as error:
        raise FidelityError(
            msg(
                "{model} can't be served: what the torch runtime makes of it is not what transformers makes of the "
                "original files ({reason})",
                model=job.spec.name,
                reason=error.what,
            ),
            msg("This is a fault of the playground or of the model's files; the log is in PLAYGROUND_HOME."),
        ) from error
    notes = imported.notes
    if job.lent and job.variant.precision != TORCH[1]:
        notes = (*notes, msg("Its fidelity is that of fp32 on the processor; in bf16 on the GPU it was not compared."))
    judged = dataclasses.replace(imported, variant=job.variant, fidelity=fidelity, created_at=_now(), notes=notes)
    return _refer(job, folder, judged)


def _import(job: _Job, fetched: sources.Fetched) -> Artifact:
    folder = cache.import_folder(job.home, job.spec, fetched.revision)
    with job.lock(folder), storage_errors(job.home):
        if artifact := cache.verify(folder, job.home):
            return artifact
        from playground.export.weights import import_model

        with staging(job.home, "import") as stage, _Timed(f"{job.spec.id}: import"):
            notes = import_model(job.spec, fetched.files, stage, job.progress)
            records = cache.record_files(stage)
            artifact = cache.describe(
                stage,
                records,
                recipe="none",
                variant=Variant(job.spec.id, *TORCH),
                revision=fetched.revision,
                tool_versions=cache.tool_versions(cache.IMPORT_PACKAGES),
                created_at=_now(),
                notes=(*fetched.notes, *notes),
            )
            cache.write(stage, job.home, artifact, records)
            put_in_place(stage, folder)
    return _found(folder, job.home)


def _export(job: _Job, folder: Path, material: _Material) -> Artifact:
    from playground.export import kernels

    refused: list[Translatable] = []
    retry = rounding = False
    for recipe in _applicable(job, material.fetched):
        with staging(job.home, "export") as stage:
            work = _work(job, recipe, stage, material)
            try:
                checked = _build_and_check(job, recipe, work, material)
            except ExportError as error:
                log.warning("%s: recipe %s is not used: %s", job.variant, recipe.name, error)
                refused.append(msg("{recipe}: {reason}", recipe=recipe.name, reason=error.what))
                retry |= isinstance(error, OverlayError)
                rounding |= isinstance(error, FidelityError)
                continue
            records = cache.record_files(stage)
            artifact = cache.describe(
                stage,
                records,
                recipe=recipe.name,
                variant=dataclasses.replace(job.variant, precision=checked.precision),
                revision=material.fetched.revision,
                tool_versions=cache.tool_versions((*cache.IMPORT_PACKAGES, *recipe.packages))
                | _pinned(recipe)
                | kernels.tool_versions(stage),
                fidelity=checked.fidelity,
                engine=checked.engine,
                engine_note=checked.engine_note,
                fallbacks=tuple(refused),
                created_at=_now(),
                notes=(*material.notes, *job.notes),
            )
            cache.write(stage, job.home, artifact, records)
            put_in_place(stage, folder)
        return _found(folder, job.home)
    reasons = refused or [msg("there is no recipe for onnx-{precision}", precision=job.variant.precision)]
    if material.imported is None:
        raise ExportError(
            msg(
                "None of the ONNX files of {model} can be used ({reasons})",
                model=job.spec.name,
                reasons=clauses(*reasons),
            ),
            msg("Choose another precision, or a source with safetensors."),
        )
    # What was built and rejected may be right but for its rounding; a graph in fp32 is still faster than torch.
    way = EXACT if rounding and job.variant.precision != EXACT[1] else TORCH
    try:
        other = _made(dataclasses.replace(job, variant=Variant(job.spec.id, *way)), material)
    except FidelityError:
        raise
    except ExportError as error:  # there is no room for torch
        raise ExportError(msg("{what} ({why})", what=error.what, why=clauses(*reasons)), error.next_step) from error
    deeper = (msg("{precision}: {reason}", precision=EXACT[1], reason=reason) for reason in other.fallbacks)
    told = (*reasons, *deeper)
    return _refer(
        job, folder, dataclasses.replace(other, fallbacks=told, created_at=_now()), RETRY_S if retry else None
    )


def _renewed(job: _Job, folder: Path, old: Artifact, material: _Material) -> Artifact | None:
    """``old`` with kernels of today for this processor, and with the verdict of a comparison by them; the graph stays.
    None where it is no longer good enough.

    Raises:
        OSError: The disk.
    """
    from playground.export import kernels

    with staging(job.home, "export") as stage:
        cache.link_files(folder, stage, kernels.FILES)
        try:
            checked = _checked(job, old.recipe, stage, old.variant.precision, material)
        except FidelityError as error:
            log.warning("%s: the graph is made anew: %s", job.variant, error)
            return None
        records = cache.record_files(stage)
        artifact = cache.describe(
            stage,
            records,
            recipe=old.recipe,
            variant=old.variant,
            revision=old.revision,
            tool_versions={**old.tool_versions, "kernels": "none"} | kernels.tool_versions(stage),
            fidelity=checked.fidelity,
            engine=checked.engine,
            engine_note=checked.engine_note,
            fallbacks=old.fallbacks,
            created_at=_now(),
            notes=old.notes,
        )
        cache.write(stage, job.home, artifact, records)
        put_in_place(stage, folder)
    return _found(folder, job.home)


def _applicable(job: _Job, fetched: sources.Fetched) -> tuple[Recipe, ...]:
    """The recipes that have something to start from; one that has not was not passed over."""
    has_onnx = any(path.suffix == ".onnx" for path in fetched.files)
    return tuple(
        recipe
        for recipe in cache.recipes_for(job.variant)
        if (has_onnx if recipe.name == "prebuilt" else not _only_onnx(fetched))
    )


def _only_onnx(fetched: sources.Fetched) -> bool:
    """Whether the source brings graphs and no weights that torch could read."""
    endings = {path.suffix.lower() for path in fetched.files}
    return ".onnx" in endings and not endings & {".safetensors", ".gguf"}


def _work(job: _Job, recipe: Recipe, stage: Path, material: _Material) -> Work:
    # A repository's files may lie in folders below the one with config.json.
    source = original_folder(material.fetched.files)
    return Work(
        model=Path(material.imported.path) if material.imported else source,
        source=source,
        target=stage,
        precision=job.variant.precision,
        options=recipe.options[job.variant.precision],
        home=job.home,
        progress=job.progress,
    )


def _refer(job: _Job, folder: Path, artifact: Artifact, lasts_s: float | None = None) -> Artifact:
    """Record that ``artifact`` serves this variant, so that the work behind it is not done again at every start."""
    with staging(job.home, "export") as stage:
        cache.write(stage, job.home, artifact, {}, lasts_s)
        put_in_place(stage, folder)
    return _found(folder, job.home)


@dataclass(frozen=True)
class _Checked:
    """What was built: its precision, what computes it and why not the kernels, and the verdict where there is one."""

    precision: str
    engine: str
    engine_note: Translatable = NOTHING
    fidelity: Fidelity | None = None


def _build_and_check(job: _Job, recipe: Recipe, work: Work, material: _Material) -> _Checked:
    """Build into ``work.target`` and judge; there is no verdict where there is no original.

    Raises:
        ExportError: It can't be built.
        FidelityError: It does not run, or is rejected.
    """
    if material.imported is not None and recipe.whole:
        room.check_whole(work.model, recipe.name)
    elif material.imported is not None and recipe.name != "prebuilt":
        room.check_by_pieces(work.model, work.precision)
    with _Timed(f"{job.variant}: build ({recipe.name})"):
        precision = _built(job, recipe, work)
        gc.collect()  # the network, parts of which hold each other
    return _checked(job, recipe.name, work.target, precision, material)


def _checked(job: _Job, way: str, folder: Path, precision: str, material: _Material) -> _Checked:
    """Put kernels beside the graph in ``folder`` where they can run it, and judge what computes.

    Args:
        way: Of the recipe, for logs.

    Raises:
        FidelityError: It does not run, or is rejected.
    """
    from playground.export import check, kernels

    if material.imported is None:
        return _Checked(precision, "onnxruntime", msg("there is no original to compare the kernels with"))
    _, reference = material.original
    # What waits for the compiler, or for the disk, does not keep the original from answering.
    with ThreadPoolExecutor(1) as pool, _Timed(f"{job.variant}: kernels"):
        attached = pool.submit(kernels.attach, folder, job.progress, job.kernels)
        answers = _answers(job, way, material)
    note = attached.result()

    def compared() -> Fidelity:
        def compare() -> Fidelity:
            return check.compared(folder, answers, precision, job.progress, reference)

        return _judged(job, way, compare)

    if note is None:
        try:
            return _Checked(precision, kernels.engine(folder), NOTHING, compared())
        except FidelityError as error:
            log.warning("%s by %s: the kernels are not used: %s", job.variant, way, error)
            kernels.detach(folder)
            note = error.what
    return _Checked(precision, "onnxruntime", note, compared())


def _built(job: _Job, recipe: Recipe, work: Work) -> str:
    """Let the recipe build. A slip of one never ends the preparation: the others and torch are still there.

    Raises:
        ExportError: It can't be built.
    """
    try:
        return recipe.build(work)
    except (PlaygroundError, MemoryError):
        raise
    except Exception as error:  # exporters raise whatever happens to break
        if disk := of_the_disk(error):
            raise disk from error
        log.exception("%s: recipe %s failed", job.variant, recipe.name)
        raise ExportError(msg("it failed ({reason})", reason=_said(error))) from error


def _answers(job: _Job, way: str, material: _Material) -> Reference:
    """What the original answers to the texts of the check: asked now, or kept from another variant of the model.

    Raises:
        FidelityError: It can't be asked.
    """
    from playground.export import answers, check

    folder = answers.folder_of(Path(material.torch.path), job.home)
    with job.lock(folder):
        if found := answers.read(folder):
            return found
        with _not_running(job, way):
            asked = check.answers_of(material.original[0], Path(material.torch.path), job.progress)
        return answers.keep(folder, job.home, asked) or asked


def _judged(job: _Job, way: str, compare: Callable[[], Fidelity]) -> Fidelity:
    """The verdict of ``compare``, which runs what was made as it will be run.

    Raises:
        FidelityError: It does not run, or is rejected.
    """
    with _Timed(f"{job.variant}: check"), _not_running(job, way):
        fidelity = compare()
    log.info("%s by %s: %s, %s", job.variant, way, fidelity.verdict, fidelity.reason)
    if fidelity.verdict == "rejected":
        raise FidelityError(msg("rejected, {reason}", reason=fidelity.reason))
    return fidelity


@contextmanager
def _not_running(job: _Job, way: str) -> Iterator[None]:
    """Whatever is raised in this block says that what is judged, or the original, does not run.

    Raises:
        FidelityError: In its place.
    """
    try:
        yield
    except (PlaygroundError, MemoryError):
        raise
    except Exception as error:  # onnxruntime's own exceptions have no common ancestor below this one
        if disk := of_the_disk(error):
            raise disk from error
        log.exception("%s by %s does not run", job.variant, way)
        raise FidelityError(msg("it does not run ({reason})", reason=_said(error))) from error


def _pinned(recipe: Recipe) -> dict[str, str]:
    """Versions that differ from the application's, under names that say so."""
    return {f"{package} (export)": version for package, version in recipe.pinned.items()}


def _said(error: BaseException) -> Translatable:
    """A reason of our own, or what kind of error a library raised and the first line of what it says."""
    if isinstance(error, Reason):
        return error.reason
    return msg("{kind}: {reason}", kind=type(error).__name__, reason=first_line(error, 160))


def _found(folder: Path, home: Path) -> Artifact:
    artifact = cache.read(folder, home)
    if artifact is None:
        raise ExportError(
            msg("{folder} changed while it was made", folder=folder.name),
            msg("Is another program at work in PLAYGROUND_HOME?"),
        )
    return artifact


class _Timed:
    """Log how long a step took: the log is where a slow first start is looked into."""

    def __init__(self, what: str) -> None:
        self._what, self._start = what, time.monotonic()

    def __enter__(self) -> None: ...

    def __exit__(self, *exc: object) -> None:
        log.info("%s took %.1f s", self._what, time.monotonic() - self._start)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
