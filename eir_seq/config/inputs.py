"""The base of every kind of input: what the rest of the program may ask of a kind that it does not know.

A kind is declared in ``eir_seq/modalities/KIND/config.py`` by a subclass of `InputBase`; `eir_seq.registry` lists it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from eir_seq.config.backbones import SequenceModelConfig
from eir_seq.config.column_types import Column
from eir_seq.config.packages import is_installed, missing_package
from eir_seq.config.strict import Strict
from eir_seq.errors import Fault

if TYPE_CHECKING:
    from eir_seq.config.sections import Sections
    from eir_seq.modalities.sequence.config import SequenceInputConfig

WEIGHTS = (".safetensors", ".bin")
ADAPTER = "adapter_config.json"


class InputBase(Strict):
    """What every input has."""

    IMPLEMENTATION: ClassVar[str]
    """``module:Class`` of the `eir_seq.modalities.base.Modality` that fits and loads it."""
    HAS_TOKENS: ClassVar[bool] = False
    """Whether outputs may read the states of its tokens."""

    if TYPE_CHECKING:
        type: str
    modality_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of training rows that lose this input in each epoch, as if they lacked it; each keeps one",
    )

    @property
    def backbone(self) -> SequenceModelConfig | None:
        """The architecture of the catalogue that reads it, where one does."""
        return None

    @property
    def text(self) -> SequenceInputConfig | None:
        """The input as a text, for what works on texts alone."""
        return None

    @property
    def fits_blocks(self) -> bool:
        """Whether its texts may be joined and cut into blocks of tokens, as language models read them."""
        return False

    def columns(self) -> dict[str, Column]:
        """The columns that it reads, by name."""
        raise NotImplementedError

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """What it demands of itself and of the rest of the experiment, as `inputs.NAME`."""
        del name, sections
        yield from ()

    def preflight(self, place: str) -> Iterator[Fault]:
        """Packages and folders that it needs and that are not there; imports nothing large.

        Args:
            place: the config path of the input.
        """
        del place
        yield from ()

    @classmethod
    def tokens_of(cls, raw: Mapping[str, Any]) -> tuple[Any, str] | None:
        """Tokens of the longest row and the key that says it, of a section that is not yet checked.

        None where no architecture of the catalogue reads the input.
        """
        del raw
        return None


class BackboneInputBase(InputBase):
    """What every input has that an architecture of the catalogue reads; it has a field `model`."""

    if TYPE_CHECKING:
        model: SequenceModelConfig

    @property
    def backbone(self) -> SequenceModelConfig:
        """The architecture that reads it."""
        return self.model

    def faults(self, name: str, sections: Sections) -> Iterator[Fault]:
        """Options of the backbone that have no effect beside others."""
        from eir_seq.config.sections import ignored

        del sections
        place = f"inputs.{name}.model"
        yield from _few_parameters(place, self.model)
        if not self.model.pretrained_model:
            keys = "freeze_pretrained_model pretrained_parts resize_token_embeddings revision"
            yield from ignored(place, self.model, keys, "without pretrained_model: true")

    def preflight(self, place: str) -> Iterator[Fault]:
        """The backbone's folders and package."""
        model = self.model
        if model.model_type == "auto" and not is_installed("transformers"):
            yield Fault(f"{place}.model.model_type", missing_package("transformers"))
        folder = self.folder
        if folder is not None and folder.is_dir() and not any(path.suffix in WEIGHTS for path in folder.iterdir()):
            yield Fault(f"{place}.model.model_type", f"{folder} holds no weights (*{' or *'.join(WEIGHTS)})")
        adapter = None if model.lora is None or model.lora.adapter is None else Path(model.lora.adapter).expanduser()
        if adapter is not None and adapter.is_dir() and not (adapter / ADAPTER).is_file():
            yield Fault(f"{place}.model.lora.adapter", f"{adapter} holds no {ADAPTER}, so it is no adapter folder")

    @property
    def folder(self) -> Path | None:
        """Where a pretrained backbone may stand: a folder, if it is no name on the Hub."""
        return Path(self.model.model_type).expanduser() if self.model.pretrained_model else None


def _few_parameters(place: str, model: SequenceModelConfig) -> Iterator[Fault]:
    from eir_seq.config.sections import ignored

    if model.lora is None:
        if model.freeze_pretrained_model:
            if model.pretrained_parts == "all":
                yield from ignored(place, model, "gradient_checkpointing", "with freeze_pretrained_model: true")
            yield from ignored(place, model, "freeze", "with freeze_pretrained_model: true, which keeps all")
        return
    if not model.pretrained_model:
        yield Fault(f"{place}.lora", "needs pretrained_model: true; it keeps the other weights, which would be random")
    else:
        yield from ignored(place, model, "freeze_pretrained_model freeze", "with lora, which keeps all other weights")
    if not model.lora.target_modules:
        yield Fault(f"{place}.lora.target_modules", "is empty; name layers, or leave it out for all linear ones")
    if model.lora.adapter is not None:
        reason = "with adapter, which brings its own"
        yield from ignored(f"{place}.lora", model.lora, "rank alpha dropout target_modules", reason)
