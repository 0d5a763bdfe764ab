"""One contender of the engine measurement, in a process of its own: generates when told to, and says when.

    python benchmarks/_contender.py NAME MODEL THREADS

NAME is one of ``CONTENDERS``, MODEL the folder or file it reads.

It reads one JSON object a line, ``{"ids": [...], "count": N}``, and answers with ``{"began": …, "stamps": [...],
"ids": [...], "peak_mb": …}`` on the clock of ``time.monotonic()``, memory in MB of 10^6 bytes; a first line
``{"ready": true, "about": …}`` says that the model is loaded and, where the library tells, how it was built or set, or
``{"failed": …}`` why it is not.
Nothing of the playground is imported here but by ``bare``: what it is measured against must not lean on it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Generate = Callable[[list[int], int], tuple[list[float], list[int]]]

about = ""
"""What a contender's library says of its own build or settings."""


def bare(folder: Path, threads: int) -> Generate:
    """The least code that decodes greedily by the playground's own engine: no worker, no sampler, no text."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from playground.runtimes.native.own_library import recorded
    from playground.runtimes.onnx.runtime import open_engine

    engine = open_engine(folder, threads, library=recorded(folder))

    def generate(prompt: list[int], count: int) -> tuple[list[float], list[int]]:
        engine.reset(len(prompt) + count)
        for start in range(0, len(prompt), engine.chunk or len(prompt)):
            logits = engine.prefill(prompt[start : start + (engine.chunk or len(prompt))])
        stamps, chosen = [], []
        while True:
            best = int(logits.argmax())
            stamps.append(time.monotonic())
            chosen.append(best)
            if len(chosen) == count:
                return stamps, chosen
            logits = engine.step(best)

    return generate


def onnxruntime(folder: Path, threads: int) -> Generate:
    """The least code that decodes greedily by ONNX Runtime on the fused graph: one session, one binding, argmax."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    head_size = json.loads((folder / "config.json").read_text())["head_dim"]
    past = [node for node in session.get_inputs() if node.name.startswith("past")]
    logits = np.zeros((1, 1, session.get_outputs()[0].shape[-1]), np.float32)
    token = np.zeros((1, 1), np.int64)

    def generate(prompt: list[int], count: int) -> tuple[list[float], list[int]]:
        capacity = len(prompt) + count
        cache = {node.name: np.zeros((1, node.shape[1], capacity, head_size), np.float32) for node in past}
        mask = np.zeros((1, capacity), np.int64)
        mask[0, : len(prompt)] = 1

        def bound(ids: Any, length: int) -> Any:
            binding = session.io_binding()
            binding.bind_input("input_ids", "cpu", 0, np.int64, ids.shape, ids.ctypes.data)
            binding.bind_input("attention_mask", "cpu", 0, np.int64, (1, length), mask.ctypes.data)
            binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
            for name, array in cache.items():
                out = name.replace("past_key_values", "present")
                binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
                binding.bind_output(out, "cpu", 0, np.float32, array.shape, array.ctypes.data)
            return binding

        ids = np.asarray([prompt], np.int64)
        session.run_with_iobinding(bound(ids, len(prompt)))
        step = bound(token, capacity)
        stamps, chosen = [], []
        for place in range(len(prompt), capacity):
            best = int(logits[0, 0].argmax())
            stamps.append(time.monotonic())
            chosen.append(best)
            token[0, 0] = best
            mask[0, place] = 1
            if len(chosen) < count:
                session.run_with_iobinding(step)
        return stamps, chosen

    return generate


def torch(folder: Path, threads: int, dtype: str = "float32") -> Generate:
    """transformers, as its documentation shows: ``model.generate``."""
    import torch as library
    from transformers import AutoModelForCausalLM

    library.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(library, dtype), local_files_only=True)
    return with_generate(model.eval())


def torch_bf16(folder: Path, threads: int) -> Generate:
    """The same in bfloat16, the type in which most models are published."""
    return torch(folder, threads, "bfloat16")


def optimum(folder: Path, threads: int) -> Generate:
    """optimum's ONNX model with its own ``generate``; exports the fp32 graph once, beside the given folder."""
    import onnxruntime as ort
    from optimum.onnxruntime import ORTModelForCausalLM

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return with_generate(ORTModelForCausalLM.from_pretrained(exported(folder), session_options=options))


