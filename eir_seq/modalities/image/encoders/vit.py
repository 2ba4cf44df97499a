"""Vision transformer (https://arxiv.org/abs/2010.11929), whose published weights load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.errors import Fault, UserError
from eir_seq.modalities.image.encoders.base import ImageEncoder, Published, load_exactly
from eir_seq.modalities.image.encoders.config import VitConfig, VitOptions
from eir_seq.modalities.image.encoders.resnet import check_channels
from eir_seq.modalities.pictures import (
    BILINEAR,
    PREPROCESSING,
    Scaling,
    published_moments,
    published_scaling,
)
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.folder import locate, read_config, read_json_object, read_tensors
from eir_seq.models.checkpoint.keymap import LEAVES, Same, for_layers
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.positions.position_ids import ArangePositionIds
from eir_seq.models.layers.residual import LayerPlan, PreNorm
from eir_seq.models.output import TokenStates

SPARE = ("classifier.*", "pooler.*", "decoder.*", "embeddings.mask_token")
"""Published tensors outside the encoder: of heads, and of pretraining."""
PREFIX = "vit."
POSITIONS = "embeddings.position_embeddings"
LAYER, NATIVE = "encoder.layer.{i}.", "body.layers.{i}."


class PatchEmbeddings(nn.Module):
    """A token for the whole picture, then one for each of its patches, line by line, with their places."""

    @dataclass(frozen=True)
    class Config:
        """The options, values per pixel, and rows and columns of patches."""

        options: VitOptions
        channels: int
        grid: tuple[int, int]
        features: ClassVar[tuple[str, ...]] = ()

        @property
        def hidden_size(self) -> int:
            """Width of the states."""
            return self.options.hidden_size

        def build(self) -> PatchEmbeddings:
            """The module."""
            return PatchEmbeddings(self)

    numbering = ArangePositionIds()

    def __init__(self, config: Config) -> None:
        super().__init__()
        size, side = config.hidden_size, config.options.patch_size
        self.whole = nn.Parameter(torch.zeros(1, 1, size))
        self.patches = nn.Conv2d(config.channels, size, side, stride=side)
        self.positions = nn.Parameter(torch.zeros(1, 1 + config.grid[0] * config.grid[1], size))
        self.dropout = Dropout(config.options.hidden_dropout_prob)

    def of_pixels(self, pixels: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, 1 + patches, hidden)."""
        found = self.patches(pixels).flatten(2).transpose(1, 2)
        return torch.cat((self.whole.expand(len(pixels), -1, -1), found), 1) + self.positions

    def forward(self, ids: None, vectors: Tensor, *_: Any) -> Tensor:  # noqa: ARG002
        """What `of_pixels` gives -> the first states; called as embeddings are."""
        dropped: Tensor = self.dropout(vectors)
        return dropped


