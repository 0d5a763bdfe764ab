"""Rounds the weights of an ONNX graph to eight or four bits, in blocks; docs/int4.md says why so. It knows matrices and
operators; it does not know which model or recipe they are of, and makes no verdict on what rounding cost.

Door:
    blocks: QUANT_BLOCK
    graph: WORTH_SUMS, bits_of, rewrite
"""
