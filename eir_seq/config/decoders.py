"""The base of every decoder's config: what makes an array or a picture of features, chosen by `model.model_type`.

A decoder is registered for a kind of output as ``KIND.NAME`` in `eir_seq.registry.DECODERS`; its options are the typed
field `model_init_config`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from eir_seq.config.strict import Strict
from eir_seq.errors import Fault

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections


class DecoderBase(Strict):
    """What every decoder has."""

    IMPLEMENTATION: ClassVar[str]
    """``module:Class`` of the `eir_seq.outputs.arrays.decoders.Decoder`."""

    if TYPE_CHECKING:
        model_type: str

    def state_inputs(self, inputs: Sequence[str]) -> Sequence[str]:
        """Of all inputs those whose states it reads; none if it reads the fused vector."""
        del inputs
        return ()

    def faults(self, place: str, sections: Sections) -> Iterator[Fault]:
        """What it demands of the rest of the experiment.

        Args:
            place: its config path, ``outputs.NAME.model``.
            sections: of the experiment.
        """
        del place, sections
        yield from ()
