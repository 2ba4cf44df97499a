"""The backbone of an input as typed data: which model reads it, with which weights, and which of them learn."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from eir_seq.config.strict import Positive, Strict

Pool = Literal["avg", "max", "first", "last", "pooler"]


class LoraConfig(Strict):
    """Adapters of low rank beside linear layers, which learn in place of the weights (arXiv:2106.09685)."""

    rank: Positive = Field(8, description="rank of the adapters")
    alpha: Annotated[float, Field(gt=0)] = Field(16.0, description="their factor is alpha / rank")
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


class SequenceModelConfig(Strict):
    """The backbone of a sequence input."""

    model_type: str = Field(
        description="name in the catalogue, or auto for a type beyond it (named in model_init_config); with "
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
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2"] | None = Field(
        None,
        description="how attention is computed: explicitly, by the kernel that torch chooses (the default where one "
        "applies), by its flash kernel on a GPU in half precision",
    )
    gradient_checkpointing: bool = Field(
        False,
        description="activation checkpointing: training keeps only the states between layers and recomputes the "
        "rest; the same gradients with far less memory, about a third slower",
    )
    lora: LoraConfig | None = Field(None, description="low-rank adapters (LoRA), trained instead of the loaded weights")
    revision: str | None = Field(None, description="revision on the Hub")
    pool: Pool = Field("avg", description="how hidden states are pooled to one vector; pooler: the architecture's own")
    model_init_config: dict[str, Any] = Field(
        default_factory=dict, description="options of the architecture, by their names in transformers"
    )
