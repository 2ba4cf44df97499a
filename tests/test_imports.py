"""No module needs itself: imports form no circle, those in functions included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import eir_seq

ROOT = Path(eir_seq.__file__).parent
NAMES = {
    ".".join(("eir_seq", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}


def imported(node: ast.AST, *, types: bool) -> Iterator[str]:
    """Modules of this package that are imported below a node; `types`: for type checkers alone, too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names if alias.name in NAMES)
        elif isinstance(child, ast.ImportFrom) and child.module and child.module.startswith("eir_seq"):
            for alias in child.names:
                found = f"{child.module}.{alias.name}"
                yield found if found in NAMES else child.module
        elif not types and isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from imported(ast.Module(child.orelse, []), types=types)
        else:
            yield from imported(child, types=types)


def of_config(module: str) -> bool:
    """Whether it declares options: the sections of an experiment and their container know each other by type."""
    return module.startswith("eir_seq.config.") or module == "eir_seq.modalities.sequence.config"


@pytest.mark.parametrize("types", [False, True], ids=["run time", "types, too"])
def test_no_module_imports_itself_through_others(types: bool) -> None:
    graph = {}
    for name, path in NAMES.items():
        used = set(imported(ast.parse(path.read_text(encoding="utf-8")), types=types))
        graph[name] = {other for other in used if not (types and of_config(name) and of_config(other))}
    assert sum(map(len, graph.values())) > 3000
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
