"""Options of git."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from eir_seq.models.families.bert.options import EncoderWithoutSegments, WithPositionKinds
from eir_seq.models.options import ACTIVATIONS, Options, layers, option, rate, size


@dataclass(frozen=True, kw_only=True)
class GitVisionConfig(Options):
    """Options of git's encoder of images."""

    model_type: ClassVar[str] = "git_vision_model"

    hidden_size: int = size(768, "width of the states of patches")
    intermediate_size: int = size(3072, "inner width of the feed-forward block")
    num_hidden_layers: int = layers(12, "number of layers")
    num_attention_heads: int = size(12, "attention heads per layer; they divide hidden_size")
    num_channels: int = size(3, "values per pixel")
    image_size: int = size(224, "pixels of an image from side to side")
    patch_size: int = size(16, "pixels of a patch from side to side")
    hidden_act: str = option("quick_gelu", "activation of the feed-forward block", choices=ACTIVATIONS)
    layer_norm_eps: float = option(1e-5, "added to the variance in layer norms", minimum=0.0)
    attention_dropout: float = rate(0.0, "dropout on attention weights")
    initializer_range: float = option(0.02, "standard deviation of fresh weights (normal distribution)", minimum=0.0)

    @property
    def tokens(self) -> int:
        """Tokens of an image: its patches, and one for the whole."""
        side: int = self.image_size // self.patch_size
        return side**2 + 1

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.hidden_size % self.num_attention_heads:
            yield (
                "hidden_size",
                f"{self.hidden_size} is not divisible by num_attention_heads {self.num_attention_heads}",
            )
        if self.patch_size > self.image_size:
            yield "patch_size", f"{self.patch_size} is more than image_size {self.image_size}"


@dataclass(frozen=True, kw_only=True)
class GitConfig(WithPositionKinds, EncoderWithoutSegments):
    """Options of git: a decoder of texts about an image, or about the frames of a video."""

    model_type: ClassVar[str] = "git"
    parts: ClassVar = {"vision_config": GitVisionConfig}

    vision_config: dict[str, Any] | None = option(None, "options of the encoder of images; its defaults if absent")
    num_hidden_layers: int = layers(6, "number of layers")
    max_position_embeddings: int = size(1024, "rows of the position table: the longest text in tokens")
    use_cache: bool = option(True, "return keys and values")
    tie_word_embeddings: bool = option(False, "one table for token embeddings and the language-model head")
    bos_token_id: int | None = option(101, "id of the token that begins a text")
    eos_token_id: int | None = option(102, "id of the token that ends a text")
    num_image_with_embedding: int | None = size(
        None, "the most frames of a video, each with a vector for its place; images only if absent"
    )

    @property
    def vision(self) -> GitVisionConfig:
        """`vision_config` with its defaults."""
        return GitVisionConfig(**(self.vision_config or {}))

    def position_limit(self) -> int | None:
        if self.position_embedding_type == "absolute":
            return self.max_position_embeddings
        return self.max_position_embeddings - self.vision.tokens * (self.num_image_with_embedding or 1)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if (longest := self.position_limit()) is not None and longest < 1:
            yield "max_position_embeddings", "leaves no place for a text: distances reach over the image too"
