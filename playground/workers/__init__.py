"""A process for each loaded model: started when needed, kept warm, stopped, replaced when it dies.

``Executor`` is what experiments ask, ``Fleet`` is the one there is: ``Pool`` with this machine's workers, and
``Replicas`` for models that several servers serve; ``main`` is what runs in a worker. This package knows processes,
messages, memory and whose turn it is; it does not know what is run, or why.

Door:
    executor: Executor
    fleet: Fleet
    pool: LOST
    expected_memory: expected, refusal, tokens_of
    protocol: decode_tokens, encode_text, inspect, score, score_ids
    zerogpu: enable
"""
