"""The shape of spaces.yaml's ``space`` block, which becomes the front matter of a Space's README.

The keys are those of the Spaces configuration reference, https://huggingface.co/docs/hub/spaces-config-reference. It
loads pydantic, see ``schema.py``.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from playground.config.schema import Block, Text, mistake
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
