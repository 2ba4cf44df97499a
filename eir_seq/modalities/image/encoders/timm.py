"""Image models of the package timm, by name."""

from __future__ import annotations

import importlib
import math
from typing import Any, Self

import torch
from torch import Tensor

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.machine import quiet_hub
from eir_seq.modalities.image.encoders.base import ImageEncoder, Published
from eir_seq.modalities.image.encoders.config import TimmConfig
from eir_seq.modalities.pictures import BICUBIC, BILINEAR, Scaling
from eir_seq.models.output import TokenStates

RESAMPLING = {"nearest": 0, "lanczos": 1, "bilinear": BILINEAR, "bicubic": BICUBIC}
FEATURES = "features"
"""What the model made of a picture, which its own pooling reads."""


class Timm(ImageEncoder):
    """A model without its classifier: states are its last feature map or its tokens, the vector is by its pooling."""

    def __init__(self, model: Any, arguments: dict[str, Any], channels: int, shape: tuple[int, int]) -> None:
        super().__init__()
        self.model, self.arguments = model, arguments
        with torch.no_grad():
            self.model.eval()
            features = self.model.forward_features(torch.zeros(1, channels, *shape))
            self.output_size: int = self.model.forward_head(features, pre_logits=True).shape[-1]
            self.state_size: int = self._states(features).shape[-1]
            self.model.train()

    @classmethod
    def make(cls, fitted: Any) -> Self:
        """See `ImageEncoder.make`; raises `UserError` for arguments that the model does not take."""
        config: TimmConfig = fitted.config.model
        place = f"inputs.{fitted.name}.model"
        timm = _package(config.name, place)
        arguments = {"in_chans": fitted.config.channels, "num_classes": 0, **config.model_init_config}
        known = timm.get_pretrained_cfg(config.name)
        if getattr(known, "fixed_input_size", False):
            arguments.setdefault("img_size", tuple(fitted.shape))
        try:
            model = timm.create_model(config.name, pretrained=False, **arguments)
            return cls(model, arguments, fitted.config.channels, fitted.shape)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(Fault(place, f"timm cannot build {config.name!r} of these options: {reason}")) from error

    @classmethod
    def published(cls, model: TimmConfig, channels: int, place: str) -> Published:
        """How the package prepares pictures for its weights."""
        if not model.pretrained_model:
            return Published()
        known: Any = _package(model.name, place).get_pretrained_cfg(model.name)
        if known is None or not known.has_weights:
            raise UserError(Fault(f"{place}.pretrained_model", f"timm has no weights of {model.name!r}"))
        (_, height, width), share = known.input_size, known.crop_pct or 1.0
        resample = RESAMPLING.get(known.interpolation, BICUBIC)
        scaling = Scaling(height, channels, "crop", math.ceil(height / share), resample, width)
        return Published(scaling, (_of_channels(known.mean, channels), _of_channels(known.std, channels)))

    def load_published(self, weights: str, place: str) -> None:
        """Get the weights from the Hub, through the package; raises `UserError` if that fails."""
        timm = _package(weights, place)
        try:
            with quiet_hub():
                loaded = timm.create_model(weights, pretrained=True, **self.arguments)
        except Exception as error:  # whatever the network, the Hub or the package raises
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise UserError(
                Fault(f"{place}.pretrained_model", f"timm gave no weights of {weights!r}: {reason}")
            ) from error
        self.model.load_state_dict(loaded.state_dict())

    def published_names(self) -> dict[str, str]:
        """Parameter names here by those of the package."""
        return {name.removeprefix("model."): name for name in self.state_dict()}

    def read(self, *, pixel_values: Tensor) -> TokenStates:  # type: ignore[override]  # the tensor by name
        """The last feature map, place by place, or the model's tokens.

        Args:
            pixel_values: (batch, channels, height, width).
        """
        features = self.model.forward_features(pixel_values)
        states = self._states(features)
        mask = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
        return TokenStates(states, mask, {FEATURES: features})

    def pool_tokens(self, tokens: TokenStates) -> Tensor:
        """The vector of each picture, (batch, output_size)."""
        pooled: Tensor = self.model.forward_head(tokens.inputs[FEATURES], pre_logits=True)
        return pooled

    def _states(self, features: Tensor) -> Tensor:
        """Feature maps, channels first or last, or tokens as (batch, places, channels)."""
        if features.dim() != 4:
            return features
        if features.shape[1] == self.model.num_features:
            return features.flatten(2).transpose(1, 2)
        return features.flatten(1, 2)


def _package(name: str, place: str) -> Any:
    """Timm, if it can be imported and has such a model."""
    try:
        timm: Any = importlib.import_module("timm")
    except Exception as error:  # torchvision, which it imports, fails in many ways with another torch
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        message = f"timm cannot be imported ({reason}); it needs a torchvision that fits torch {torch.__version__}"
        raise UserError(Fault(f"{place}.model_type", message)) from error
    if not timm.is_model(name):
        hint = nearest(name, timm.list_models())
        raise UserError(Fault(f"{place}.model_type", f"timm has no model {name!r}{hint}"))
    return timm


def _of_channels(values: Any, channels: int) -> list[float]:
    """Moments of colours for that many channels: their mean for gray, and as for no change of transparency."""
    found = [float(value) for value in values]
    if len(found) == channels:
        return found
    return [sum(found) / len(found)] * channels