def exported(source: Path) -> Path:
    """optimum's fp32 export of ``source``; the folder is renamed into place when it is whole."""
    import shutil

    from optimum.exporters.onnx import main_export

    done = Path(os.environ["BENCH_EXPORTS"]) / source.name
    if done.is_dir():
        return done
    stage = done.with_name(f"{done.name}.part")
    shutil.rmtree(stage, ignore_errors=True)
    model = stage / "source"
    model.mkdir(parents=True)
    config = json.loads((source / "config.json").read_text())
    # transformers 4, which optimum needs, looks for the rotary base where transformers 5 no longer writes it.
    config.setdefault("rope_theta", config.get("rope_parameters", {}).get("rope_theta", 10000.0))
    (model / "config.json").write_text(json.dumps(config))
    (model / "model.safetensors").symlink_to((source / "model.safetensors").resolve())
    main_export(str(model), output=stage / "onnx", task="text-generation-with-past", dtype="fp32", do_validation=False)
    (stage / "onnx").rename(done)
    shutil.rmtree(stage)
    return done


def with_generate(model: Any) -> Generate:
    """Greedy ``model.generate`` of exactly ``count`` tokens, stamped by a streamer."""
    import torch as library

    class Stamps:
        def __init__(self) -> None:
            self.taken: list[float] = []

        def put(self, _: Any) -> None:
            self.taken.append(time.monotonic())

        def end(self) -> None: ...

    def generate(prompt: list[int], count: int) -> tuple[list[float], list[int]]:
        ids = library.tensor([prompt])
        stamps = Stamps()
        lengths = {"min_new_tokens": count, "max_new_tokens": count}
        mask = library.ones_like(ids)
        with library.inference_mode():
            output = model.generate(ids, attention_mask=mask, do_sample=False, streamer=stamps, **lengths)
        return stamps.taken[1:], output[0, len(prompt) :].tolist()  # the first put is the prompt

    return generate


def genai(folder: Path, threads: int) -> Generate:
    """onnxruntime-genai's own generator on the folder's fused graph, by its low-level loop."""
    import onnxruntime_genai as library

    config = library.Config(str(folder))
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
    model = library.Model(config)

    def generate(prompt: list[int], count: int) -> tuple[list[float], list[int]]:
        params = library.GeneratorParams(model)
        length = len(prompt) + count
        params.set_search_options(max_length=length, min_length=length, do_sample=False)
        generator = library.Generator(model, params)
        generator.append_tokens(prompt)
        stamps = []
        for _ in range(count):
            generator.generate_next_token()
            stamps.append(time.monotonic())
        return stamps, [int(token) for token in generator.get_sequence(0)[len(prompt) :]]

    return generate


CONTEXT, CONTEXT_TOKENS = "BENCH_CONTEXT", 1024
"""For how many tokens llama.cpp makes room when its context is made; the others take memory as a text grows."""


def llama(file: Path, threads: int, flash: bool | None = None) -> Generate:
    """llama.cpp by its C functions: ``llama_decode`` and its greedy sampler, without the Python class around them.

    Args:
        flash: Whether with flash attention; None leaves it to llama.cpp.
    """
    import llama_cpp as library

    global about  # noqa: PLW0603
    library.llama_log_set(_quiet(library), None)
    about = library.llama_print_system_info().decode().split(":", 1)[-1].strip(" |\n")
    library.llama_backend_init()
    model = library.llama_model_load_from_file(str(file).encode(), library.llama_model_default_params())
    settings = library.llama_context_default_params()
    settings.n_ctx = int(os.environ.get(CONTEXT) or CONTEXT_TOKENS)
    settings.n_threads = settings.n_threads_batch = threads
    if flash is not None:
        settings.flash_attn_type = int(flash)
    context = library.llama_init_from_model(model, settings)
    if not context:
        raise SystemExit(f"llama.cpp can't load {file}")
    greedy = library.llama_sampler_init_greedy()
    memory = library.llama_get_memory(context)

    def decode(ids: list[int]) -> int:
        tokens = (library.llama_token * len(ids))(*ids)
        if code := library.llama_decode(context, library.llama_batch_get_one(tokens, len(ids))):
            raise SystemExit(f"llama_decode answered {code}")
        return int(library.llama_sampler_sample(greedy, context, -1))

    def generate(prompt: list[int], count: int) -> tuple[list[float], list[int]]:
        library.llama_memory_clear(memory, False)
        for start in range(0, len(prompt), settings.n_batch):
            token = decode(prompt[start : start + settings.n_batch])
        stamps, chosen = [time.monotonic()], [token]
        while len(chosen) < count:
            token = decode([token])
            stamps.append(time.monotonic())
            chosen.append(token)
        return stamps, chosen

    return generate


def llama_plain(file: Path, threads: int) -> Generate:
    """The same without flash attention, which writes long texts faster on a processor and reads them slower."""
    return llama(file, threads, flash=False)


