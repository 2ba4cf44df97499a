"""The base of every encoder's config: what reads the tensors of an input, chosen by `model.model_type`.

An encoder is registered for a kind of input as ``KIND.NAME`` in `eir_seq.registry.ENCODERS`; its options are the typed
field `model_init_config`. Sequences of tokens are read by the architectures of the catalogue
(`eir_seq.config.backbones`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from eir_seq.config.strict import Strict
from eir_seq.errors import Fault

if TYPE_CHECKING:
    from eir_seq.config.backbones import SequenceModelConfig


class EncoderBase(Strict):
    """What every encoder has."""

    IMPLEMENTATION: ClassVar[str]
    """``module:Class`` of the `eir_seq.modalities.encoders.base.Encoder`, which `Encoder.build` makes."""

    if TYPE_CHECKING:
        model_type: str

    @property
    def backbone(self) -> SequenceModelConfig | None:
        """The same config where it is an architecture of the catalogue, which reads tokens."""
        return None

    def faults(self, place: str) -> Iterator[Fault]:
        """What its options demand of each other.

        Args:
            place: its config path, ``inputs.NAME.model``.
        """
        del place
        yield from ()

    def preflight(self, place: str) -> Iterator[Fault]:
        """Packages and folders that it needs and that are not there; imports nothing large.

        Args:
            place: its config path, ``inputs.NAME.model``.
        """
        del place
        yield from ()
