"""How the losses of several outputs become one: by fixed weights, uncertainty or GradNorm."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.config.outputs import OutputBase
from eir_seq.config.training import GradNormConfig, LossWeightingBase
from eir_seq.errors import Fault, UserError
from eir_seq.registry import imported
from eir_seq.training.network import Network
from eir_seq.training.ranks import ALONE, Ranks


class LossWeighting(nn.Module):
    """The sum of the losses, each times its `loss_weight`.

    Args:
        config: the kind and its options.
        outputs: the configs of the outputs by name.
        network: what is trained.
    """

    def __init__(self, config: LossWeightingBase, outputs: Mapping[str, OutputBase], network: Network) -> None:
        super().__init__()
        del config, network
        self.outputs = dict(outputs)

    def forward(self, losses: Mapping[str, Tensor], share: float, present: Collection[str], scale: float) -> Tensor:
        """What a micro-batch adds to the loss of its optimizer step.

        Args:
            losses: by output, what it adds to the loss of the step.
            share: its share of the rows of the step.
            present: outputs of which the step has targets.
            scale: factor on losses that keeps gradients in half precision from vanishing.
        """
        del share, present, scale
        return torch.stack([output.loss_weight * losses[name] for name, output in self.outputs.items()]).sum()

    def end_step(self, ranks: Ranks = ALONE) -> None:
        """All micro-batches of a step were seen, by all processes; the network's weights do not move before this."""

    def weights(self) -> dict[str, float]:
        """The factor on the loss of each output; nothing where it never changes."""
        return {}


class UncertaintyWeighting(LossWeighting):
    """Weights by the learned variance of each output (Kendall et al. 2018, arXiv:1705.07115, equation 10).

    With ``s`` the logarithm of the variance, which begins at 0, an output adds ``exp(-s) * loss + s / 2``, for squared
    errors ``exp(-s) * loss / 2 + s / 2``; all of it times its `loss_weight`. An output without targets in a step adds
    nothing. ``s`` is trained with the network.
    """

    def __init__(self, config: LossWeightingBase, outputs: Mapping[str, OutputBase], network: Network) -> None:
        super().__init__(config, outputs, network)
        self.log_variance = nn.Parameter(torch.zeros(len(outputs)))

    def forward(self, losses: Mapping[str, Tensor], share: float, present: Collection[str], scale: float) -> Tensor:
        """The losses by their precisions, and the micro-batch's share of the terms that keep variances small."""
        del scale
        found = []
        for (name, output), s in zip(self.outputs.items(), self.log_variance.float(), strict=True):
            loss = output.UNCERTAINTY_SCALE * torch.exp(-s) * losses[name]
            if name in present:
                loss = loss + share * s / 2
            found.append(output.loss_weight * loss)
        return torch.stack(found).sum()

    def weights(self) -> dict[str, float]:
        """Scale, precision and `loss_weight` of each output."""
        precisions = torch.exp(-self.log_variance.detach()).tolist()
        found = zip(self.outputs.items(), precisions, strict=True)
        return {name: output.loss_weight * output.UNCERTAINTY_SCALE * value for (name, output), value in found}


