"""Fresh weights by transformers' scheme of an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from eir_seq.models.layers.norms.layer_norm import HeadNorm
from eir_seq.models.layers.positions.absolute import SinusoidalPositions


@dataclass(frozen=True)
class Initialization:
    """Weights of linear layers and tables are normal with standard deviation `std`, norms are one, biases zero.

    `stds`: other ones for parameters whose name (native) matches a pattern; the first match counts.
    """

    std: float
    stds: Mapping[str, float] = field(default_factory=dict)

    @torch.no_grad()
    def fill(self, model: nn.Module, only: set[str] | None = None) -> None:
        """Set the parameters of `model`, or those named in `only`, in place; one with several names by the first."""
        done: set[Tensor] = set()
        for prefix, module in model.named_modules():
            for leaf, parameter in module.named_parameters(prefix, recurse=False):
                if parameter not in done and (only is None or leaf in only):
                    done.add(parameter)
                    self._set(module, leaf, parameter)

    def _set(self, module: nn.Module, name: str, parameter: Tensor) -> None:
        leaf = name.rpartition(".")[2]
        if isinstance(module, SinusoidalPositions):
            parameter.copy_(module.sinusoids(torch.arange(module.num_embeddings), module.embedding_dim))
        elif leaf == "bias":
            parameter.zero_()
        elif leaf == "weight" and (parameter.dim() == 1 or isinstance(module, HeadNorm)):
            parameter.fill_(1.0)
        else:
            matches = (std for pattern, std in self.stds.items() if fnmatchcase(name, pattern))
            parameter.normal_(0.0, next(matches, self.std))
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                parameter[module.padding_idx].zero_()
