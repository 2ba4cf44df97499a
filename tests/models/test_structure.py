"""How the packages of the models hang together: read from the imports, without running them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import torch

import eir_seq
from eir_seq.errors import UserError
from eir_seq.models import catalogue, create_model, families, from_pretrained

ROOT = Path(eir_seq.__file__).parent
MODELS, FAMILIES = "eir_seq.models.", "eir_seq.models.families."
SHARED = tuple(f"{MODELS}{folder}." for folder in ("layers", "backbones", "heads"))


@cache
def imports() -> dict[str, set[str]]:
    """Module -> modules of this package that it imports: everywhere, in functions and for type checkers too."""
    files = {_name(path): path for path in ROOT.rglob("*.py")}
    return {name: set(_imported(path, files)) for name, path in files.items()}


def _name(path: Path) -> str:
    parts = ("eir_seq", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(path: Path, files: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                found = f"{node.module}.{alias.name}"
                yield found if found in files else node.module


def family_of(module: str) -> str:
    return ".".join(module.split(".")[:4])


def test_no_family_depends_on_itself_through_others() -> None:
    graph: dict[str, set[str]] = {}
    for name, used in imports().items():
        if name.startswith(FAMILIES):
            others = {family_of(other) for other in used if other.startswith(FAMILIES)}
            graph.setdefault(family_of(name), set()).update(others - {family_of(name)})
    assert len(graph) > 70
    TopologicalSorter(graph).prepare()


def test_what_one_family_alone_uses_lives_with_it() -> None:
    users: dict[str, set[str]] = {}
    for name, used in imports().items():
        for other in used:
            users.setdefault(other, set()).add(family_of(name) if name.startswith(FAMILIES) else name)
    alone = {
        name: user
        for name in imports()
        if name.startswith(SHARED) and len(user := users.get(name, ())) == 1 and min(user).startswith(FAMILIES)
    }
    assert not alone


def test_every_family_has_the_same_files() -> None:
    folders = [path for path in (ROOT / "models" / "families").iterdir() if path.is_dir() and path.name[0] != "_"]
    for folder in folders:
        assert {"__init__.py", "entry.py", "options.py", "architecture.py"} <= {path.name for path in folder.iterdir()}


TOY = {
    "__init__.py": "",
    "entry.py": """
from eir_seq.models.entry import BERT_TASKS, Entry

ENTRIES = {"toy": Entry("options:ToyConfig", "architecture:TOY", "https://example.org", "A toy.", BERT_TASKS)}
""",
    "options.py": """
from dataclasses import dataclass
from typing import ClassVar

from eir_seq.models.families.bert.options import BertConfig


@dataclass(frozen=True, kw_only=True)
class ToyConfig(BertConfig):
    model_type: ClassVar[str] = "toy"
""",
    "architecture.py": """
from eir_seq.models.families.bert.architecture import bert_like, bert_plan

TOY = bert_like("Toy", "toy", bert_plan)
""",
}


def test_a_folder_of_four_files_adds_an_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    for name, content in TOY.items():
        (folder / name).write_text(content, encoding="utf-8")
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    (entry,) = (entry for name, entry in catalogue._entries_of_families() if name == "toy")
    monkeypatch.setitem(catalogue.CATALOGUE, "toy", entry)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = create_model("toy", sizes, task="masked-lm").eval()
    model.save_pretrained(tmp_path / "saved")
    again = from_pretrained(tmp_path / "saved")
    ids = torch.tensor([[2, 3, 4]])
    assert again.config.model_type == "toy"
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_a_name_of_the_catalogue_is_given_once() -> None:
    other = catalogue.find("bert")._replace(architecture="elsewhere:BERT")
    with pytest.raises(UserError, match=r"'bert' is already in the catalogue .*give elsewhere:BERT another"):
        catalogue.register("bert", other)
    with pytest.raises(UserError, match=r"'code_llama' is already in the catalogue"):
        catalogue.register("code_llama", other)
    catalogue.register("bert", catalogue.find("bert"))
    assert catalogue.find("bert") != other
