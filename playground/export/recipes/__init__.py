"""The ways to make an ONNX graph of an import: files the source brings, onnxruntime-genai's builder, optimum.

A recipe fills a folder or says why it can't. It does not know which recipes were tried before, whether what it made is
right (the fidelity check says), or where it will be kept.

Door:
    base: Recipe, Work
    overlay: OverlayError
    registry: RECIPES
"""
