"""The web page: the only room that imports gradio.

``words``, ``panels``, ``charts`` and ``tables`` make strings of records and import no gradio (``view`` is their front
door); the other files are the page itself, one file a tab. None of them knows SQLite, torch or a model's file.
"""
