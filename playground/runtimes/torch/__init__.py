"""The weights as they were published, run by transformers on torch in fp32: the fallback, and the reference of exports.

``networks`` loads what transformers' authors mean by a folder of files and accounts for every weight; ``causal`` and
``seq2seq`` drive each network by its own preparation of every call; ``runtime`` is the runtime. The package does not
know text, sampling or time, and nobody imports it in a process that is not to load torch.
"""
