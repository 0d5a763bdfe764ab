"""The shape of spaces.yaml's ``space`` block, which becomes the front matter of a Space's README.

The keys are those of the Spaces configuration reference, https://huggingface.co/docs/hub/spaces-config-reference. It
loads pydantic, see ``schema.py``.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from playground.config.schema import Block, Text, matching, mistake
from playground.errors import ConfigError
from playground.messages import msg

SHORT_DESCRIPTION_MAX = 60
PYTHON_VERSIONS = ("3.11", "3.12", "3.13")
"""What pyproject.toml asks for and the pinned wheels exist for."""

Colour = Literal["red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"]


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > SHORT_DESCRIPTION_MAX:
        raise mistake(
            lambda place: ConfigError(
                msg(
                    "{place} has {found} characters, the Hub shows {most} at most",
                    place=place,
                    found=len(value),
                    most=SHORT_DESCRIPTION_MAX,
                ),
                msg("Shorten it."),
            )
        )
    return value


def _python(value: Any) -> Any:
    if not isinstance(value, str):
        raise mistake(
            lambda place: ConfigError(
                msg("{place} is {value}", place=place, value=repr(value)),
                msg("Write it in quotes: YAML reads 3.10 as the number 3.1."),
            )
        )
    if ".".join(value.split(".")[:2]) not in PYTHON_VERSIONS or not re.fullmatch(r"3\.\d+(\.\d+)?", value):
        raise mistake(
            lambda place: ConfigError(
                msg("{place} {version} is not supported", place=place, version=value),
                msg("Supported: {versions}.", versions=PYTHON_VERSIONS),
            )
        )
    return value


class SpaceBlock(Block):
    title: Text
    emoji: Text
    colorFrom: Colour
    colorTo: Colour
    sdk: Literal["gradio"]
    sdk_version: Text
    python_version: Annotated[str, BeforeValidator(_python)]
    app_file: Text
    license: Text
    short_description: Annotated[Text, BeforeValidator(_short)]
    suggested_hardware: Text = ""
    startup_duration_timeout: Text = ""
    thumbnail: Text = ""
    pinned: bool = False
    fullWidth: bool = False
    hf_oauth: bool = False
    disable_embedding: bool = False
    models: list[Text] = Field(default_factory=list)
    datasets: list[Text] = Field(default_factory=list)
    tags: list[Text] = Field(default_factory=list)
    preload_from_hub: list[Text] = Field(default_factory=list)
    hf_oauth_scopes: list[Text] = Field(default_factory=list)
    header: Literal["mini", "default"] = "default"


SECRET_NAMES = re.compile(r"TOKEN|SECRET|PASSWORD|API_?KEY|CREDENTIAL", re.IGNORECASE)


def _variables(value: Any) -> Any:
    for name in value if isinstance(value, dict) else ():
        if isinstance(name, str) and SECRET_NAMES.search(name):
            raise mistake(partial(_everybodys, name))
    return value


def _everybodys(name: str, place: str) -> ConfigError:
    return ConfigError(
        msg("{place}.{name} would be a secret that everybody can read", place=place, name=name),
        msg("Name it under deploy.secrets; its value is taken from the environment of whoever deploys."),
    )


Name = Annotated[
    str,
    matching(
        r"[A-Za-z_][A-Za-z0-9_]*",
        lambda place: ConfigError(
            msg("{place} is not the name of an environment variable", place=place),
            msg("Write it like PLAYGROUND_THREADS."),
        ),
    ),
]


class DeployBlock(Block):
    """``deploy`` of spaces.yaml: what a Space is given beside its files.

    Attributes:
        hardware: What is requested; empty for ``space.suggested_hardware``.
        variables: Anybody who sees the Space can read them.
        secrets: Names alone; whoever deploys has the values in their environment.
    """

    hardware: str = ""
    variables: Annotated[dict[Name, str], BeforeValidator(_variables)] = Field(default_factory=dict)
    secrets: list[Name] = Field(default_factory=list)


class ProfileBlock(Block):
    """One of ``profiles`` of spaces.yaml: what is otherwise on other hardware.

    Attributes:
        space, app: Keys that take the place of those of the blocks of that name.
        pins: Packages and their versions in requirements.txt, in place of its own or beside them.
        pre_requirements: Whether pre-requirements.txt goes along.
    """

    space: dict[str, Any] = Field(default_factory=dict)
    app: dict[str, Any] = Field(default_factory=dict)
    pins: dict[Text, Text] = Field(default_factory=dict)
    pre_requirements: bool = True
