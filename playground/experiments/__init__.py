"""What is run and what came of it: comparisons, measurements, diffs of two variants, replays of what was kept.

All ride on one mechanism (``base``): a starter checks and begins, a job prepares its models, holds the machine, runs,
and has a result; whoever looks on knows an ``Experiment``. This package knows models, workers and the queue in front of
the machine; it does not know the screen, the database, or how a token is computed.

Door:
    admission: check_request, check_search, request_from
    base: ASKING, Experiment, Job, Machine, WANTED
    benchmark: BenchmarkJob, Measurer
    blind: BlindJob, shuffled
    compare: CompareJob, Comparer
    defaults: BASE_PENALTY, BASE_REASON, EXAMPLES, with_defaults
    diff: DiffJob, Side, VariantDiff, VariantDiffer
    finishing: completed
    memory_plan: MemoryPlan, plan_of
    presets: Preset, presets
    progress: LiveRun, Snapshot
    replay: Change, ModelReplay, Replay, ReplayJob, Replayer
    suite: SuiteRunner
    suite_job: SuiteJob
    suite_plan: SuitePlan
    suite_progress: ColumnProgress, SuiteProgress, left_words
    teacher_forcing: Choice, Forced, Position
    token_alignment: Span, align
    token_diff: Difference, Token
    token_view: TokenAt, TokenView, TokenViewJob, TokenViewer
    turns: ContextUse, Turn, again, context_use, go_on, reply, resend, why_no_reply
"""
