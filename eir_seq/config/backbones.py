"""The backbone of an input as typed data: which model reads it, with which weights, and which of them learn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from eir_seq.config.encoders import EncoderBase
from eir_seq.config.packages import is_installed, missing_package
from eir_seq.config.strict import Positive, Strict, ignored
from eir_seq.errors import Fault
from eir_seq.hub import unlocatable

WEIGHTS = (".safetensors", ".bin")
ADAPTER = "adapter_config.json"

Pool = Literal["avg", "max", "first", "last", "pooler", "none"]


class LoraConfig(Strict):
    """Low-rank adapters of linear layers, trained instead of the weights (arXiv:2106.09685)."""

    rank: Positive = Field(8, description="rank of the adapters")
    alpha: Annotated[float, Field(gt=0)] = Field(16.0, description="scaling factor: alpha / rank")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="dropout on the input of the adapters")
    target_modules: str | list[str] = Field(
        "all-linear", description="published names (or their last parts, or patterns) of layers that get one"
    )
    adapter: str | None = Field(None, description="folder or Hub id of a published adapter to start from")
    merge: bool = Field(
        False,
        description="write merged weights into the bundle, which then needs no base model; by default it "
        "holds the adapters and reads the other weights from the published model",
    )


class SequenceModelConfig(EncoderBase):
    """An architecture of the catalogue, which reads tokens."""

    IMPLEMENTATION: ClassVar[str] = "eir_seq.modalities.encoders.backbone:SequenceEncoder"

    model_type: str = Field(
        description="name in the catalogue, or auto for a type outside it (named in model_init_config); with "
        "pretrained_model, the folder or Hub id of a published checkpoint"
    )
    pretrained_model: bool = Field(False, description="load published weights")
    freeze_pretrained_model: bool = Field(False, description="freeze all loaded weights")
    pretrained_parts: Literal["all", "encoder", "decoder"] = Field(
        "all", description="load published weights for one side of an encoder-decoder; initialize the other randomly"
    )
    resize_token_embeddings: bool = Field(
        False, description="extend the embeddings to the tokens that were added to the tokenizer"
    )
    freeze: list[str] = Field(
        [],
        description="published names or patterns of tensors to freeze; encoder or decoder for a whole side",
    )
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2", "flex_attention"] | None = Field(
        None,
        description="how attention is computed: explicitly, by the kernel that torch chooses (the default where one "
        "applies); on a GPU without padding: by its flash kernel in half precision, or by FlexAttention",
    )
    gradient_checkpointing: bool = Field(
        False,
        description="activation checkpointing: training keeps only the states between layers and recomputes the "
        "rest; the same gradients with far less memory, about a third slower",
    )
    lora: LoraConfig | None = Field(None, description="low-rank adapters (LoRA), trained instead of the loaded weights")
    revision: str | None = Field(None, description="revision on the Hub")
    pool: Pool = Field(
        "avg",
        description="how hidden states are pooled to one vector; pooler: the architecture's own; none: not at all, the "
        "states of max_length tokens side by side, zeros at padding",
    )
    model_init_config: dict[str, Any] = Field(
        default_factory=dict, description="options of the architecture, by their names in transformers"
    )

    @property
    def backbone(self) -> Self:
        """The config itself."""
        return self

    @property
    def folder(self) -> Path | None:
        """Where a pretrained backbone may be: a folder, if it is no name on the Hub."""
        return Path(self.model_type).expanduser() if self.pretrained_model else None

    def faults(self, place: str) -> Iterator[Fault]:
        """Options that have no effect given others."""
        yield from _few_parameters(place, self)
        if not self.pretrained_model:
            keys = "freeze_pretrained_model pretrained_parts resize_token_embeddings revision"
            yield from ignored(place, self, keys, "without pretrained_model: true")

    def preflight(self, place: str) -> Iterator[Fault]:
        """Its folders and package."""
        if self.model_type == "auto" and not is_installed("transformers"):
            yield Fault(f"{place}.model_type", missing_package("transformers"))
        folder = self.folder
        if folder is not None and folder.is_dir() and not any(path.suffix in WEIGHTS for path in folder.iterdir()):
            yield Fault(f"{place}.model_type", f"{folder} holds no weights (*{' or *'.join(WEIGHTS)})")
        if self.lora is None or self.lora.adapter is None:
            return
        adapter = Path(self.lora.adapter).expanduser()
        if (problem := unlocatable(self.lora.adapter)) is not None:
            yield Fault(f"{place}.lora.adapter", problem)
        elif adapter.is_dir() and not (adapter / ADAPTER).is_file():
            yield Fault(f"{place}.lora.adapter", f"{adapter} holds no {ADAPTER}, so it is no adapter folder")


def _few_parameters(place: str, model: SequenceModelConfig) -> Iterator[Fault]:
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
