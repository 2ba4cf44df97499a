"""The model factory: every architecture of the catalogue through three functions.

`create_model` builds one from its options, `from_pretrained` from a published checkpoint, `list_models` names them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eir_seq.models.catalogue import list_models

if TYPE_CHECKING:
    from eir_seq.models.factory import create_model, from_pretrained

__all__ = ["create_model", "from_pretrained", "list_models"]


def __getattr__(name: str) -> Any:
    if name in ("create_model", "from_pretrained"):  # torch is imported only when a model is made
        from eir_seq.models import factory

        return getattr(factory, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
