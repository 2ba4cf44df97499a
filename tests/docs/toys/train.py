"""Trains the toys together: ``python tests/docs/toys/train.py WORDS``."""

import sys
from pathlib import Path

import eir_seq.modalities
import eir_seq.outputs
from eir_seq.registry import INPUTS, OUTPUTS

TOYS = Path(__file__).parent

eir_seq.modalities.__path__.append(str(TOYS / "modalities"))
eir_seq.outputs.__path__.append(str(TOYS / "outputs"))
INPUTS.add("vector", "eir_seq.modalities.vector.config:VectorInputConfig", "a test")
OUTPUTS.add("survival", "eir_seq.outputs.survival.config:SurvivalOutputConfig", "a test")

if __name__ == "__main__":
    from eir_seq.commands import main

    code = main(sys.argv[1:])
    Loaded = {"torch"} & sys.modules.keys()
    sys.exit(code)
