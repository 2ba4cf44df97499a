from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from eir_seq.cache import code
from eir_seq.cache.code import code_version

FILES = {
    "__init__.py": "",
    "inputs.py": (
        "import numpy\n"
        "from plugin_for_test import settings\n"
        "from eir_seq.spool import Spool\n"
        "class Base: ...\n"
        "def encode():\n    from .helpers import (  # lazily\n        spelling,\n    )\n"
    ),
    "kinds.py": "from plugin_for_test.inputs import Base\nclass Kind(Base): ...\n",
    "settings.py": "A = 1\n",
    "helpers/__init__.py": "",
    "helpers/spelling.py": "import plugin_for_test.deep\n",
    "deep.py": "B = 1\n",
    "unrelated.py": "C = 1\n",
}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with kinds of its own, as another project has it."""
    folder = tmp_path / "plugin_for_test"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(code, "_STARTED", code.time.time() + 3600)
    yield folder
    for name in [name for name in sys.modules if name.startswith("plugin_for_test")]:
        del sys.modules[name]


def version() -> str:
    code._version_of.cache_clear()
    return code_version(importlib.import_module("plugin_for_test.kinds").Kind)


@pytest.mark.parametrize("file", sorted(FILES))
def test_an_edit_of_what_a_class_imports_is_another_version(plugin: Path, file: str) -> None:
    before = version()
    assert version() == before
    (plugin / file).write_text(FILES[file] + "\n# edited\n")
    assert (version() != before) == (file != "unrelated.py")


def test_libraries_count(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = version()
    monkeypatch.setattr(code, "_version", lambda package: "2.0" if package == "numpy" else None)
    assert version() != before


def test_a_source_that_was_edited_since_the_program_started_is_not_what_runs(
    plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = version()
    monkeypatch.setattr(code, "_STARTED", 0.0)
    monkeypatch.setattr(code.os, "getpid", lambda: 1)
    first = version()
    monkeypatch.setattr(code.os, "getpid", lambda: 2)
    assert len({before, first, version()}) == 3


def test_what_encodes_texts_and_pictures() -> None:
    """Tokenizers and libraries are part of it; models and training are not."""
    from eir_seq.modalities.image.preprocess import FittedImage
    from eir_seq.modalities.sequence.fitted import FittedSequence

    assert "eir_seq.tokenizers.rust" in _modules(FittedSequence)
    assert "eir_seq.modalities.sequence.html" in _modules(FittedSequence)
    assert "eir_seq.modalities.pictures" in _modules(FittedImage)
    assert not [name for name in _modules(FittedSequence) if name.startswith(("eir_seq.models", "eir_seq.training"))]
    assert code._version("PIL") is not None
    assert code._version("tokenizers") is not None


def _modules(kind: type) -> set[str]:
    found, left = set[str](), [kind.__module__]
    while left:
        name = left.pop()
        path = code._file(name) if name.startswith("eir_seq.") else None
        if path is not None and name not in found and not name.startswith(code._WITHOUT):
            found.add(name)
            left += code._imported(path.read_text(), name, path)
    return found
