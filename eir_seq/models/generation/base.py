"""What generation requires of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from eir_seq.models.architecture import Task
    from eir_seq.models.heads.base import Head
    from eir_seq.models.options import ModelConfig


class GeneratingModel(nn.Module):
    """A model of a task that predicts next tokens; see `eir_seq.models.model.Model` for its attributes."""

    body: Any
    head: Head | None
    config: ModelConfig
    task: str
    declared: Task
    features: tuple[str, ...]
    generation_config: dict[str, Any]

    @property
    def device(self) -> torch.device:
        """Where the model is; spread over several devices, where it takes its inputs."""
        return next(self.parameters()).device
