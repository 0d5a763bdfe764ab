"""ONNX graphs and the loops that drive them: what a file holds, what kind of decoder it is, an engine for it.

``file`` reads a graph within bounds and without its weights, ``graph`` says what it is by its names, shapes and types,
``engines`` and ``seq2seq`` have a loop for each kind, ``runtime`` opens an artifact's folder. The package does not know
where a graph came from, nor text, sampling or time.
"""
