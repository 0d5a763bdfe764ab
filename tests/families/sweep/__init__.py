"""Every architecture that transformers lists, as a tiny random network on disk, through the whole product.

    python -m tests.families.sweep [--list causal|seq2seq|image-text] [--only NAME,…] [--out FILE.jsonl]

What the product answers is judged by ``generate`` of transformers on the same files (``judge.py``), which shares no
line with it. The families of ``tests.families`` are structures that were chosen; here nothing is chosen.
"""
