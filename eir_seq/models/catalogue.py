"""Every architecture by its published `model_type`: where its options and its construction are declared.

Each folder of `eir_seq.models.families` has its entries in ``entry.py``. Importing this module reads those, and neither
torch nor any options or construction, which are imported when they are looked up.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from eir_seq import plugins
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.models import families
from eir_seq.models.entry import TENSOR_INPUTS, Entry
from eir_seq.registry import ARCHITECTURES, imported

if TYPE_CHECKING:
    from eir_seq.models.architecture import Architecture
    from eir_seq.models.options import ModelConfig


CATALOGUE: dict[str, Entry] = {}
"""The entries by model type, their modules named in full."""

REPLACED_TOKENS: list[str] = []
"""Those whose task pretraining is to detect which tokens were replaced."""

POOLERS: list[str] = []
"""Those whose base model has a pooler: one vector per text that a learned layer makes of its states."""

TENSORS: dict[str, list[str]] = {kind: [] for kind in TENSOR_INPUTS}
"""For each input other than tokens, those that take it, some of them with the options that switch it on."""

SYNONYMS: dict[str, str] = {}
"""Documented names of models that are another architecture, tokenizer apart."""


def register(model_type: str, entry: Entry) -> None:
    """Add an architecture to the catalogue.

    Args:
        model_type: its published name.
        entry: with `config` and `architecture` as ``module:Name``, modules in full.

    Raises:
        UserError: the name is that of another architecture.
    """
    taken = CATALOGUE.get(SYNONYMS.get(model_type, model_type))
    if taken == entry:
        return
    if taken is not None:
        message = (
            f"{model_type!r} is already in the catalogue ({taken.architecture}); give {entry.architecture} another"
        )
        raise UserError(Fault("model_type", message))
    CATALOGUE[model_type] = entry
    if entry.replaced_tokens:
        REPLACED_TOKENS.append(model_type)
    if entry.pooler:
        POOLERS.append(model_type)
    for kind in entry.tensors:
        TENSORS[kind].append(model_type)
    SYNONYMS.update(dict.fromkeys(entry.synonyms, model_type))


def _entries_of_families() -> Iterator[tuple[str, Entry]]:
    for family in pkgutil.iter_modules(families.__path__, f"{families.__name__}."):
        entries: dict[str, Entry] = importlib.import_module(f"{family.name}.entry").ENTRIES
        for model_type, entry in entries.items():
            config, architecture = (f"{family.name}.{target}" for target in (entry.config, entry.architecture))
            yield model_type, entry._replace(config=config, architecture=architecture)


for _model_type, _entry in sorted(_entries_of_families()):
    register(_model_type, _entry)
plugins.discover()
for _model_type, _entry in ARCHITECTURES.items():
    register(_model_type, _entry)


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
    """The published `model_type` strings of all architectures.

    Example:
        >>> from eir_seq.models import list_models
        >>> list_models()[:3]
        ['albert', 'bart', 'bert']
    """
    return sorted(CATALOGUE)


def config_class(model_type: str) -> type[ModelConfig]:
    """The dataclass of an architecture's options (torch-free)."""
    loaded: type[ModelConfig] = imported(find(model_type).config)
    return loaded


CROSS = "add_cross_attention"
"""The option of causal decoders by which they also attend to states of something else."""


def decoder_task(model_type: str) -> str | None:
    """The task whose decoder attends to given states: that of encoder-decoders, or causal language modelling.

    None if the architecture has no decoder with cross-attention.

    Example:
        >>> from eir_seq.models.catalogue import decoder_task
        >>> decoder_task("bart"), decoder_task("gpt2"), decoder_task("llama")
        ('seq2seq-lm', 'causal-lm', None)
    """
    from eir_seq.models.options import fields

    tasks = find(model_type).tasks
    if "seq2seq-lm" in tasks:
        return "seq2seq-lm"
    return "causal-lm" if "causal-lm" in tasks and CROSS in fields(config_class(model_type)) else None


def list_decoders() -> list[str]:
    """The architectures that have a `decoder_task`."""
    return [model_type for model_type in list_models() if decoder_task(model_type)]


def architecture(model_type: str) -> Architecture:
    """How an architecture is built (imports torch)."""
    loaded: Architecture = imported(find(model_type).architecture)
    return loaded
