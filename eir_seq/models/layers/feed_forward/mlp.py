"""Feed-forward blocks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.feed_forward.activations import activated_product, activation, block_product
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.precision import for_products


class Mlp(Configured):
    """down(act(up(x))), or down(act(gate(x)) * up(x)) with a gate (https://arxiv.org/abs/2002.05202)."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`inner_dropout`: dropout between the two linear layers."""

        hidden_size: int
        inner_size: int
        activation: str = "gelu"
        gated: bool = False
        bias: bool = True
        inner_dropout: float = 0.0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.gate = Linear(config.hidden_size, config.inner_size, bias=config.bias) if config.gated else None
        self.up = Linear(config.hidden_size, config.inner_size, bias=config.bias)
        self.down = Linear(config.inner_size, config.hidden_size, bias=config.bias)
        self.activation, self.activation_name = activation(config.activation), config.activation
        self.inner_dropout = Dropout(config.inner_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(..., hidden) -> (..., hidden)."""
        inward = [self.up] if self.gate is None else [self.gate, self.up]
        if (y := block_product(inward, self.down, x, self.activation_name, self.inner_dropout)) is not None:
            return y
        if self.gate is None:
            return self.down(activated_product(self.up, x, self.activation_name, dropout=self.inner_dropout))
        x = for_products(x)
        return self.down(activated_product(self.gate, x, self.activation_name, self.up(x), self.inner_dropout))
