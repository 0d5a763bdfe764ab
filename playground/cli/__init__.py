"""The terminal: typer commands over the same rooms as the web app. ``main`` is the way in."""

from playground.cli.app import main as main
