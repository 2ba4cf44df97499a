"""Trains the toys together and predicts: ``python tests/docs/toys/train.py``, in a folder with an experiment `toy`."""

from __future__ import annotations

import sys
from pathlib import Path

import eir_seq.modalities
import eir_seq.outputs
from eir_seq.registry import INPUTS, OUTPUTS

TOYS = Path(__file__).parent

if __name__ == "__main__":
    eir_seq.modalities.__path__.append(str(TOYS / "modalities"))
    eir_seq.outputs.__path__.append(str(TOYS / "outputs"))
    # The lines that kinds of the package have in eir_seq/registry.py.
    INPUTS.add("vector", "eir_seq.modalities.vector.config:VectorInputConfig", "the toys")
    OUTPUTS.add("duration", "eir_seq.outputs.duration.config:DurationOutputConfig", "the toys")

    from eir_seq.commands import main

    sys.exit(main(["experiment=toy"]) or main(["predict", "run=run", "data.test=rows.csv", "output=predicted.csv"]))
