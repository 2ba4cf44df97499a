"""Fusions by attention: over vectors or states of all inputs, and of one input to the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.config.fusion import AttentionFusionConfig, CrossAttentionFusionConfig, TransformerFusionBase
from eir_seq.errors import Fault, UserError
from eir_seq.fusion.layers import WIDEST, Fusion, module_key


class AttentionPool(nn.Module):
    """The mean of states by weights that a learned query gives them; it begins as the plain mean.

    Example:
        >>> states = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [9.0, 9.0]]])
        >>> AttentionPool(2)(states, torch.tensor([[True, True, False]])).tolist()
        [[2.0, 0.0]]
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(size))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """States (batch, length, size) where `mask` (batch, length) is True to (batch, size)."""
        scores = (states @ self.query / states.shape[-1] ** 0.5).masked_fill(~mask, torch.finfo(states.dtype).min)
        pooled: Tensor = (scores.softmax(dim=-1)[..., None] * states.masked_fill(~mask[..., None], 0.0)).sum(dim=1)
        return pooled


class MeanPool(nn.Module):
    """The mean of states."""

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """States (batch, length, size) where `mask` (batch, length) is True to (batch, size)."""
        return states.masked_fill(~mask[..., None], 0.0).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def pooling(name: str, size: int) -> AttentionPool | MeanPool:
    """States of that size to one vector."""
    return AttentionPool(size) if name == "attention" else MeanPool()


class TransformerFusion(Fusion):
    """What every fusion by attention has: inputs of one width, each with a learned vector of its own.

    Inputs of another width are projected; of those that have it, small differences between rows are kept as they are.
    """

    def __init__(
        self, config: TransformerFusionBase, sizes: dict[str, int], outputs: list[str], *, summaries: int = 0
    ) -> None:
        super().__init__(sizes, outputs)
        hidden = width_of(config, sizes)
        self.output_size = hidden
        self.summaries = summaries
        self.project = nn.ModuleDict(
            {
                module_key(name): nn.Identity()
                if size == hidden and not config.project_always
                else nn.Linear(size, hidden)
                for name, size in sizes.items()
            }
        )
        # One learned vector per place tells the inputs apart; those of summaries come first.
        self.places = nn.Parameter(torch.randn(summaries + len(sizes), hidden) * 0.02)

    def projected(self, features: dict[str, Any], names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The concatenated states of some inputs, (batch, length, hidden), and their mask (batch, length)."""
        states, masks = [], []
        for name in names:
            given, place = features[name], self.places[self.summaries + self.inputs.index(name)]
            if self.reads_states:
                # What stands at padding may be anything, infinite too.
                states.append(
                    self.project[module_key(name)](given.states.masked_fill(~given.mask[..., None], 0.0)) + place
                )
                masks.append(given.mask)
            else:
                states.append(self.project[module_key(name)](given)[:, None] + place)
                masks.append(torch.ones(len(given), 1, dtype=torch.bool, device=given.device))
        return torch.cat(states, dim=1), torch.cat(masks, dim=1)


class AttentionFusion(TransformerFusion):
    """A transformer over one token per input, or over their states, read out at a learned summary token or pooled."""

    def __init__(self, config: AttentionFusionConfig, sizes: dict[str, int], outputs: list[str]) -> None:
        super().__init__(config, sizes, outputs, summaries=int(config.pool == "summary"))
        self.reads_states = config.reads_states
        layer = nn.TransformerEncoderLayer(**layer_options(config, self.output_size))
        norm = nn.LayerNorm(self.output_size) if config.output_norm else None
        self.layers = nn.TransformerEncoder(layer, config.num_layers, norm=norm, enable_nested_tensor=False)
        start(self.layers)
        self.pool = None if config.pool == "summary" else pooling(config.pool, self.output_size)

    def forward(self, features: dict[str, Any]) -> dict[str, Tensor]:
        """See `Fusion`."""
        tokens, mask = self.projected(features, self.inputs)
        if self.pool is None:
            summary = self.places[0].expand(len(tokens), 1, -1).to(tokens.dtype)
            tokens, mask = torch.cat([summary, tokens], dim=1), torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)
        states = self.layers(tokens, src_key_padding_mask=~mask if self.reads_states else None)
        return self.shared(states[:, 0] if self.pool is None else self.pool(states, mask))


class CrossAttentionFusion(TransformerFusion):
    """Late fusion: the states of one input attend to each other and to those of the other inputs, and are pooled."""

    def __init__(self, config: CrossAttentionFusionConfig, sizes: dict[str, int], outputs: list[str]) -> None:
        super().__init__(config, sizes, outputs)
        self.reads_states = True
        self.query = config.query or self.inputs[0]
        self.others = [name for name in self.inputs if name != self.query]
        assert self.others, "a rule demands two inputs"
        layer = nn.TransformerDecoderLayer(**layer_options(config, self.output_size))
        norm = nn.LayerNorm(self.output_size) if config.output_norm else None
        self.layers = nn.TransformerDecoder(layer, config.num_layers, norm=norm)
        start(self.layers)
        self.pool = pooling(config.pool, self.output_size)

    def forward(self, features: dict[str, Any]) -> dict[str, Tensor]:
        """See `Fusion`."""
        queries, mask = self.projected(features, [self.query])
        memory, memory_mask = self.projected(features, self.others)
        states = self.layers(queries, memory, tgt_key_padding_mask=~mask, memory_key_padding_mask=~memory_mask)
        return self.shared(self.pool(states, mask))


def width_of(config: TransformerFusionBase, sizes: dict[str, int]) -> int:
    """Width of the tokens; raises `UserError` where heads cannot share it."""
    heads = config.num_heads
    if config.hidden_size is None:
        return heads * max(1, min(WIDEST, max(sizes.values())) // heads)
    if config.hidden_size % heads:
        message = f"{heads} heads do not divide fusion.hidden_size {config.hidden_size}"
        raise UserError(Fault("fusion.num_heads", message))
    return config.hidden_size


def layer_options(config: TransformerFusionBase, hidden: int) -> dict[str, Any]:
    """Of a transformer layer of torch: pre-norm, with GELU."""
    return {
        "d_model": hidden,
        "nhead": config.num_heads,
        "dim_feedforward": config.feed_forward_size or 4 * hidden,
        "dropout": config.dropout,
        "activation": "gelu",
        "batch_first": True,
        "norm_first": True,
    }


def start(layers: nn.Module) -> None:
    """Fresh weights for each of several layers, which torch makes as copies of one; each begins as the identity."""
    for name, parameter in layers.named_parameters():
        if ".out_proj." in name or ".linear2." in name:  # the last layer of a branch, see `ResidualBlock`
            nn.init.zeros_(parameter)
        elif parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
