"""The playground's own CPU kernels for decoding: C, compiled on the machine they run on.

``building`` finds a compiler and an instruction set and makes the library, ``layout`` has the numbers that C and Python
share, ``library`` calls it. None of them knows what a model or an ONNX graph is: ``runtimes.native`` makes a graph into
steps for them.

Door:
    building: Built, KernelsUnavailable, LIBRARY, build, identity, inputs, level, mistyped, obstacle
    library: BLOCK, CHUNK, Kind, Library, MAX_HEAD, MAX_QUERIES, Matrix, Op, PANEL, Plan, Ref, Room, Shape, Weights,
        large_pages, mean_copies, packed
"""
