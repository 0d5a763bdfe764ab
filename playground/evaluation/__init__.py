"""Measured quality: lm-eval, in a process of its own, asks the product's own door about the artifact that runs.

A job prepares the models and drives the harness; what it finds becomes a record with a receipt (``results.scores``).
This package knows tasks, answers and the harness; it does not know how the door computes, nor the screen. lm-eval is
an extra of its own and is imported by the harness's process alone (``worker``, ``models``).

Door:
    job: Address, EvaluationJob, Evaluator, Plan
    worker: tasks_of
"""
