"""A process for each loaded model: started when needed, kept warm, stopped, replaced when it dies.

``pool`` is what experiments talk to; ``main`` is what runs in a worker. This package knows processes, messages, memory
and whose turn it is; it does not know what is run, or why.

Door:
    pool: Pool
    expected_memory: expected, refusal, tokens_of
    protocol: decode_tokens, inspect, score
"""
