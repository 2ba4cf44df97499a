"""Images and videos as tokens before a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.backbones.stack import Stack
from eir_seq.models.families.git.options import GitConfig, GitVisionConfig
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.position_ids import ArangePositionIds


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
    """Encoded images, or the frames of videos one after the other, as tokens before a text."""

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
