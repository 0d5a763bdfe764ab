"""Help for transformers' reader of GGUF files: in less memory, all tensors accounted for, parts put together, ids kept.

It knows the format and what transformers makes of it; it does not know where files come from or what becomes of the
network.

Door:
    reading: check_read, quick_gguf
    splits: merge
    tokens: keep_to_vocabulary
"""
