"""What came of runs, as values: the one table of figures, spreads and ranks, receipts, reports, costs, and the database
that keeps comparisons and measurements. It runs nothing, and does not know the screen.

Door:
    costs: ASSUMPTION, ModelCost, Tier, chosen, load_tiers, of_run, with_medians
    entries: Entry
    export_files: Document, MEDIA, file_name, text_of
    figures: CHOICE, FIGURES, Figure, Measured, Measurement, ONE_LOAD, Place, QUANTITIES, Quantity,
        characters_per_s, figure, iqr_disjoint, ranks_of
    receipts: Receipts, condition_lines, figure_lines, machine_lines, of_comparison, of_comparisons, of_measurement,
        with_receipts
    report: markdown
    requests: PARAMETERS
    store: EVERYTHING, Retention, Store
    thinking: Split, split
"""
