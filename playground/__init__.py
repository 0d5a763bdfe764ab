"""The open-model playground: one prompt, several small open models, side by side.

Importing this package costs nothing: neither torch nor gradio nor a model is loaded
until somebody asks for one.
"""

__version__ = "0.1.0"
