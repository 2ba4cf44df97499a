"""What an experiment may say about an input of genotypes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from eir_seq.config.column_types import Column, ColumnType
from eir_seq.config.encoders import EncoderBase
from eir_seq.config.inputs import EncoderInputBase
from eir_seq.config.kinds import encoders
from eir_seq.config.packages import is_installed
from eir_seq.config.strict import Strict
from eir_seq.errors import Fault, nearest
from eir_seq.modalities.omics.encoder_configs import GenomeLocalNetConfig

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections

    OmicsEncoder = EncoderBase
else:
    OmicsEncoder = encoders("omics", default="genome-local-net")

FILES = ("snp_file", "subset_snps_file", "groups_file", "plink")


class BetaConfig(Strict):
    """A share that is drawn from a beta distribution for each row."""

    alpha: Annotated[float, Field(gt=0)] = Field(description="its first parameter")
    beta: Annotated[float, Field(gt=0)] = Field(description="its second parameter; the mean is alpha / (alpha + beta)")


class OmicsAugmentationConfig(Strict):
    """What training does to the genotypes of each row, anew in each epoch."""

    missing: BetaConfig | None = Field(
        BetaConfig(alpha=1.0, beta=5.0),
        description="share of SNPs whose call is lost: some of them in a block, the others at random; null: none",
    )
    shuffle: BetaConfig | None = Field(
        None, description="share of SNPs whose genotypes change places with each other; null: none"
    )


class OmicsInputConfig(EncoderInputBase):
    """Genotypes of SNPs: one-hot arrays in .npy files, or samples of PLINK files."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.omics.preprocess:OmicsModality"

    type: Literal["omics"] = "omics"
    column: str = Field(
        description="column with the names of .npy files (3 x SNPs or 4 x SNPs, one-hot), or with ids of samples in "
        "PLINK files (FILE.bed:SAMPLE, or SAMPLE beside plink)"
    )
    plink: str | None = Field(None, description="a .bed file, beside which .bim and .fam stand, for cells of mere ids")
    snp_file: str | None = Field(
        None, description="a .bim file with the SNPs of the .npy files; PLINK files have their own"
    )
    subset_snps_file: str | None = Field(None, description="a text file with the ids of SNPs to be read, one per line")
    groups_file: str | None = Field(
        None, description="a text file with groups of SNPs for an encoder that has one branch for each: lines of a "
        "group, a tab and the id of a SNP"
    )  # fmt: skip
    missing_as: Literal["zeros", "category"] = Field(
        "zeros", description="how the encoder sees a missing call: as zeros, or as a fourth category"
    )
    augmentation: OmicsAugmentationConfig = Field(
        OmicsAugmentationConfig(), description="random changes of the genotypes of training rows"
    )
    model: OmicsEncoder = Field(GenomeLocalNetConfig(), description="the encoder")

    def columns(self) -> dict[str, Column]:
        """The column of files or ids."""
        return {self.column: Column(ColumnType.FILE)}

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Those of the encoder, and files that are missing or have no effect."""
        from eir_seq.config.columns import ID  # which imports the schema, and that this module

        yield from super().faults(name, sections)
        place = f"inputs.{name}"
        data = sections.data
        if data is not None and self.column == ID and data.id == ID:
            hint = f"give it another name (data.rename: {{{ID}: sample}}, data.id: sample)"
            yield Fault(f"{place}.column", f"column {ID!r} holds the ids of rows; {hint}")
        if self.plink is None and self.snp_file is None:
            for key in ("subset_snps_file", "groups_file"):
                if getattr(self, key) is not None:
                    yield Fault(f"{place}.{key}", "needs the ids of SNPs; give snp_file or plink")
        if self.plink is not None and self.snp_file is not None:
            yield Fault(f"{place}.snp_file", "has no effect with plink, whose .bim file names the SNPs")
        grouped = getattr(self.model, "NEEDS_GROUPS", False)
        if grouped and self.groups_file is None:
            yield Fault(f"{place}.groups_file", f"is missing; {self.model.model_type} has a branch for each group")
        if self.groups_file is not None and not grouped:
            yield Fault(f"{place}.groups_file", f"has no effect with model_type {self.model.model_type}")

    def preflight(self, place: str) -> Iterator[Fault]:
        """Files that are not there, and the package that reads PLINK files."""
        yield from super().preflight(place)
        for key in FILES:
            if (value := getattr(self, key)) is None:
                continue
            path = Path(value).expanduser()
            if not path.is_file():
                close = nearest(path.name, [x.name for x in path.parent.iterdir()]) if path.parent.is_dir() else ""
                yield Fault(f"{place}.{key}", f"{value} is no file{close}")
        if self.plink is not None and not is_installed("bed_reader"):
            yield Fault(f"{place}.plink", NEEDS_BED_READER)


NEEDS_BED_READER = "bed-reader is not installed; run: pip install 'eir_seq[omics]'"
