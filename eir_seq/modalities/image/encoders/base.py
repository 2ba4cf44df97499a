"""What encoders of pictures share: what published weights say, loading them, and freezing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from eir_seq.config.schema import DataConfig
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.modalities.encoders.base import Encoder
from eir_seq.modalities.pictures import Scaling
from eir_seq.models.output import TokenStates

COUNTER = "num_batches_tracked"
"""End of the names of buffers that torch before 1.0 did not write, and that evaluation does not read."""


@dataclass(frozen=True)
class Published:
    """What published weights say of the pictures that they were trained on, and of the model.

    Attributes:
        scaling: how pictures become pixels.
        moments: mean and standard deviation of each channel, from 0 to 1.
        options: of the model, as plain data; a bundle keeps them, and builds the model without the weights' files.
    """

    scaling: Scaling | None = None
    moments: tuple[list[float], list[float]] | None = None
    options: dict[str, Any] = field(default_factory=dict)


class ImageEncoder(Encoder):
    """`pixel_values` (batch, channels, height, width) to states of places in the picture, and to a vector.

    What is `frozen`, modules of the encoder or all of it, stays in evaluation mode: no dropout, no new statistics.
    """

    frozen: tuple[nn.Module, ...] = ()

    @classmethod
    def build(cls, fitted: Any, data: DataConfig, *, pretrained: bool = True, task: str | None = None) -> Self:
        """See `Encoder.build`; loads and freezes what the config says."""
        del data
        assert task is None, "rules keep outputs with a task from other encoders"
        encoder = cls.make(fitted)
        model, place = fitted.config.model, f"inputs.{fitted.name}.model"
        if getattr(model, "published", None) is not None:
            if pretrained:
                encoder.load_published(model.published, place)
            patterns = ["*"] if model.freeze_pretrained_model else model.freeze
            encoder.frozen = frozen(encoder, encoder.published_names(), patterns, f"{place}.freeze")
            encoder.train()
        return encoder

    @classmethod
    def make(cls, fitted: Any) -> Self:
        """The encoder with fresh weights: called as ``(options, channels, (height, width))``."""
        make: Any = cls
        encoder: Self = make(fitted.config.model.model_init_config, fitted.config.channels, fitted.shape)
        return encoder

    @classmethod
    def published(cls, model: Any, channels: int, place: str) -> Published:
        """What the published weights say that the config `model` names.

        Args:
            model: the config of the encoder.
            channels: values per pixel that the input has.
            place: config path of the model.

        Raises:
            UserError: there are none, or they read other pictures.
        """
        del model, channels, place
        return Published()

    def load_published(self, weights: str, place: str) -> None:
        """Load the weights that the config names; raises `UserError` if they are of another architecture."""
        raise NotImplementedError

    def published_names(self) -> dict[str, str]:
        """The names of the tensors of this encoder by their published names."""
        return {name: name for name in self.state_dict()}

    def train(self, mode: bool = True) -> Self:
        """Training mode for all but what is frozen."""
        super().train(mode)
        for module in self.frozen:
            nn.Module.train(module, mode=False)  # the encoder itself may be among them
        return self


def feature_states(maps: Tensor) -> TokenStates:
    """Feature maps (batch, channels, height, width) as states (batch, height * width, channels)."""
    states = maps.flatten(2).transpose(1, 2)
    return TokenStates(states, torch.ones(states.shape[:2], dtype=torch.bool, device=states.device))


def frozen(model: nn.Module, names: Mapping[str, str], patterns: Sequence[str], place: str) -> tuple[nn.Module, ...]:
    """Keep parameters as they are, in place; returns the modules all of whose parameters are kept.

    Args:
        model: the encoder.
        names: of its tensors, by published names.
        patterns: published names of tensors or modules, or patterns.
        place: config path of the patterns.

    Raises:
        UserError: a pattern that fits nothing.
    """
    parameters = dict(model.named_parameters())
    known = {name: parameters[native] for name, native in names.items() if native in parameters}
    modules = {name[:end] for name in known for end, sign in enumerate(name) if sign == "."}
    faults = []
    for pattern in patterns:
        found = [x for name, x in known.items() if fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")]
        if not found:
            message = f"{pattern!r} fits no tensor{nearest(pattern, [*sorted(modules), *known])}"
            faults.append(Fault(place, message))
        for parameter in found:
            parameter.requires_grad_(False)
    if faults:
        raise UserError(*faults)
    return tuple(module for module in model.modules() if _is_kept(module))


def _is_kept(module: nn.Module) -> bool:
    own = list(module.parameters())
    return bool(own) and not any(parameter.requires_grad for parameter in own)


def load_exactly(
    model: ImageEncoder,
    tensors: Mapping[str, Tensor],
    place: str,
    source: str,
    *,
    kind: str,
    spare: Sequence[str] = (),
) -> None:
    """Load tensors by their published names, every one of them.

    Args:
        model: takes all of them.
        tensors: of a file.
        place: config path that names the file.
        source: the file or folder.
        kind: what the model is, for messages.
        spare: patterns of tensors of the file that the model does not read, such as those of a classifier.

    Raises:
        UserError: tensors are missing, unknown, or of another shape: weights of another architecture.
    """
    names, state = model.published_names(), model.state_dict()
    own = {name: state[native] for name, native in names.items()}
    given = {name: x for name, x in tensors.items() if not any(fnmatchcase(name, pattern) for pattern in spare)}
    if problem := next(_differences(own, given), None):
        raise UserError(Fault(place, f"{source} holds no weights of {kind}: {problem}"))
    model.load_state_dict({native: given.get(name, state[native]) for name, native in names.items()})


def _differences(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Iterator[str]:
    missing = [name for name in own if name not in given and not name.endswith(COUNTER)]
    unknown = [name for name in given if name not in own]
    if missing or unknown:
        lists = {"missing": missing, "unknown": unknown}
        yield ", ".join(f"{len(names)} {what} tensors ({names[0]})" for what, names in lists.items() if names)
    for name, x in given.items():
        if name in own and x.shape != own[name].shape:
            yield f"{name!r} has the shape {tuple(x.shape)}, not {tuple(own[name].shape)}"
        elif not bool(torch.isfinite(x).all()):
            yield f"{name!r} holds values that are not finite"


def weights_of(path: str) -> dict[str, Tensor]:
    """The tensors of a file, pickled (tensors alone are read) or safetensors; raises `UserError` if it has none."""
    from eir_seq.models.checkpoint.folder import read_pickled, read_safetensors

    file = Path(path).expanduser()
    return read_safetensors(file) if file.suffix == ".safetensors" else read_pickled(file)
