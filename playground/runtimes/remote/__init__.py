"""Models that somebody else serves over the OpenAI protocol: no weights, no tokens, only what comes over the wire.

``request`` says what is sent, ``client`` sends it and reads the stream, ``payload`` finds what counts in each event,
``errors`` tells what went wrong without repeating a key, ``runtime`` makes events and figures of it. The package loads
neither torch nor onnxruntime nor a client of the Hub, and knows nothing of other runtimes.
"""
