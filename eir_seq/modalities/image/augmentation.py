"""Random changes of training pictures, by kornia."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from eir_seq.modalities.image.config import AugmentationConfig

WIDE: list[tuple[str, float, float]] = [
    ("auto_contrast", 0.0, 1.0),
    ("equalize", 0.0, 1.0),
    ("rotate", -135.0, 135.0),
    ("solarize", 0.0, 1.0),
    ("color", 0.01, 2.0),
    ("posterize", 2.0, 8.0),
    ("contrast", 0.01, 2.0),
    ("brightness", 0.01, 2.0),
    ("sharpness", 0.01, 2.0),
    ("shear_x", -0.248, 0.248),
    ("shear_y", -0.248, 0.248),
    ("translate_x", -1 / 7, 1 / 7),
    ("translate_y", -1 / 7, 1 / 7),
]
"""Operations and ranges of TrivialAugment (wide) besides doing nothing (https://arxiv.org/abs/2103.10158, table 5).

Kornia counts shears in units of 180 degrees (0.248: 44.7 degrees, whose tangent is the published 0.99) and translations
relative to the size (1/7: the published 32 pixels of 224).
"""


def augmented(pixels: Tensor, config: AugmentationConfig, seeds: Sequence[int]) -> Tensor:
    """Pictures changed at random, each by its own seed, whatever else is in the batch.

    Args:
        pixels: (batch, channels, height, width), from 0 to 1.
        config: which changes.
        seeds: one for each picture.

    Returns:
        The same shape, from 0 to 1.
    """
    change = _changes(config)
    found = []
    with torch.random.fork_rng(devices=[]):
        for picture, seed in zip(pixels, seeds, strict=True):
            torch.manual_seed(seed)
            found.append(change(picture[None]))
    return torch.cat(found).clamp(0, 1)


@lru_cache(maxsize=8)
def _changes(config: AugmentationConfig) -> Callable[[Tensor], Tensor]:
    import kornia.augmentation as kornia
    from kornia.augmentation.auto import RandAugment, TrivialAugment

    steps: list[Callable[[Tensor], Tensor]] = []
    if config.horizontal_flip:
        steps.append(kornia.RandomHorizontalFlip(p=config.horizontal_flip))
    if config.vertical_flip:
        steps.append(kornia.RandomVerticalFlip(p=config.vertical_flip))
    if config.policy == "trivial":
        operation = TrivialAugment(policy=[[entry] for entry in WIDE])
        steps.append(lambda x: x if torch.rand(()) < 1 / (len(WIDE) + 1) else operation(x))
    elif config.policy == "rand":
        steps.append(RandAugment(n=config.operations, m=config.magnitude))

    def change(picture: Tensor) -> Tensor:
        gray = picture.shape[1] == 1 and config.policy != "none"  # operations on colors take three channels
        x = picture.expand(-1, 3, -1, -1) if gray else picture
        for step in steps:
            x = step(x)
        return x[:, :1] if gray else x

    return change
