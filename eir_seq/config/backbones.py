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
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="dropout on what adapters read")
    target_modules: str | list[str] = Field(
        "all-linear", description="published names (or their last parts, or patterns) of layers that get one"
    )
    adapter: str | None = Field(None, description="folder or Hub id of a published adapter to begin with")
    merge: bool = Field(
        False,
        description="put whole weights with the adapters added into the bundle, which then stands alone; by default it "
        "holds the adapters and reads the other weights from the published model",
    )


class SequenceModelConfig(Strict):
    """The backbone of a sequence input."""

    model_type: str = Field(
        description="name in the catalogue, or auto for a type beyond it (named in model_init_config); with "
        "pretrained_model, the folder or Hub id of a published checkpoint"
    )
    pretrained_model: bool = Field(False, description="load published weights")
    freeze_pretrained_model: bool = Field(False, description="keep all loaded weights as they are")
    pretrained_parts: Literal["all", "encoder", "decoder"] = Field(
        "all", description="load published weights for one side of an encoder-decoder only; the other one is fresh"
    )
    resize_token_embeddings: bool = Field(
        False, description="give the loaded model rows for the tokens that its tokenizer has beyond its vocabulary"
    )
    freeze: list[str] = Field(
        [],
        description="published names or patterns of tensors to keep as they are; encoder or decoder for a whole side",
    )
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2"] | None = Field(
        None,
        description="how attention is computed: spelt out, by the kernel that torch chooses (the default where one "
        "serves), by its flash kernel on a GPU in half precision",
    )
    gradient_checkpointing: bool = Field(
        False,
        description="activation checkpointing: training keeps only what stands between layers and computes each layer "
        "twice; the same gradients from far less memory, about a third slower",
    )
    lora: LoraConfig | None = Field(None, description="adapters that are trained in place of the loaded weights")
    revision: str | None = Field(None, description="revision on the Hub")
    pool: Pool = Field("avg", description="how token states become one vector; pooler: the architecture's own")
    model_init_config: dict[str, Any] = Field(
        default_factory=dict, description="options of the architecture, by their documented names"
    )
