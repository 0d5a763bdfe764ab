"""The terminal: typer commands over the same service as the web page. ``main`` is the way in.

``app`` names the commands and says what becomes of errors; ``output`` decides what goes to which stream, and in which
language; ``live`` follows whatever is running. The others hold a command or a few each, and import what is heavy inside
them, so that ``--help`` stays quick.

Door:
    __init__: main
"""

from playground.cli.app import main as main
