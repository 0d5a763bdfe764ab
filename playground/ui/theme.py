"""Colours, fonts and the page's own CSS and script.

The fonts are two that gradio serves itself, so the page needs no other host. Their semi-bold file lacks most letters,
hence the bold one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

HERE = Path(__file__).resolve().parent
STYLES = sorted((HERE / "styles").glob("*.css"))
SCRIPTS = sorted((HERE / "scripts").glob("*.js"))
"""A file a subject; each script is a function that calls itself, in a scope of its own."""
ICON = HERE / "icon.svg"
WEIGHTS = (400, 700)


def theme() -> gr.themes.Base:
    """A quiet theme; everything else is style.css, written with the theme's variables for light and dark."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        secondary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
        spacing_size=gr.themes.sizes.spacing_sm,
        radius_size=gr.themes.sizes.radius_sm,
        font=(gr.themes.LocalFont("IBM Plex Sans", weights=WEIGHTS), "system-ui", "sans-serif"),
        font_mono=(gr.themes.LocalFont("IBM Plex Mono", weights=WEIGHTS), "ui-monospace", "monospace"),
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        block_border_width="1px",
        block_label_text_size="*text_sm",
        input_background_fill="white",
        input_background_fill_dark="*neutral_950",
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        input_border_color_focus="*primary_500",
        input_border_color_focus_dark="*primary_400",
        block_label_text_weight="600",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
    )


def html(value: str | Callable[[], str] = "", **options: Any) -> gr.HTML:
    """A piece of the page's own HTML, without gradio's styles and click handler, which are meant for prose.

    Args:
        value: What it shows at first: with words of ours, a function that draws it, asked once a language.
    """
    made = gr.HTML(value() if callable(value) else value, apply_default_css=False, js_on_load=None, **options)
    made.draw = value if callable(value) else None
    return made


def head() -> str:
    """What the page's head says of it, and the scripts: they run once, before any component."""
    about = (
        '<meta name="description" content="One prompt, several small open models, side by side: what each one says, '
        'how fast it really is on this CPU, and what its model card really promises.">'
    )
    return about + "".join(f"<script>{script.read_text(encoding='utf-8')}</script>" for script in SCRIPTS)
