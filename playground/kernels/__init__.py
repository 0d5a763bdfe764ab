"""The playground's own CPU kernels for decoding: C, compiled on the machine they run on.

``building`` finds a compiler and an instruction set and makes the library; ``library`` calls it. Neither knows what a
model or an ONNX graph is: ``runtimes.kernel_reader`` makes a graph into steps for them.
"""