def openvino(model: Path, threads: int, backend: str = "PA", precision: str = "") -> Generate:
    """OpenVINO GenAI's pipeline on the CPU plugin, on a GGUF file or a folder with an IR.

    Its cache of prefixes is off: with it a repeated prompt is not read. Settings that are not named are its own.

    Args:
        backend: ``ATTENTION_BACKEND``, PA (paged attention) or SDPA.
        precision: ``INFERENCE_PRECISION_HINT``; empty leaves it to the plugin: bf16 where the processor has it.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # without, each import reports itself to a server
    import numpy as np
    import openvino as runtime
    import openvino_genai as library

    global about  # noqa: PLW0603
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if precision:
        settings["INFERENCE_PRECISION_HINT"] = precision
    core = runtime.Core()
    core.set_property("CPU", settings)
    names = (*settings, "INFERENCE_PRECISION_HINT", "KV_CACHE_PRECISION", "DYNAMIC_QUANTIZATION_GROUP_SIZE")
    told = {name: core.get_property("CPU", name) for name in names}
    about = ", ".join(f"{name} {_word(value)}" for name, value in told.items())
    about = f"OpenVINO {runtime.__version__.split('-')[0]}, ATTENTION_BACKEND {backend}, {about}"
    settings["ATTENTION_BACKEND"] = backend
    if backend == "PA":
        schedule = library.SchedulerConfig()
        schedule.enable_prefix_caching = False
        schedule.max_num_batched_tokens = sys.maxsize  # as GenAI sets it for one caller: a prompt is read in one go
        settings["scheduler_config"] = schedule
    pipeline = library.LLMPipeline(str(model), "CPU", **settings)

    class Stamps(library.StreamerBase):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.taken: list[float] = []

        def write(self, tokens: int | list[int]) -> Any:
            self.taken += [time.monotonic()] * (len(tokens) if isinstance(tokens, list) else 1)
            return library.StreamingStatus.RUNNING

        def end(self) -> None: ...

    def generate(prompt: list[int], count: int) -> tuple[list[float], list[int]]:
        ids = np.asarray([prompt], np.int64)
        config = library.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = count, True, False
        stamps = Stamps()
        inputs = library.TokenizedInputs(runtime.Tensor(ids), runtime.Tensor(np.ones_like(ids)))
        answer = pipeline.generate(inputs, config, stamps)
        return stamps.taken, [int(token) for token in answer.tokens[0]]

    return generate


def _word(value: Any) -> str:
    """A property of OpenVINO without what Python's binding puts around it: ``<Type: 'bfloat16'>`` is bfloat16."""
    return str(value).removeprefix("<Type: '").removesuffix("'>").rpartition(".")[-1]


def openvino_sdpa(model: Path, threads: int) -> Generate:
    """The same with one contiguous cache for one caller."""
    return openvino(model, threads, "SDPA")


def openvino_pa_f32(model: Path, threads: int) -> Generate:
    """The same in f32 throughout, which decodes faster on some processors that have bf16."""
    return openvino(model, threads, "PA", "f32")


def openvino_sdpa_f32(model: Path, threads: int) -> Generate:
    return openvino(model, threads, "SDPA", "f32")


def _quiet(library: Any) -> Any:
    """A logger that says nothing; kept alive here, for the library calls it for the life of the process."""
    global _logger  # noqa: PLW0603
    _logger = library.llama_log_callback(lambda *_: None)
    return _logger


CONTENDERS = {
    "bare": bare,
    "onnxruntime": onnxruntime,
    "torch": torch,
    "torch_bf16": torch_bf16,
    "optimum": optimum,
    "genai": genai,
    "llama": llama,
    "llama_plain": llama_plain,
    "openvino_pa": openvino,
    "openvino_sdpa": openvino_sdpa,
    "openvino_pa_f32": openvino_pa_f32,
    "openvino_sdpa_f32": openvino_sdpa_f32,
}


class PeakMemory:
    """The most resident memory of this process since ``reset``, as the playground's workers take theirs (proc(5))."""

    def reset(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            pass  # the peak since the start is all there is then

    def read(self) -> float:
        """MB of 10^6 bytes."""
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
        except OSError:
            import resource

            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return (peak if sys.platform == "darwin" else peak * 1024) / 1e6  # macOS counts bytes, others KiB
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


def reason(error: BaseException) -> str:
    """What a library says of its failure, without the places in its source that stand above it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def main(arguments: Sequence[str]) -> None:
    name, folder, threads = arguments
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print; the answers must stay alone
    try:
        generate = CONTENDERS[name](Path(folder), int(threads))
        generate([1, 2, 3], 3)
    except (Exception, SystemExit) as error:  # whatever a library raises is its reason
        print(json.dumps({"failed": reason(error)}), file=answers, flush=True)
        raise
    print(json.dumps({"ready": True, "about": about}), file=answers, flush=True)
    memory = PeakMemory()
    for line in sys.stdin:
        order = json.loads(line)
        memory.reset()
        began = time.monotonic()
        stamps, ids = generate(order["ids"], order["count"])
        answer = {"began": began, "stamps": stamps, "ids": ids, "peak_mb": memory.read()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
