"""Repositories of the Hub: which of their files are needed, and how they come into the Hub's own cache and are proven.

``fetch`` is what the rest of ``sources`` asks; it has the work done by a process of its own (``worker``), which chooses
(``choose_files``, ``onnx_names``) and downloads (``download``).
"""
