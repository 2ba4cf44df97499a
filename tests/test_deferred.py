"""Packages whose ``__init__`` waits, and what commands import."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from eir_seq.deferred import DeferredModule, defer, executed

NAME = "package_that_waits"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package whose ``__init__`` imports its parts; `part` needs a name of the package."""
    (tmp_path / NAME / "inner").mkdir(parents=True)
    files = {
        "__init__.py": f"from {NAME}.inner import deep\nfrom {NAME}.part import value\nversion = value + deep.value\n",
        "part.py": "value = 1\n",
        "user.py": f"from {NAME} import value as used\nvalue = used\n",
        "inner/__init__.py": f"from {NAME}.inner import deep\nname = 'inner'\n",
        "inner/deep.py": "value = 10\n",
    }
    for name, text in files.items():
        (tmp_path / NAME / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield NAME
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


def test_parts_are_imported_alone(package: str) -> None:
    defer(package, {"value": lambda: 5})
    defer(f"{package}.inner", {})
    __import__(f"{package}.part")
    __import__(f"{package}.user")
    __import__(f"{package}.inner.deep")
    assert sys.modules[f"{package}.user"].value == 5
    assert isinstance(sys.modules[package], DeferredModule)
    assert isinstance(sys.modules[f"{package}.inner"], DeferredModule)


def test_any_other_name_executes_the_package(package: str) -> None:
    defer(package, {})
    defer(f"{package}.inner", {})
    found = sys.modules[package]
    assert found.version == 11
    assert type(found) is ModuleType
    assert found.inner.name == "inner"
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        found.nothing  # noqa: B018


def test_a_name_that_is_not_where_it_was_executes_the_package(package: str) -> None:
    def moved() -> None:
        raise ImportError("another version")

    defer(package, {"value": moved})
    assert sys.modules[package].value == 1
    assert sys.modules[package].version == 11


def test_what_is_imported_or_absent_stays_as_it_is(package: str) -> None:
    whole = __import__(package)
    defer(package, {})
    defer(f"{package}.inner", {})
    assert sys.modules[package] is whole
    defer("no_such_package_here", {})
    assert "no_such_package_here" not in sys.modules


def test_a_module_waits_as_well(package: str) -> None:
    __import__(package)
    del sys.modules[f"{package}.part"]
    defer(f"{package}.part", {"value": lambda: 7})
    part = sys.modules[f"{package}.part"]
    assert part.value == 7
    with pytest.raises(AttributeError):
        part.__path__  # noqa: B018
    assert isinstance(part, DeferredModule)
    assert executed(part).value == 1
    assert type(part) is ModuleType


PANDAS = """
import sys
import numpy as np
import pyarrow as pa
from eir_seq.deferred import defer_pandas

defer_pandas()
defer_pandas()
values = [pa.array([1, None]), pa.array(["a"]), pa.array(np.zeros(2)), pa.table({"a": [[1.5], []]})]
assert "pandas" not in sys.modules
{then}
import pandas as pd

assert pa.array(pd.Series([1.0, float("nan")])).null_count == 1
frame = pd.DataFrame({"a": ["x", None], "b": [pd.Timestamp(0), pd.NaT]})
assert [column.null_count for column in pa.Table.from_pandas(frame).columns] == [1, 1]
assert pa.array(pd.Categorical(["a", "b"])).type == pa.dictionary(pa.int8(), pa.large_string())
"""


@pytest.mark.parametrize("then", ["", "assert list(pa.table({'a': [1, 2]}).to_pandas()['a']) == [1, 2]"])
def test_pyarrow_does_not_import_pandas_and_works_with_it_once_it_is_imported(then: str) -> None:
    code = PANDAS.replace("{then}", then)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


COMPILED = """
import sys
import eir_seq.training.lightning
import lightning.pytorch as pl
import torch
from lightning.fabric import wrappers
from lightning.pytorch.utilities.compile import _maybe_unwrap_optimized

assert not {"torch._dynamo", "sympy"} & set(sys.modules)
module = pl.LightningModule()
assert not isinstance(module, wrappers.OptimizedModule)
compiled = torch.compile(module)
assert isinstance(compiled, wrappers.OptimizedModule)
assert _maybe_unwrap_optimized(compiled) is module
assert sys.modules["torch._dynamo"].reset
"""


def test_lightning_knows_compiled_modules_without_torch_dynamo() -> None:
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


CODE = """
import json, sys
from eir_seq.commands import main

heavy = {"torch._dynamo", "sympy", "pandas", "transformers", "datasets", "scipy", "matplotlib", "sklearn"}
heavy |= {"lightning", "torchmetrics"}
code = main(sys.argv[1:])
checked = sorted(heavy & set(sys.modules))
import eir_seq.training.run, eir_seq.outputs.torchmetrics
metrics = {"torchmetrics.text", "torchmetrics.functional.text", "scipy.signal", "torchvision"}
trained = sorted((heavy - {"lightning", "torchmetrics", "scipy"} | metrics) & set(sys.modules))
code = code or main([*sys.argv[2:], "run.dir=run"])
run = sorted({"torch._dynamo", "sympy", "pandas", "transformers", "datasets"} & set(sys.modules))
print(json.dumps([code, checked, trained, run]))
"""


def test_a_check_imports_torch_alone_and_a_run_no_metrics_that_it_does_not_use(tmp_path: Path) -> None:
    """Each of these takes from a quarter of a second to two seconds."""
    rows = "".join(f"some words of row {row},{['bad', 'good'][row % 2]}\n" for row in range(12))
    (tmp_path / "rows.csv").write_text("text,mood\n" + rows, encoding="utf-8")
    words = [
        "check",
        "data=table",
        "data.train=rows.csv",
        "data.batch_size=4",
        "+inputs={words: {type: sequence, column: text, max_length: 8, tokenizer: {type: word, min_freq: 1},"
        " model: {model_type: bert, model_init_config: {hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 1,"
        " intermediate_size: 8}}}}",
        "+outputs={mood: {type: classification, column: mood}}",
        "trainer.max_epochs=1",
    ]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 0, done.stderr
    code, checked, trained, run = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stdout + done.stderr
    assert (checked, trained, run) == ([], [], [])


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        ("--help", "torch numpy pyarrow hydra omegaconf pydantic"),
        ("models list", "torch numpy pyarrow hydra omegaconf pydantic"),
        ("cache list --dir .", "torch numpy pyarrow hydra"),
        ("runs list", "torch pandas"),
        ("chat --help", "torch pandas"),
        ("schema", "torch pyarrow pandas"),
    ],
)
def test_commands_that_compute_nothing_import_little(words: str, absent: str, tmp_path: Path) -> None:
    code = """
import sys
from eir_seq.commands import main
main(sys.argv[2:])
print(set(sys.argv[1].split(",")) & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, absent.replace(" ", ","), *words.split()],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"
