"""The encoders of genotypes and their options."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from eir_seq.config.encoders import EncoderBase
from eir_seq.config.strict import Positive
from eir_seq.modalities.encoders.options import (
    CnnOptions,
    GridIdentityOptions,
    GridLinearOptions,
    LclOptions,
    PenaltyOptions,
)

_OPTIONS = "its options"
_GRIDS = "eir_seq.modalities.encoders.grids"


class SimpleLclOptions(PenaltyOptions):
    """Options of a single locally connected layer."""

    num_chunks: Positive = Field(64, description="chunks of neighbouring SNPs, each with weights of its own")
    features: Positive = Field(12, description="features of each chunk")


class GroupOptions(LclOptions):
    """Options of branches for groups of SNPs."""

    group_size: Positive = Field(16, description="features of a group")
    cutoff: Positive = Field(64, description="blocks are added to a branch until at most so many features are left")


class GenotypeEncoderBase(EncoderBase):
    """What encoders of genotypes have: `READER` reads the one-hot values, (batch, 3 or 4, 1, SNPs)."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.omics.encoders:GenotypeEncoder"
    READER: ClassVar[str]
    NEEDS_GROUPS: ClassVar[bool] = False


class GenomeLocalNetConfig(GenotypeEncoderBase):
    """Locally connected residual blocks (Sigurdsson et al. 2023, doi:10.1093/nar/gkad373)."""

    READER: ClassVar[str] = f"{_GRIDS}:LclEncoder"

    model_type: Literal["genome-local-net"] = "genome-local-net"
    model_init_config: LclOptions = Field(LclOptions(), description=_OPTIONS)


class GroupedGenomeLocalNetConfig(GenotypeEncoderBase):
    """One locally connected branch per named group of SNPs, mixed by a gate that reads all of them."""

    READER: ClassVar[str] = "eir_seq.modalities.omics.encoders:GroupExperts"
    NEEDS_GROUPS: ClassVar[bool] = True

    model_type: Literal["genome-local-net-informed-moe"] = "genome-local-net-informed-moe"
    model_init_config: GroupOptions = Field(GroupOptions(), description=_OPTIONS)


class OmicsSimpleLclConfig(GenotypeEncoderBase):
    """A single locally connected layer."""

    READER: ClassVar[str] = "eir_seq.modalities.omics.encoders:SimpleLcl"

    model_type: Literal["lcl-simple"] = "lcl-simple"
    model_init_config: SimpleLclOptions = Field(SimpleLclOptions(), description=_OPTIONS)


class OmicsCnnConfig(GenotypeEncoderBase):
    """A residual convolutional network along the SNPs; options of the height have no effect."""

    READER: ClassVar[str] = f"{_GRIDS}:CnnEncoder"

    model_type: Literal["cnn"] = "cnn"
    model_init_config: CnnOptions = Field(CnnOptions(), description=_OPTIONS)


class OmicsLinearConfig(GenotypeEncoderBase):
    """One linear layer."""

    READER: ClassVar[str] = f"{_GRIDS}:LinearEncoder"

    model_type: Literal["linear"] = "linear"
    model_init_config: GridLinearOptions = Field(GridLinearOptions(), description=_OPTIONS)


class OmicsIdentityConfig(GenotypeEncoderBase):
    """The one-hot values themselves."""

    READER: ClassVar[str] = f"{_GRIDS}:IdentityEncoder"

    model_type: Literal["identity"] = "identity"
    model_init_config: GridIdentityOptions = Field(GridIdentityOptions(), description=_OPTIONS)
