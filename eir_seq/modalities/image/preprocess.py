"""An image input: its pixels, or one token per pixel and the sequence model that reads these."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from eir_seq.config.backbones import SequenceModelConfig
from eir_seq.config.schema import DataConfig
from eir_seq.errors import Fault, UserError
from eir_seq.files import read_json
from eir_seq.modalities.base import (
    LENGTH,
    STATE_FILE,
    TOKENS,
    FittedModality,
    Modality,
    RowSource,
    ragged,
)
from eir_seq.modalities.image.cells import PictureCells, pixels_of, shown, thumbnails
from eir_seq.modalities.image.colours import Colours
from eir_seq.modalities.image.config import ImageInputConfig
from eir_seq.modalities.image.pixels import FittedPixels
from eir_seq.modalities.pictures import BILINEAR, PREPROCESSING, Scaling, picture_in_memory, published_scaling
from eir_seq.modalities.sequence.batches import IDS
from eir_seq.modalities.sequence.tensors.base import TensorSource
from eir_seq.randomness import Draw, generator
from eir_seq.tokenizers.files import TokenizerFiles
from eir_seq.tokenizers.hub import local_folder

if TYPE_CHECKING:
    from eir_seq.modalities.encoders.backbone import SequenceEncoder
    from eir_seq.rows import Rows

SIZE, COLOURS = 32, 512
"""What imagegpt learned from, where the config does not say otherwise."""
CHANNELS = 3
PICTURES_MEASURED, PIXELS_MEASURED = 500, 60_000
"""Of training pictures, and of their pixels together, by which colours are found."""


@dataclass(frozen=True)
class ImageModality(Modality):
    """An image input, as configured."""

    name: str
    config: ImageInputConfig

    @classmethod
    def load(cls, folder: Path) -> FittedImage | FittedPixels:
        """What was saved of an input of either kind."""
        has_colours = "colours" in read_json(folder / STATE_FILE)
        return FittedImage.load(folder) if has_colours else FittedPixels.load(folder)

    @property
    def cells(self) -> PictureCells:
        """How its column is read and checked."""
        return PictureCells(self.name, self.config)

    def fit(self, train_rows: Rows, seed: int) -> FittedImage | FittedPixels:
        """Find the colours of the training pictures where they become tokens; else how pixels are standardized.

        Raises `UserError` for pictures that are broken inside, and for a pretrained model whose files do not tell its
        colours, or that does not fit the pictures.
        """
        config = self.config
        if config.model.backbone is None:
            return FittedPixels.fit(self.name, config, train_rows)
        if config.model.backbone.pretrained_model:
            return self._published(config.model.backbone)
        assert isinstance(config.size, int | None), "rules"
        assert config.resize != "random-crop", "rules"
        scaling = Scaling(config.size or SIZE, CHANNELS, config.resize or "squeeze", resample=BILINEAR)
        step = max(1, train_rows.num_rows // PICTURES_MEASURED)
        cells = train_rows.select(range(0, train_rows.num_rows, step))[config.column]
        random = generator(seed, "colours", self.name)
        share = max(1, PIXELS_MEASURED // len(cells))
        pixels = []
        for cell in cells:
            flat = pixels_of(cell, scaling, config.column).reshape(-1, CHANNELS)
            pixels.append(flat if len(flat) <= share else flat[random.choice(len(flat), share, replace=False)])
        return FittedImage(
            self.name, config, scaling, Colours.fit(np.concatenate(pixels), config.colours or COLOURS, random)
        )

    def _published(self, model: SequenceModelConfig) -> FittedImage:
        files = TokenizerFiles(local_folder(model.model_type, allow_patterns=[PREPROCESSING], revision=model.revision))
        if not files.has(PREPROCESSING):
            message = f"has no {PREPROCESSING}, which holds the model's palette"
            raise UserError(Fault(f"inputs.{self.name}.model.model_type", f"{model.model_type!r} {message}"))
        content, place = files.json(PREPROCESSING), str(files.folder / PREPROCESSING)
        given = content.get("size", SIZE)
        size = given.get("height") if isinstance(given, Mapping) else given
        if not isinstance(size, int) or size < 1:
            raise UserError(Fault(place, f"size {given!r} is not a number of pixels"))
        scaling = published_scaling({"resample": BILINEAR, **content}, size, CHANNELS, place)
        return FittedImage(self.name, self.config, scaling, Colours.published(content.get("clusters"), CHANNELS, place))


@dataclass(frozen=True)
class ColourTokens:
    """What a backbone has to know about the tokens: colours from 0 on, then the one that begins every picture."""

    colours: int
    pad_id = eos_id = sep_id = cls_id = mask_id = unk_id = None

    @property
    def vocab_size(self) -> int:
        """Colours and the token that begins a picture."""
        return self.colours + 1

    @property
    def bos_id(self) -> int:
        """The token that begins a picture."""
        return self.colours


@dataclass
class FittedImage(FittedModality):
    """An image input with its colours.

    A picture is the token that begins every picture and all pixels but the last, line by line, as in imagegpt's
    pretraining: the last one is only predicted there.
    """

    name: str
    config: ImageInputConfig
    scaling: Scaling
    colours: Colours
    backbone: Mapping[str, Any] | None = None

    vocabulary_key, length_key = "colours", "size"
    sources: ClassVar[Mapping[str, TensorSource]] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """The column of file names."""
        return (self.config.column,)

    def in_memory(self, column: str, value: Any) -> Any:
        """Pictures as the bytes of files."""
        del column
        return picture_in_memory(value)

    @property
    def cells(self) -> PictureCells:
        """How its column is read and checked."""
        return PictureCells(self.name, self.config)

    @property
    def tokenizer(self) -> ColourTokens:
        """What a backbone has to know about the tokens."""
        return ColourTokens(len(self.colours))

    @property
    def max_length(self) -> int:
        """Tokens of a picture."""
        return self.scaling.size**2

    @property
    def collator(self) -> ColourCollator:
        """Prepends the token that begins a picture."""
        return ColourCollator(self.tokenizer.bos_id)

    def fingerprint(self) -> str:
        """Hash of how pictures are scaled and of the colours."""
        state = json.dumps([vars(self.scaling), self.colours.centres])
        return hashlib.sha256(f"image {self.config.column} {state}".encode()).hexdigest()

    def encode(self, rows: Mapping[str, Sequence[str]]) -> dict[str, pa.Array]:
        """The colours of the pixels of each picture, line by line.

        Raises `UserError` for pictures that are broken inside.
        """
        column = self.config.column
        numbers = [self.colours.numbers(pixels_of(cell, self.scaling, column)).reshape(-1) for cell in rows[column]]
        lengths = pa.array(np.full(len(numbers), self.max_length, np.int32))
        return {IDS: ragged(numbers), TOKENS: lengths, LENGTH: lengths}

    def show(self, rows: Mapping[str, Sequence[str]]) -> list[str]:
        """The names of the files."""
        return [shown(cell) for cell in rows[self.config.column]]

    def thumbnails(self, rows: Mapping[str, Sequence[str]]) -> list[bytes]:
        """The pictures themselves."""
        return thumbnails(rows[self.config.column])

    def describe(self) -> dict[str, Any]:
        """Size and colours."""
        return {
            "type": "image",
            "column": self.config.column,
            "size": self.scaling.size,
            "resize": self.scaling.resize,
            "colours": len(self.colours),
        }

    def build_encoder(self, data: DataConfig, *, pretrained: bool = True, task: str | None = None) -> SequenceEncoder:
        """The backbone with its pooling; raises `UserError` if the model does not fit the pictures."""
        from eir_seq.modalities.encoders.backbone import build_sequence_encoder

        encoder = build_sequence_encoder(self, data, pretrained=pretrained, task=task)
        assert self.config.model.backbone is not None
        if self.config.model.backbone.pretrained_model:
            self.backbone = encoder.describe_backbone()
        return encoder

    def save(self, folder: str | Path) -> None:
        """Write ``input.json`` into `folder`, which is made if absent."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "type": "image",
            "name": self.name,
            "config": self.config.model_dump(mode="json"),
            "scaling": vars(self.scaling),
            "colours": self.colours.centres,
            "backbone": None if self.backbone is None else dict(self.backbone),
        }
        (folder / STATE_FILE).write_text(json.dumps(state) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> FittedImage:
        """What `save` wrote; raises `UserError` if it is missing or damaged."""
        path = Path(folder) / STATE_FILE
        try:
            state = read_json(path)
            return cls(
                state["name"],
                ImageInputConfig.model_validate(state["config"]),
                Scaling(**state["scaling"]),
                Colours(state["colours"]),
                state["backbone"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(Fault(str(path), f"no fitted image input ({type(error).__name__}: {error})")) from None


@dataclass(frozen=True)
class ColourCollator:
    """Colours of pixels to tensors; `begin` precedes each picture."""

    begin: int

    def __call__(self, encoded: RowSource, rows: Sequence[int], draw: Draw) -> dict[str, Tensor]:  # noqa: ARG002
        """`input_ids` and `attention_mask`, ``(batch, pixels)``; the mask is True."""
        numbers = np.stack(encoded.sequences(IDS, rows)).astype(np.int64)
        ids = np.concatenate([np.full((len(rows), 1), self.begin, np.int64), numbers[:, :-1]], axis=1)
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.ones(ids.shape, dtype=torch.bool)}
