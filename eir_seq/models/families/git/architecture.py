"""Git (https://arxiv.org/abs/2205.14100)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import Stack, StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.bert.architecture import bert_attention, bert_embeddings, bert_layer, bert_rows
from eir_seq.models.families.git.options import GitConfig, GitVisionConfig
from eir_seq.models.families.git.prefixed import PrefixedAttention, PrefixedPlan
from eir_seq.models.families.luke.architecture import in_stack
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.position_ids import ArangePositionIds
from eir_seq.models.layers.residual import LayerPlan, PreNorm


class PatchEmbeddings(nn.Module):
    """A vector for the whole image, then one for each of its patches, with their places and a norm."""

    @dataclass(frozen=True)
    class Config:
        """The options of the encoder of images."""

        options: GitVisionConfig

        @property
        def hidden_size(self) -> int:
            """Width of the states."""
            return self.options.hidden_size

        @property
        def features(self) -> tuple[str, ...]:
            """None."""
            return ()

        def build(self) -> PatchEmbeddings:
            """The tables."""
            return PatchEmbeddings(self.options)

    numbering = ArangePositionIds()

    def __init__(self, c: GitVisionConfig) -> None:
        super().__init__()
        self.c = c
        self.whole = nn.Parameter(torch.zeros(c.hidden_size))
        self.patches = nn.Conv2d(c.num_channels, c.hidden_size, c.patch_size, stride=c.patch_size, bias=False)
        self.positions = nn.Embedding(c.tokens, c.hidden_size)
        self.norm = LayerNorm.Config(eps=c.layer_norm_eps).build(c.hidden_size)

    def of_pixels(self, pixels: Tensor, *, interpolate: bool) -> Tensor:
        """(batch, channels, height, width) -> (batch, 1 + patches, hidden).

        `interpolate`: places of patches follow from the image's size; else that is `image_size` on both sides.

        Raises:
            ValueError: images of another size, or with another number of channels.
        """
        side, (channels, *size) = self.c.image_size, pixels.shape[1:]
        if channels != self.c.num_channels or not (interpolate or size == [side, side]):
            wanted = (self.c.num_channels, side, side)
            raise ValueError(f"images of pixel_values have the shape {(channels, *size)}, the options say {wanted}")
        found = self.patches(pixels.to(self.patches.weight.dtype))
        places = self.positions.weight
        if size != [side, side]:
            edge = side // self.c.patch_size
            grid = places[1:].unflatten(0, (edge, edge)).permute(2, 0, 1)[None]
            grid = F.interpolate(grid, size=found.shape[2:], mode="bicubic", align_corners=False)
            places = torch.cat((places[:1], grid[0].flatten(1).t()))
        whole = self.whole.expand(pixels.shape[0], 1, -1)
        return torch.cat((whole, found.flatten(2).transpose(1, 2)), 1) + places

    def forward(self, ids: None, vectors: Tensor, *_: Any) -> Tensor:  # noqa: ARG002
        """What `of_pixels` gives -> the first states; called as embeddings are."""
        normed: Tensor = self.norm(vectors)
        return normed


class ImagePrefix(nn.Module):
    """Encoded images, or the frames of videos one behind the other, as tokens in front of a text."""

    @dataclass(frozen=True)
    class Config:
        """The options of the architecture."""

        options: GitConfig

        @property
        def features(self) -> tuple[str, ...]:
            """The pixels, and whether images may have another size."""
            return "pixel_values", "interpolate_pos_encoding"

        def build(self) -> ImagePrefix:
            """The projection."""
            return ImagePrefix(self.options)

    def __init__(self, c: GitConfig) -> None:
        super().__init__()
        width = c.vision.hidden_size
        self.project = Linear(width, c.hidden_size)
        self.norm = LayerNorm.Config(eps=c.vision.layer_norm_eps).build(c.hidden_size)
        self.frames = nn.ParameterList(torch.zeros(1, 1, width) for _ in range(c.num_image_with_embedding or 0))

    def forward(self, features: dict[str, Any], encoder: Stack) -> Tensor | None:
        """`pixel_values` (batch, channels, height, width) or, of videos, (batch, frames, channels, height, width).

        Raises:
            ValueError: another shape, or more frames than `num_image_with_embedding`.
        """
        pixels: Tensor | None = features.get("pixel_values")
        if pixels is None:
            return None
        if pixels.dim() not in (4, 5):
            raise ValueError(f"pixel_values have {pixels.dim()} dimensions; images have 4 and videos 5")
        images = pixels if pixels.dim() == 4 else pixels.flatten(0, 1)
        first = encoder.embeddings.of_pixels(images, interpolate=bool(features.get("interpolate_pos_encoding")))
        x: Tensor = encoder(inputs_embeds=first).last_hidden_state
        if pixels.dim() == 5:
            count = pixels.shape[1]
            if count > len(self.frames):
                raise ValueError(f"videos have {count} frames, num_image_with_embedding is {len(self.frames)}")
            places = torch.cat(tuple(self.frames)[:count])
            x = (x.unflatten(0, (-1, count)) + places).flatten(1, 2)
        projected: Tensor = self.norm(self.project(x))
        return projected


def vision_plan(c: GitVisionConfig) -> StackPlan:
    """An encoder of patches with norms in front of the sublayers and on both ends."""
    layer = LayerPlan(
        residual=PreNorm,
        hidden_size=c.hidden_size,
        norm=LayerNorm.Config(eps=c.layer_norm_eps),
        mixer=Attention.Config(hidden_size=c.hidden_size, num_heads=c.num_attention_heads, dropout=c.attention_dropout),
        mlp=Mlp.Config(hidden_size=c.hidden_size, inner_size=c.intermediate_size, activation=c.hidden_act),
    )
    return StackPlan(
        embeddings=PatchEmbeddings.Config(c),
        layers=(layer,) * c.num_hidden_layers,
        final_norm=LayerNorm.Config(eps=c.layer_norm_eps),
    )


def git_plan(c: GitConfig) -> PrefixedPlan:
    """Bert's layers as a decoder, behind the tokens of an image."""
    mixer = PrefixedAttention.Config(**{**vars(bert_attention(c)), "causal": True})
    return PrefixedPlan(
        embeddings=bert_embeddings(c),
        prefix=ImagePrefix.Config(c),
        encoder=vision_plan(c.vision),
        layers=(bert_layer(c, mixer=mixer),) * c.num_hidden_layers,
        cached=c.use_cache,
    )


