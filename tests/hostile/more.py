"""All hostile files of the campaign: how each is made and the command that meets it.

As in `collection`, a maker writes into the folder of a project and returns arguments; here they begin with the command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.hostile.collection import (
    Maker,
    table,
)
from tests.hostile.data_files import CELLS, experiments, pictures, row, tables
from tests.hostile.making import text
from tests.hostile.model_files import models, tokenizers
from tests.hostile.run_files import bundles, run_folders


def check(maker: Maker) -> Maker:
    """Meet it by `check`."""
    return lambda folder: ["check", *maker(folder)]


def train(maker: Maker) -> Maker:
    """Meet it by a whole run, report included."""
    return lambda folder: [*maker(folder), "run.dir=run"]


def every() -> Iterator[tuple[str, Maker]]:
    """All of them, by kind and name."""
    kinds: dict[str, Callable[[], Iterator[tuple[str, Maker]]]] = {
        "table": tables,
        "picture": pictures,
        "tokenizer": tokenizers,
        "model": models,
        "experiment": experiments,
    }
    for kind, makers in kinds.items():
        for name, maker in makers():
            yield f"{kind}: {name}", check(maker)
    for name, cells in CELLS.items():
        yield f"report: {name}", train(table("a.csv", text(row(**cells))))
    for name, maker in bundles():
        yield f"bundle: {name}", maker
    for name, maker in run_folders():
        yield f"run: {name}", maker
