"""The open-model playground: one prompt, several small open models, side by side.

Importing this package costs nothing: neither torch nor gradio nor a model is loaded
until somebody asks for one.
"""

__version__ = "0.2.0.dev0"
"""The one source of the version: pyproject.toml and the records read it here."""
