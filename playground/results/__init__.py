"""What came of runs, as values: the one table of figures, spreads and ranks, receipts, reports, costs, and the database
that keeps comparisons and measurements. It runs nothing, and does not know the screen.

Door:
    blind: LETTERS, answered, blinded, letter
    code_of_run: code_of_run
    costs: ASSUMPTION, Cost, ModelCost, Tier, chosen, load_tiers, of_run, per_million, with_medians
    entries: Entry, TITLE_CHARS, one_line
    comparator: arena_jsonl
    export_files: Document, MEDIA, Say, as_comparator, file_name, text_of
    figures: CHOICE, FIGURES, Figure, Measured, Measurement, ONE_LOAD, Place, QUANTITIES, Quantity,
        characters_per_s, engine_of, engines_note, figure, iqr_disjoint, others_note, rank_note, ranks_of,
        share_of_cores
    ratings: LEAST_VOTES, Outcome, Rating, Ratings, SAMPLES, rate
    receipts: Line, ModelReceipt, Receipts, condition_lines, figure_lines, machine_lines, number, of_comparison,
        of_comparisons, of_measurement, with_receipts
    report: markdown
    requests: PARAMETERS, ROLES, headings, own_words, parameter_lines, turns
    scores: Evaluation, Metric, pairs, Scores
    statistics: Paired, Rate, outcome_words, why_words, wilson
    store: EVERYTHING, Retention, Store
    suite_export: SUITE_MEDIA, SuiteDocument, check_ending, suite_file_name, write
    suite_outcomes: ENDINGS, read_outcomes
    suite_report: difference_lines, notes_of, rate_words, regression_words, totals_words
    suite_summary: ColumnSummary, Difference, Outcomes, Regression, SuiteSummary, Tally, column_keys, column_names,
        keys_of, matched, outcomes, regression
    suites: CellCounts, CellPart, Order, PART, SuiteEntry, Suites, asked, seconds_of, seeded
    text_diff: Agreement, Piece, TextDiff, agreement, text_diff
    thinking: Split, parts, split, with_thinking_tokens
    votes: By, NOTE_CHARS, TAG_CHARS, Vote, Votes, cast, not_voted_on, to_csv, to_jsonl
"""
