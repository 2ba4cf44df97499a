"""What is predicted: a folder for each kind of output, with its config, targets, head, loss, metrics and report.

Importing this package is cheap; torch is imported when an output is built.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eir_seq.config.outputs import OutputBase
from eir_seq.registry import OUTPUTS, imported

if TYPE_CHECKING:
    from eir_seq.outputs.base import FittedOutput, Output


def build_output(name: str, config: OutputBase) -> Output:
    """The output that `config` declares under `outputs.NAME`; still to be fitted on the training rows."""
    output: Output = imported(config.IMPLEMENTATION)(name, config)
    return output


def load_output(path: Path) -> FittedOutput:
    """The fitted output that `FittedOutput.save` wrote.

    Raises:
        UserError: the file is missing, truncated or was not written by eir_seq.
    """
    from eir_seq.outputs.base import read_state

    kind, content = read_state(path, OUTPUTS)
    implementation: type[Output] = imported(OUTPUTS[kind].IMPLEMENTATION)
    return implementation.restore(content, path)
