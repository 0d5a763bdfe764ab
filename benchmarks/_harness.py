"""One party of ``bench evaluation`` that is not ours: lm-eval with a model of its own, kept loaded.

    python benchmarks/_harness.py hf FOLDER THREADS BATCH TASK QUESTIONS
    python benchmarks/_harness.py gguf http://127.0.0.1:PORT - - TASK QUESTIONS

A line on stdin asks for the task once; a line of JSON on stdout says how long it took and what came of it.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

TASKS = Path(__file__).resolve().parent.parent / "playground" / "evaluation" / "tasks"


def model(kind: str, where: str, threads: str, batch: str) -> Any:
    if kind == "gguf":
        from lm_eval.models.gguf import GGUFLM

        return GGUFLM(base_url=where)
    import torch
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(int(threads))
    return HFLM(pretrained=where, device="cpu", dtype="float32", batch_size=int(batch))


def main() -> None:
    kind, where, threads, batch, task, questions = sys.argv[1:]
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print
    began = time.perf_counter()
    lm = model(kind, where, threads, batch)
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=[TASKS], include_defaults=False)
    print(json.dumps({"load_s": time.perf_counter() - began}), file=replies, flush=True)
    for _ in sys.stdin:
        random.seed(0)
        began = time.perf_counter()
        tasks = manager.load([task])
        for each in tasks["tasks"].values():
            each.set_config(key="num_fewshot", value=0)
        found = evaluate(lm=lm, task_dict=tasks, limit=int(questions), bootstrap_iters=0)["results"][task]
        value = float(found["acc,none"])
        print(json.dumps({"s": time.perf_counter() - began, "acc": value}), file=replies, flush=True)


if __name__ == "__main__":
    main()
