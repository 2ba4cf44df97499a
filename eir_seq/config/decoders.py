"""The base of every decoder's config: what makes an array or a picture of features, chosen by `model.model_type`.

A decoder is registered for a kind of output as ``KIND.NAME`` in `eir_seq.registry.DECODERS`; its options are the typed
field `model_init_config`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from eir_seq.config.strict import Strict


class DecoderBase(Strict):
    """What every decoder has."""

    IMPLEMENTATION: ClassVar[str]
    """``module:Class`` of the `eir_seq.outputs.arrays.decoders.Decoder`."""

    if TYPE_CHECKING:
        model_type: str
