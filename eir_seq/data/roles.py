"""What each column of a table is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from eir_seq.config.column_types import ColumnType
from eir_seq.config.columns import Columns, columns_of
from eir_seq.config.schema import ExperimentConfig
from eir_seq.data.missing import Missing
from eir_seq.errors import UserError
from eir_seq.modalities.base import Cells, FittedModality, Modality
from eir_seq.modalities.sequence.cells import InputCells
from eir_seq.outputs import build_output
from eir_seq.registry import imported

if TYPE_CHECKING:
    from eir_seq.outputs.base import FittedOutput, Output


@dataclass(frozen=True)
class Roles(Columns):
    """What the columns are for, and what the inputs demand of them.

    `prompts` are texts that may be empty or absent, to be written. `checking` are inputs that check rows beyond the
    types of their columns, `restoring` outputs that do so cell by cell, `outputs` those that compare columns; `tagged`
    has, by column of tags, the input whose words they label. `missing` says what rows may lack; None: nothing.
    `file_dir`: the folder of the files that cells name; None: that of the data file.
    """

    checking: tuple[Cells, ...] = ()
    restoring: tuple[Cells, ...] = ()
    outputs: tuple[Output, ...] = ()
    tagged: Mapping[str, InputCells] = field(default_factory=dict)
    prompts: frozenset[str] = frozenset()
    missing: Missing | None = None
    file_dir: str | None = None


def column_roles(
    config: ExperimentConfig,
    inputs: Mapping[str, Modality | FittedModality],
    outputs: Mapping[str, FittedOutput] = MappingProxyType({}),
) -> Roles:
    """The roles of the columns that an experiment names; raises `UserError` if one column has two of them.

    Args:
        config: the experiment.
        inputs: by name.
        outputs: by name, once they are fitted.
    """
    columns = columns_of(config.data, config.inputs, config.outputs)
    if faults := columns.clashes():
        raise UserError(*faults)
    tagged: dict[str, InputCells] = {}
    for name, output in config.outputs.items():
        for column, read in output.columns().items():
            if read.type is ColumnType.LIST:  # one entry per word of the input
                words: Any = inputs[config.token_inputs[name]].cells
                tagged[column] = words
    every = (modality.cells for modality in inputs.values())
    checking = tuple(cells for cells in every if cells is not None and cells.checks_rows)
    inputs_read = columns.of("input").keys()
    restoring = tuple(
        outputs[name].target_cells if name in outputs else imported(output.CELLS)(name, output)
        for name, output in config.outputs.items()
        if output.CELLS is not None and not output.columns().keys() <= inputs_read
    )
    built = (build_output(name, declared) for name, declared in config.outputs.items())
    comparing = tuple(output for output in built if output.checked_columns)
    missing, file_dir = Missing.of(config), config.data.file_dir
    roles = Roles(columns.id, columns.uses, checking, restoring, comparing, tagged)
    return replace(roles, missing=missing, file_dir=file_dir)
