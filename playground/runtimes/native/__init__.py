"""Decoder graphs run by the playground's own kernels: lowered to a program of steps, checked, run.

``lowering`` makes a ``program`` of a graph or refuses it, ``stored`` keeps it as a file, ``checks`` looks at every
place and size of it once more, ``engine`` packs the weights and runs it, ``own_library`` says which compiled library an
artifact was judged with. The package knows graphs and ``kernels.library``; it does not know how the kernels compute,
nor text, sampling or time.
"""
