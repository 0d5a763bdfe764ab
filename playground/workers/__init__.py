"""A process for each loaded model: started when needed, kept warm, stopped, replaced when it dies.

``Executor`` is what experiments ask, ``Pool`` is the one there is; ``main`` is what runs in a worker. This package
knows processes, messages, memory and whose turn it is; it does not know what is run, or why.

Door:
    executor: Executor
    pool: Pool
    expected_memory: expected, refusal, tokens_of
    protocol: decode_tokens, inspect, score
"""
