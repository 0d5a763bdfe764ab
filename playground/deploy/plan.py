"""What a deployment will do, before it does anything: files, names of variables and secrets, hardware, models, and what
the first start will take. Asks no network and needs no token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playground.catalog.entries import Catalog, load_catalog
from playground.catalog.footprint import BYTES
from playground.catalog.search import footprint, listed
from playground.catalog.sets import download_bytes
from playground.config.endpoints import load_remotes
from playground.config.settings import Settings
from playground.deploy.files import choose_files
from playground.deploy.profiles import Contents, contents, deploy_block, merged
from playground.deploy.space_file import front_matter
from playground.deploy.starting import start_problems
from playground.errors import ConfigError, UsageError
from playground.messages import msg
from playground.records import Record, Variant
from playground.results.costs import Tier, load_tiers

MB = 1_000_000
FREE = ("cpu-basic", "zero-a10g")
"""What is not billed by the hour."""


@dataclass(frozen=True)
class PlannedFile(Record):
    """One file: where it lies in the Space, and its bytes."""

    path: str
    size_bytes: int


@dataclass(frozen=True)
class PlannedModel(Record):
    """What the first start of one served model takes, as estimates in MB; None where nothing is known.

    Attributes:
        download_mb: What is fetched from where the catalogue says, or of a prepared artifact, its files.
        disk_mb: The prepared artifact.
        prepare_mb, run_mb: Peak memory of preparing and of running it; 0 where nothing is prepared there.
        needs_hub: Whether it is served where the Hub is reached, or where it is not.
    """

    variant: Variant
    download_mb: float | None
    disk_mb: float | None
    prepare_mb: float | None
    run_mb: float | None
    needs_hub: bool


@dataclass(frozen=True)
class Plan(Record):
    """What is uploaded and set, without any value of a variable or secret.

    Attributes:
        left_out: Files of the same folders that stay: untracked by git, or of a kind that no program has.
        variables, secrets: Names.
        secrets_missing: Secrets that are named and have no value in this environment: what the Space has is left.
        per_hour: What the hardware costs an hour; None where the table of prices does not know it.
        memory_gb: Of the hardware; None where the table does not know it.
        prepared_from: The repository that artifacts come from; empty where the Space prepares them.
        front_matter: The YAML block on top of the Space's README.
    """

    repo: str
    profile: str
    files: tuple[PlannedFile, ...]
    left_out: tuple[str, ...]
    tracked: bool
    variables: tuple[str, ...]
    secrets: tuple[str, ...]
    secrets_missing: tuple[str, ...]
    hardware: str
    per_hour: float | None
    memory_gb: float | None
    models: tuple[PlannedModel, ...]
    prepared_from: str
    front_matter: str

    @property
    def size_bytes(self) -> int:
        return sum(each.size_bytes for each in self.files)


@dataclass(frozen=True)
class Deployment:
    """A plan and what it takes to carry it out. Its values are shown by nothing.

    Attributes:
        needed: Secrets without which the app does not start, and that this environment has no value for.
    """

    plan: Plan
    sdk: str
    contents: Contents = field(repr=False)
    variables: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, str] = field(repr=False)
    needed: tuple[str, ...] = ()


def plan_deployment(
    repo: str,
    root: Path,
    settings: Settings,
    env: Mapping[str, str],
    *,
    profile: str = "",
    hardware: str = "",
) -> Deployment:
    """Everything about a deployment that can be known without the Hub.

    Args:
        root: The checkout, or a copy of one.
        settings: They name spaces.yaml, the catalogue and the table of prices.
        env: Where the values of secrets come from.
        profile: One of spaces.yaml's ``profiles``.
        hardware: In place of what spaces.yaml says.

    Raises:
        UsageError: ``repo`` is not OWNER/NAME, or there is no such profile.
        ConfigError: spaces.yaml is not what it should be, or the app would not start with it.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise UsageError(msg("'{name}' is not OWNER/NAME", name=repo), msg("Give the Space's full name."))
    space_file = settings.space_file
    document, block = merged(space_file, profile), deploy_block(space_file)
    if problems := start_problems(document, space_file.name, root, env):
        raise ConfigError(msg("The app would not start there: {problem}", problem=problems[0]))
    space, app = document["space"], document.get("app") or {}
    chosen = choose_files(root)
    tree = contents(root, space_file, chosen, profile)
    wanted = hardware or ("" if profile else block.hardware) or str(space.get("suggested_hardware") or "")
    tier = _tier(settings.hardware_file, wanted)
    catalog = load_catalog(settings.catalog_file, load_remotes(app.get("remotes"), {}, space_file.name))
    given = {name: env[name] for name in block.secrets if env.get(name)}
    plan = Plan(
        repo=repo,
        profile=profile,
        files=tuple(PlannedFile(path, _size(content)) for path, content in sorted(tree.items())),
        left_out=tuple(path.as_posix() for path in chosen.left_out),
        tracked=chosen.tracked,
        variables=tuple(sorted(block.variables)),
        secrets=tuple(sorted(given)),
        secrets_missing=tuple(sorted(set(block.secrets) - set(given))),
        hardware=wanted,
        per_hour=0.0 if wanted in FREE else tier.per_hour if tier else None,
        memory_gb=tier.memory_gb if tier else None,
        models=_models(catalog, app),
        prepared_from=str(app.get("prepared_from") or ""),
        front_matter=front_matter(space),
    )
    needed = ("PLAYGROUND_USERS",) if app.get("login") == "password" and "PLAYGROUND_USERS" not in given else ()
    return Deployment(plan, str(space.get("sdk", "gradio")), tree, dict(block.variables), given, needed)


def most_mb(models: Iterable[PlannedModel]) -> float:
    """Memory that these models are expected to take: all of them running, or the largest preparation."""
    known = list(models)
    running = sum(model.run_mb or 0.0 for model in known)
    return max([running, *(model.prepare_mb or 0.0 for model in known)])


def _models(catalog: Catalog, app: Mapping[str, Any]) -> tuple[PlannedModel, ...]:
    """Both sets: what is served where the Hub is reached, and what otherwise."""
    own = [str(name) for name in app.get("space_models") or ()]
    always = [str(name) for name in app.get("models") or ()]
    return (
        *(_model(catalog, name, True, bool(app.get("prepared_from"))) for name in own),
        *(_model(catalog, name, not own, False) for name in always),
    )


def _model(catalog: Catalog, name: str, needs_hub: bool, prepared: bool) -> PlannedModel:
    spec, variant = catalog.resolve(name)
    entry = catalog.entry(variant.model)
    fetched = download_bytes(listed(entry, 0.0))
    found = footprint(entry, variant=variant) if variant.precision in BYTES else None
    if spec.remote or found is None:
        return PlannedModel(variant, fetched / MB if fetched else None, None, None, None, needs_hub)
    if prepared:
        return PlannedModel(variant, found.weights_mb, found.weights_mb, 0.0, found.run_mb, needs_hub)
    download = fetched / MB if fetched else None
    return PlannedModel(variant, download, found.weights_mb, found.prepare_mb, found.run_mb, needs_hub)


def _tier(hardware_file: Path, flavor: str) -> Tier | None:
    return next((tier for tier in load_tiers(hardware_file) if tier.flavor == flavor), None)


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size
