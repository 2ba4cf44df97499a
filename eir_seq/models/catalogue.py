"""Every architecture by its published `model_type`: where its options and its construction are declared.

Each folder of `eir_seq.models.families` has its entries in ``entry.py``. Importing this module reads those, and neither
torch nor any options or construction, which are imported when they are looked up.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.models import families
from eir_seq.models.entry import TENSOR_INPUTS, Entry

if TYPE_CHECKING:
    from eir_seq.models.architecture import Architecture
    from eir_seq.models.options import ModelConfig


def _collect() -> dict[str, Entry]:
    """The entries of all families, by model type; their modules are named in full."""
    found: dict[str, Entry] = {}
    for family in pkgutil.iter_modules(families.__path__, f"{families.__name__}."):
        entries: dict[str, Entry] = importlib.import_module(f"{family.name}.entry").ENTRIES
        for model_type, entry in entries.items():
            assert model_type not in found, f"{model_type!r} has two entries"
            config, architecture = (f"{family.name}.{target}" for target in (entry.config, entry.architecture))
            found[model_type] = entry._replace(config=config, architecture=architecture)
    return dict(sorted(found.items()))


CATALOGUE = _collect()

REPLACED_TOKENS = tuple(name for name, entry in CATALOGUE.items() if entry.replaced_tokens)
"""Those whose task pretraining is to tell which tokens were replaced."""

POOLERS = tuple(name for name, entry in CATALOGUE.items() if entry.pooler)
"""Those whose base model has a pooler: one vector per text that a learned layer makes of its states."""

TENSORS = {kind: tuple(name for name, entry in CATALOGUE.items() if kind in entry.tensors) for kind in TENSOR_INPUTS}
"""For each input beside tokens, those that take it, some of them with the options that switch it on."""

SYNONYMS = {synonym: name for name, entry in CATALOGUE.items() for synonym in entry.synonyms}
"""Documented names of models that are another architecture, tokenizer apart."""


def find(model_type: str) -> Entry:
    """The catalogue's entry of `model_type`, or of what it is a synonym of.

    Raises:
        UserError: there is no such model type (the nearest name is shown).
    """
    model_type = SYNONYMS.get(model_type, model_type)
    if model_type not in CATALOGUE:
        raise UserError(Fault("model_type", f"{model_type!r} is not in the catalogue{nearest(model_type, CATALOGUE)}"))
    return CATALOGUE[model_type]


def list_models() -> list[str]:
    """The published `model_type` strings of all architectures."""
    return sorted(CATALOGUE)


def config_class(model_type: str) -> type[ModelConfig]:
    """The dataclass of an architecture's options (torch-free)."""
    loaded: type[ModelConfig] = _load(find(model_type).config)
    return loaded


def architecture(model_type: str) -> Architecture:
    """How an architecture is built (imports torch)."""
    loaded: Architecture = _load(find(model_type).architecture)
    return loaded


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
