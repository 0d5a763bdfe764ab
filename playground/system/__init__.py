"""The machine below: its cores and memory, what control groups leave of them, what other programs take meanwhile, and
child processes of this program. It does not know models, workers or what is measured.

Door:
    child: ChildDied, Ending, JsonChild, MAX_LINE_BYTES, Message, decode, encode, end_with_parent, take_streams
    child_environment: CACHES, COMPILERS, HUB_TOKEN, INDEXES, LIBRARIES, NETWORK, hold, keys, passed
    contention: BUSY_CORES, CpuContention, between, read
    cpu: usable_cores
    ending: heard
    environment: environment
    file_lock: FileLock
    logs: written
    memory: MB, PeakMeter, give_back, limit_mb, own_mb, resident_mb
    one_job: take_job
    reserve: insist, is_shortage, out_of_memory, run_all, short, spend
    threads: Threads
    zerogpu: on_zero_gpu
"""
