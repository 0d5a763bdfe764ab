"""Help for transformers' reader of GGUF files: parts put together, no ids but the file's.

It knows the format and what transformers makes of it; it does not know where files come from or what becomes of the
network.

Door:
    splits: merge
    tokens: keep_to_vocabulary
"""