VISION = "image_encoder.vision_model."
LAYER, OURS = VISION + "encoder.layers.{i}.", "encoder.layers.{i}."


def git_rows(c: GitConfig) -> Iterator[Row]:
    """Bert's key table, and those of the encoder of images and of what it hands over."""
    yield from in_stack(bert_rows(c), "decoder")
    yield Same(VISION + "embeddings.class_embedding", "encoder.embeddings.whole")
    yield Same(VISION + "embeddings.patch_embedding", "encoder.embeddings.patches")
    yield Same(VISION + "embeddings.position_embedding", "encoder.embeddings.positions")
    yield Same(VISION + "pre_layrnorm", "encoder.embeddings.norm")
    yield from for_layers(
        c.vision.num_hidden_layers,
        Same(LAYER + "layer_norm1", OURS + "mixer_norm"),
        Same(LAYER + "self_attn.q_proj", OURS + "mixer.query"),
        Same(LAYER + "self_attn.k_proj", OURS + "mixer.key"),
        Same(LAYER + "self_attn.v_proj", OURS + "mixer.value"),
        Same(LAYER + "self_attn.out_proj", OURS + "mixer.out"),
        Same(LAYER + "layer_norm2", OURS + "mlp_norm"),
        Same(LAYER + "mlp.fc1", OURS + "mlp.up"),
        Same(LAYER + "mlp.fc2", OURS + "mlp.down"),
    )
    yield Same(VISION + "post_layernorm", "encoder.final_norm")
    yield Same("visual_projection.visual_projection.0", "embeddings.prefix.project")
    yield Same("visual_projection.visual_projection.1", "embeddings.prefix.norm")
    yield from for_layers(
        c.num_image_with_embedding or 0, Same("img_temporal_embedding.{i}", "embeddings.prefix.frames.{i}")
    )


def caption(c: GitConfig) -> LanguageModel.Config:
    """Scores over the vocabulary with a bias."""
    return LanguageModel.Config(
        predicts="next", hidden_size=c.hidden_size, vocab_size=c.vocab_size, tied=c.tie_word_embeddings, bias=True
    )


GIT = Architecture(
    tasks=declare_tasks(
        "Git",
        "git",
        git_plan,
        git_rows,
        {
            "causal-lm": TaskHead(
                "ForCausalLM", caption, (Same("output.weight", "out.weight"), Same("output.bias", "bias"))
            )
        },
    ),
    prefixes=("git",),
    initialization=lambda c: Initialization(
        c.initializer_range, {"*.prefix.frames.*": 0.0, "body.encoder.*": c.vision.initializer_range}
    ),
)
