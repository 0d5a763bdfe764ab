"""From a request to token ids, from logits to tokens, from tokens to text, with the stamps on the way: one loop for all
runtimes that compute on this machine.

``prompt`` renders and encodes, ``settings`` reads what a model's files ask for, ``sampling`` chooses, ``text_stream``
writes, ``timing`` makes figures of stamps, ``decoding`` is the loop around an ``engine``, and ``scoring`` forces a
model along an answer. The package does not know what is inside an engine, nor processes, screens or files of results.
"""