class GradNorm(LossWeighting):
    """Weights for which outputs learn at similar rates (Chen et al. 2018, arXiv:1711.02257, algorithm 1).

    After each step the weights move, by Adam, towards those under which the gradient of each output's weighted loss in
    the last shared layer has the norm ``mean * r ** alpha``: ``mean`` is that of all outputs and ``r`` the output's
    loss as a share of its first one, relative to the mean share. Their sum stays the number of outputs. The last shared
    layer is the last trained matrix of the encoders and the fusion, in the order in which modules hold them, on which
    all losses depend. Outputs without targets in a step have no part in it.

    Raises:
        UserError: no trained matrix is before all outputs.
    """

    LEAST = 1e-3
    """Smallest weight, before all are scaled."""

    def __init__(self, config: LossWeightingBase, outputs: Mapping[str, OutputBase], network: Network) -> None:
        super().__init__(config, outputs, network)
        assert isinstance(config, GradNormConfig)
        self.alpha, self.lr = config.alpha, config.lr
        self._candidates = [p for p in network.shared_parameters(list(outputs)) if p.requires_grad and p.dim() > 1]
        if not self._candidates:
            message = "'gradnorm' needs a trained layer that all outputs share; encoders and fusion have none"
            raise UserError(Fault("trainer.loss_weighting", message))
        count = len(outputs)
        self.first: Tensor
        self.weight: Tensor
        self.mean: Tensor
        self.variance: Tensor
        self.updates: Tensor
        self.layer: Tensor
        self.register_buffer("weight", torch.ones(count))
        self.register_buffer("first", torch.full((count,), torch.nan))
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("variance", torch.zeros(count))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.register_buffer("layer", torch.full((), -1, dtype=torch.long))
        self._forget()

    def _forget(self) -> None:
        self._losses: list[Tensor] = []
        self._gradients: list[Tensor] = []
        self._present: Collection[str] = ()

    def forward(self, losses: Mapping[str, Tensor], share: float, present: Collection[str], scale: float) -> Tensor:
        """The losses by their weights; their gradients in the shared layer are noted."""
        del share
        values = [losses[name] for name in self.outputs]
        layer = self._shared_layer(values)
        gradients = []
        for value in values:
            (gradient,) = torch.autograd.grad(value * scale, layer, retain_graph=True, allow_unused=True)
            gradients.append(torch.zeros_like(layer) if gradient is None else gradient.float() / scale)
        if self._gradients:
            gradients = [old + new for old, new in zip(self._gradients, gradients, strict=True)]
        self._gradients = gradients
        self._losses.append(torch.stack([value.detach().float() for value in values]))
        self._present = present
        return (self.weight * torch.stack(values)).sum()

    def _shared_layer(self, losses: Sequence[Tensor]) -> nn.Parameter:
        if self.layer < 0:
            found = [
                torch.autograd.grad(loss, self._candidates, retain_graph=True, allow_unused=True) for loss in losses
            ]
            shared = [
                index for index, of_all in enumerate(zip(*found, strict=True)) if all(g is not None for g in of_all)
            ]
            assert shared, "the losses share no layer"
            self.layer.fill_(shared[-1])
        return self._candidates[int(self.layer)]

    @torch.no_grad()
    def end_step(self, ranks: Ranks = ALONE) -> None:
        """Move the weights; a step whose gradients are not finite leaves them."""
        norms = torch.stack([ranks.total(gradient).norm() for gradient in self._gradients])
        losses = ranks.total(torch.stack(self._losses).sum(dim=0))
        present = torch.tensor([name in self._present for name in self.outputs], device=norms.device)
        self._forget()
        if not bool((norms.isfinite() & losses.isfinite()).all()):
            return
        self.first.copy_(torch.where(present & self.first.isnan(), losses, self.first))
        if int(present.sum()) > 1:
            self._move(norms, losses, present)

    def _move(self, norms: Tensor, losses: Tensor, present: Tensor) -> None:
        tiny = torch.finfo(losses.dtype).tiny
        shares = torch.where(present, (losses / self.first).clamp(min=tiny), 0.0)
        count = present.sum()
        rates = shares / (shares.sum() / count)
        weighted = self.weight * norms
        wanted = torch.where(present, weighted, 0.0).sum() / count * rates**self.alpha
        gradient = torch.where(present, torch.sign(weighted - wanted) * norms, 0.0)
        self.updates += 1
        self.mean.lerp_(gradient, 0.1)
        self.variance.lerp_(gradient.square(), 0.001)
        corrected = self.variance / (1 - 0.999**self.updates)
        self.weight -= self.lr * self.mean / (1 - 0.9**self.updates) / (corrected.sqrt() + 1e-8)
        self.weight.clamp_(min=self.LEAST)
        self.weight *= len(self.weight) / self.weight.sum()

    def weights(self) -> dict[str, float]:
        """The weights as they are now."""
        return dict(zip(self.outputs, self.weight.tolist(), strict=True))


def build_weighting(config: LossWeightingBase, outputs: Mapping[str, Any], network: Network) -> LossWeighting:
    """What `trainer.loss_weighting` says, for fitted outputs by name.

    Raises:
        UserError: the outputs share nothing that is trained.
    """
    configs = {name: output.config for name, output in outputs.items()}
    weighting: LossWeighting = imported(config.IMPLEMENTATION)(config, configs, network)
    return weighting
