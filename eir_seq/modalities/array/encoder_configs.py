"""The encoders of arrays and their options."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from eir_seq.config.encoders import EncoderBase
from eir_seq.modalities.encoders.options import (
    CnnOptions,
    GridIdentityOptions,
    GridLinearOptions,
    PatchLclOptions,
    PatchTransformerOptions,
)

_OPTIONS = "its options"


class ArrayCnnConfig(EncoderBase):
    """A residual convolutional network over one or two dimensions."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.encoders.grids:CnnEncoder"

    model_type: Literal["cnn"] = "cnn"
    model_init_config: CnnOptions = Field(CnnOptions(), description=_OPTIONS)


class ArrayLclConfig(EncoderBase):
    """Locally connected residual blocks: neighbours are read together, with weights of their own at each place."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.encoders.grids:LclEncoder"

    model_type: Literal["lcl"] = "lcl"
    model_init_config: PatchLclOptions = Field(PatchLclOptions(), description=_OPTIONS)


class ArrayTransformerConfig(EncoderBase):
    """A transformer over patches (Dosovitskiy et al. 2021, arXiv:2010.11929)."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.encoders.patch_transformer:PatchTransformerEncoder"

    model_type: Literal["transformer"] = "transformer"
    model_init_config: PatchTransformerOptions = Field(description=_OPTIONS)


class ArrayLinearConfig(EncoderBase):
    """One linear layer."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.encoders.grids:LinearEncoder"

    model_type: Literal["linear"] = "linear"
    model_init_config: GridLinearOptions = Field(GridLinearOptions(), description=_OPTIONS)


class ArrayIdentityConfig(EncoderBase):
    """The values themselves, one behind another."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.encoders.grids:IdentityEncoder"

    model_type: Literal["identity"] = "identity"
    model_init_config: GridIdentityOptions = Field(GridIdentityOptions(), description=_OPTIONS)
