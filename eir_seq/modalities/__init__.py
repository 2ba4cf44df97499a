"""Kinds of inputs, a folder each; `eir_seq.registry.INPUTS` lists them. Nothing large is imported before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eir_seq.config.inputs import InputBase
from eir_seq.errors import Fault, UserError
from eir_seq.files import read_json
from eir_seq.registry import INPUTS, imported, unknown

if TYPE_CHECKING:
    from eir_seq.modalities.base import FittedModality, Modality, Purpose


def build_modality(name: str, config: InputBase, purpose: Purpose | None = None) -> Modality:
    """The input called `name`, not yet fitted."""
    from eir_seq.modalities.base import Purpose

    modality: Modality = imported(config.IMPLEMENTATION).build(name, config, purpose or Purpose())
    return modality


def load_modality(folder: str | Path) -> FittedModality:
    """A fitted input that `save` wrote; raises `UserError` if the folder holds none."""
    from eir_seq.modalities.base import STATE_FILE

    path = Path(folder) / STATE_FILE
    try:
        kind = read_json(path)["config"]["type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(Fault(str(path), f"no fitted input ({type(error).__name__}: {error})")) from None
    if kind not in INPUTS:
        raise UserError(Fault(str(path), unknown(INPUTS, str(kind))))
    fitted: FittedModality = imported(INPUTS[kind].IMPLEMENTATION).load(Path(folder))
    return fitted
