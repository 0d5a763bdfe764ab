"""Suites: a file of prompts and checks, read whole and checked before anything runs; and an answer held against its
checks. docs/suites.md describes the file. The package knows no models, no store and no front end, and runs nothing.

    suite = read_suite_file(Path("capitals.yaml"))             # or read_suite(text, name, folder, strangers=True)
    for number, row in enumerate(suite.rows):
        request = suite.request(number, column_request)        # the row's prompt put into what the column asks
        verdict = judge(suite.checks[number], run, answer, samples=before, threshold=suite.thresholds[number])

``answer`` is the text of ``run`` without its thinking, which is not judged; ``samples`` are the answers before it, of
the same row and column. ``suite.needs_cost`` and ``suite.samples`` say what a run has to bring along. A ``Suite`` is a
record: its JSON holds all that its file and the files beside it said, so a run that is resumed reads none of them
again.

Door:
    judging: Judgement, judge
    reading: read_suite, read_suite_file
    schema: compiled
    suite: Suite
"""
