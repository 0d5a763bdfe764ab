"""Which models meet the limits a reader states, and what decided it: evidence from the store, quality figures,
verdicts, the Pareto front. It measures nothing, asks no network, and does not know how a verdict is drawn.

Door:
    board: Board, Stored, board, candidates_of, stored, with_figures
    constraints: Candidate, Constraints, Eligibility, check_limits
    answers: SuiteAnswers, stored_suites, suite_answers
    checks: Check, MEASURE_IT
    deciding: Decision, decide, difference_words, differences, missing, paused
    evidence: Evidence, gather
    file: Choice, read_choice
    quality: MAX_BYTES, Quality, file_scores
    wording: number, spread_words
"""
