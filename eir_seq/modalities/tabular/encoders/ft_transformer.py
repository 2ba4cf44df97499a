"""FT-Transformer: columns as tokens (Gorishniy et al. 2021, arXiv:2106.11959)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eir_seq.modalities.encoders.base import Encoder
from eir_seq.modalities.tabular.encoders.columns import CategoryVectors, EmbeddedNumbers
from eir_seq.modalities.tabular.encoders.config import FtTransformerOptions
from eir_seq.modalities.tabular.preprocess import FittedTabular
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.layout import Layout
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.residual import LayerPlan, PreNorm
from eir_seq.models.output import TokenStates


class FtTransformerEncoder(Encoder):
    """A token per column, categories first, and a transformer over them; a CLS token before them gives the vector.

    Layers are pre-norm, the first without a norm before attention, with ReGLU feed-forward layers, as published.
    """

    def __init__(self, options: FtTransformerOptions, fitted: FittedTabular) -> None:
        super().__init__()
        size = self.output_size = self.state_size = options.hidden_size
        bound = size**-0.5
        self.summary = nn.Parameter(torch.empty(size).uniform_(-bound, bound))
        self.category_vectors = self.numbers = None
        if counts := fitted.counts:
            self.category_vectors = CategoryVectors(counts, size, bound)
            self.category_bias = nn.Parameter(torch.empty(len(counts), size).uniform_(-bound, bound))
        if fitted.config.continuous:
            self.numbers = EmbeddedNumbers(options, fitted, size)
        plan = LayerPlan(
            residual=PreNorm,
            hidden_size=size,
            norm=LayerNorm.Config(),
            mixer=Attention.Config(hidden_size=size, num_heads=options.num_heads, dropout=options.attention_dropout),
            mlp=Mlp.Config(
                hidden_size=size,
                inner_size=options.intermediate_size or size * 4 // 3,
                activation="relu",
                gated=True,
                inner_dropout=options.feed_forward_dropout,
            ),
            dropout=options.residual_dropout,
        )
        self.layers = nn.ModuleList(plan.build() for _ in range(options.num_layers))
        self.layers[0].mixer_norm = nn.Identity()
        self.final_norm = nn.LayerNorm(size)

    def read(self, **tensors: Tensor) -> TokenStates:
        """`categories` and `numbers`, (batch, columns) each, to a state per column, (batch, columns, state_size)."""
        tokens = []
        if self.category_vectors is not None:
            tokens.append(self.category_vectors(tensors["categories"]) + self.category_bias)
        if self.numbers is not None:
            tokens.append(self.numbers(tensors["numbers"]))
        batch = len(tokens[0])
        x = torch.cat((self.summary.expand(batch, 1, -1), *tokens), dim=1)
        length = x.shape[1]
        positions = torch.arange(length, device=x.device).expand(batch, -1)
        context = Context(Layout.padded(batch, length, None), positions)
        for layer in self.layers:
            x = layer(x, context)
        x = self.final_norm(x)
        mask = torch.ones(batch, length - 1, dtype=torch.bool, device=x.device)
        return TokenStates(x[:, 1:], mask, pooler_output=x[:, 0])

    def pool_tokens(self, tokens: TokenStates) -> Tensor:
        """The state of the CLS token, (batch, output_size)."""
        assert tokens.pooler_output is not None, "read gives it"
        return tokens.pooler_output
