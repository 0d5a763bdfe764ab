"""No code that comes with a model is run: transformers would, for those who say that it may, and nothing here does."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from playground.export.weights import import_model
from playground.paths import PACKAGE
from playground.runtimes.torch.networks import _ONLY
from tests.support import tiny
from tests.support.hub_server import tiny_llama

pytestmark = [pytest.mark.hostile, pytest.mark.parallel]

EVIL = b"from pathlib import Path\nPath(__file__).with_name('executed').write_text('')\nraise SystemExit('executed')\n"
PASSED_ON = {"PreTrainedTokenizerFast", "GenerationConfig", "self._usual"}
"""Of those that read from a folder: what reads no code of it, and what is called with what its caller says."""


def test_whatever_reads_a_models_folder_says_that_no_code_of_it_is_run() -> None:
    assert _ONLY["trust_remote_code"] is False
    seen = 0
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            said: list[ast.expr] = []
            if isinstance(node, ast.Dict):
                keys = zip(node.keys, node.values, strict=True)
                said = [
                    value for key, value in keys if isinstance(key, ast.Constant) and key.value == "trust_remote_code"
                ]
            if isinstance(node, ast.Call):
                said = [each.value for each in node.keywords if each.arg == "trust_remote_code"]
                if isinstance(node.func, ast.Attribute) and node.func.attr == "from_pretrained":
                    only = [each for each in node.keywords if each.arg is None and ast.unparse(each.value) == "_ONLY"]
                    owner = ast.unparse(node.func.value)
                    assert said or only or owner in PASSED_ON, f"{path}:{node.lineno}: {owner}.from_pretrained"
                    seen += 1
            assert all(isinstance(each, ast.Constant) and each.value is False for each in said), f"{path}: {said}"
    assert seen >= 6


def test_a_network_that_transformers_knows_is_read_without_the_code_that_its_repository_names(tmp_path: Path) -> None:
    """It is refused nowhere: transformers has a class of its own for it, and takes the repository's where it may."""
    folder, target = tmp_path / "model", tmp_path / "target"
    for made in (folder, target):
        made.mkdir()
    files = tiny_llama()
    config = json.loads(files["config.json"])
    auto = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.Evil", "AutoModel": "evil.Evil"}
    files |= {"config.json": json.dumps(config | {"auto_map": auto}).encode(), "evil.py": EVIL}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    import_model(tiny.spec(), tuple(sorted(folder.iterdir())), target, lambda *_: None)
    assert (target / "config.json").is_file()
    assert not list(tmp_path.rglob("executed"))