class Vit(ImageEncoder):
    """A pre-norm encoder of patches, with a norm at the end.

    Example:
        >>> options = VitOptions(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
        >>> encoder = Vit(options, channels=3, shape=(32, 48))
        >>> encoder.read(pixel_values=torch.zeros(1, 3, 32, 48)).states.shape
        torch.Size([1, 7, 8])
    """

    def __init__(self, options: VitOptions, channels: int, shape: tuple[int, int], pool: str = "first") -> None:
        super().__init__()
        side, size = options.patch_size, options.hidden_size
        self.grid = (shape[0] // side, shape[1] // side)
        self.options, self.pool = options, pool
        self.state_size = self.output_size = size
        norm = LayerNorm.Config(eps=options.layer_norm_eps)
        mixer = Attention.Config(
            hidden_size=size,
            num_heads=options.num_attention_heads,
            bias=options.qkv_bias,
            dropout=options.attention_probs_dropout_prob,
        )
        mlp = Mlp.Config(hidden_size=size, inner_size=options.intermediate_size, activation=options.hidden_act)
        layer = LayerPlan(
            residual=PreNorm,
            hidden_size=size,
            norm=norm,
            mixer=mixer,
            mlp=mlp,
            dropout=options.hidden_dropout_prob,
        )
        plan = StackPlan(
            embeddings=PatchEmbeddings.Config(options, channels, self.grid),
            layers=(layer,) * options.num_hidden_layers,
            final_norm=norm,
        )
        self.body = plan.build()
        Initialization(options.initializer_range).fill(self.body)

    @classmethod
    def make(cls, fitted: Any) -> Self:
        """See `ImageEncoder.make`; options of published weights are those that were read when the input was fitted.

        Raises:
            UserError: the published patches do not fill pictures of that size.
        """
        model: VitConfig = fitted.config.model
        options = VitOptions(**fitted.options) if fitted.options else model.model_init_config
        side = options.patch_size
        if fitted.shape[0] % side or fitted.shape[1] % side:
            shape = " x ".join(map(str, fitted.shape))
            message = f"{shape} pixels are not divisible into patches of {side}, as those of the published model are"
            raise UserError(Fault(f"inputs.{fitted.name}.size", message))
        return cls(options, fitted.config.channels, fitted.shape, model.pool)

    @classmethod
    def published(cls, model: VitConfig, channels: int, place: str) -> Published:
        """Options of the folder's ``config.json``, and how its ``preprocessor_config.json`` prepares pictures."""
        if model.weights is None:
            return Published()
        here = f"{place}.weights"
        folder = _located(model.weights, here)
        content = read_config(folder)
        if content["model_type"] != "vit":
            raise UserError(Fault(here, f"{model.weights} is a {content['model_type']!r}, not a 'vit'"))
        check_channels(channels, content.get("num_channels", 3), here)
        given = {key: content[key] for key in VitOptions.model_fields if key in content}
        given |= model.model_init_config.model_dump(include=model.model_init_config.model_fields_set)
        try:
            options = VitOptions.model_validate(given)
        except ValidationError as error:
            wrong = "; ".join(f"{entry['loc'][0]} {entry['input']!r}: {entry['msg']}" for entry in error.errors())
            raise UserError(Fault(str(folder / "config.json"), wrong)) from None
        size = content.get("image_size", 224)
        if not isinstance(size, int) or size < options.patch_size:
            raise UserError(Fault(str(folder / "config.json"), f"image_size {size!r} is not a number of pixels"))
        scaling = Scaling(size, channels, "squeeze", resample=BILINEAR)
        moments = ([0.5] * channels, [0.5] * channels)
        path = folder / PREPROCESSING
        if path.is_file():
            prepared = {"resample": BILINEAR, **read_json_object(path)}
            scaling = published_scaling(prepared, size, channels, str(path))
            moments = published_moments(prepared, channels, str(path)) or moments
        return Published(scaling, moments, options.model_dump())

    def load_published(self, weights: str, place: str) -> None:
        """Load a folder's weights; places of patches are interpolated where pictures have another size."""
        here = f"{place}.weights"
        found = {name.removeprefix(PREFIX): x for name, x in read_tensors(_located(weights, here)).items()}
        if (positions := found.get(POSITIONS)) is not None:
            found[POSITIONS] = resized(positions, self.grid)
        kind = "a ViT with the options of its config.json"
        load_exactly(self, found, here, weights, kind=kind, spare=SPARE)

    def published_names(self) -> dict[str, str]:
        """Parameter names here by those of transformers."""
        own = self.state_dict()
        return {
            row.published + leaf: row.native + leaf
            for row in _rows(self.options.num_hidden_layers)
            for leaf in LEAVES
            if row.native + leaf in own
        }

    def read(self, *, pixel_values: Tensor) -> TokenStates:  # type: ignore[override]  # the tensor by name
        """States of the whole picture and of each patch, (batch, 1 + patches, hidden).

        Args:
            pixel_values: (batch, channels, height, width).
        """
        first = self.body.embeddings.of_pixels(pixel_values)
        states: Tensor = self.body(inputs_embeds=first).last_hidden_state
        return TokenStates(states, torch.ones(states.shape[:2], dtype=torch.bool, device=states.device))

    def pool_tokens(self, tokens: TokenStates) -> Tensor:
        """The first state, or the mean of those of patches, (batch, hidden)."""
        return tokens.states[:, 0] if self.pool == "first" else tokens.states[:, 1:].mean(dim=1)


def resized(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Places (1, 1 + side * side, hidden) of a square of patches for a `grid` of (rows, columns), by interpolation."""
    side = round((positions.shape[1] - 1) ** 0.5)
    if (side, side) == grid or side**2 != positions.shape[1] - 1:
        return positions
    square = positions[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    found = F.interpolate(square, size=grid, mode="bicubic", align_corners=False)
    return torch.cat((positions[:, :1], found.flatten(2).transpose(1, 2)), 1)


def _located(weights: str, place: str) -> Path:
    try:
        return locate(weights)
    except UserError as error:
        raise UserError(*(fault.under(place) for fault in error.faults)) from error


def _rows(layers: int) -> Iterator[Any]:
    yield Same("embeddings.cls_token", "body.embeddings.whole")
    yield Same(POSITIONS, "body.embeddings.positions")
    yield Same("embeddings.patch_embeddings.projection", "body.embeddings.patches")
    yield from for_layers(
        layers,
        Same(LAYER + "layernorm_before", NATIVE + "mixer_norm"),
        Same(LAYER + "attention.attention.query", NATIVE + "mixer.query"),
        Same(LAYER + "attention.attention.key", NATIVE + "mixer.key"),
        Same(LAYER + "attention.attention.value", NATIVE + "mixer.value"),
        Same(LAYER + "attention.output.dense", NATIVE + "mixer.out"),
        Same(LAYER + "layernorm_after", NATIVE + "mlp_norm"),
        Same(LAYER + "intermediate.dense", NATIVE + "mlp.up"),
        Same(LAYER + "output.dense", NATIVE + "mlp.down"),
    )
    yield Same("layernorm", "body.final_norm")
