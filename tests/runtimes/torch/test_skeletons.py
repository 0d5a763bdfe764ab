"""Networks that are larger than their files are refused before they take memory, whatever field says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from playground.paths import ROOT
from playground.runtimes.torch.incomplete import IncompleteWeights
from playground.runtimes.torch.networks import load_network
from playground.sources import sizes
from tests.support import ggufs, tiny

MORE_HEADS = {"num_attention_heads": 64, "num_key_value_heads": 64, "head_dim": 4096, "num_hidden_layers": 16}
"""Matrices of 64 × 262,144, made of numbers that are each believable: a thousand million parameters."""


def changed(folder: Path, **values: Any) -> Path:
    tiny.write_model(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))
    return folder


def test_products_that_no_bound_knows_are_counted_on_the_skeleton(tmp_path: Path) -> None:
    folder = changed(tmp_path, **MORE_HEADS)
    assert sizes.complaint(json.loads((folder / "config.json").read_text())) == ""
    with pytest.raises(
        IncompleteWeights, match=r"its configuration has [\d,]{12,} parameters, its weights hold 147,776"
    ):
        load_network(folder)


def test_a_true_network_is_loaded(tmp_path: Path) -> None:
    assert load_network(tiny.write_model(tmp_path / "llama")).model.num_parameters() > 100_000
    (path,) = ggufs.write_llama(tmp_path / "m.gguf")
    assert load_network(tmp_path, path.name).model.num_parameters() > 100_000


PROBE = """
import resource, sys
from pathlib import Path
import torch, transformers.models.llama.modeling_llama
from playground.runtimes.torch.incomplete import IncompleteWeights
from playground.runtimes.torch.networks import load_network
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 1_000_000_000, used + 1_000_000_000))
try:
    load_network(Path(sys.argv[1]))
except IncompleteWeights as error:
    print(error)
"""


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_refusal_takes_no_memory(tmp_path: Path) -> None:
    folder = changed(tmp_path, **MORE_HEADS)
    command = [sys.executable, "-c", PROBE, str(folder)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    assert "its weights hold" in found.stdout
