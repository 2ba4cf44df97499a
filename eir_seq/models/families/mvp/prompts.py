"""Learned keys and values before those of the texts (https://arxiv.org/abs/2101.00190)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.layers.attention.dot_product import EAGER, SDPA
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.attention.scorer import Pairs, Scored, Scorer
from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.linear import Linear


class Prompts(Configured):
    """A network that makes the keys and values of all layers from one table of vectors."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`length`: learned places per layer. `inner_size`: width between the two linear layers."""

        length: int
        inner_size: int
        num_layers: int
        hidden_size: int
        num_heads: int
        dropout: float = 0.0

    tuned_alone = True
    """Lightweight tuning trains such parts only, see `Model.set_lightweight_tuning`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.length, config.hidden_size)
        self.up = Linear(config.hidden_size, config.inner_size)
        self.down = Linear(config.inner_size, 2 * config.num_layers * config.hidden_size)
        self.dropout = Dropout(config.dropout)

    def forward(self) -> Tensor:
        """(layers, 2, heads, length, head_size): the keys and the values of each layer."""
        made = self.dropout(self.down(F.gelu(self.up(self.table.weight))))
        c = self.config
        return made.view(c.length, c.num_layers, 2, c.num_heads, -1).permute(1, 2, 3, 0, 4)


class PromptedEmbeddings(Embeddings):
    """First states, and with them the prompts of all layers."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Embeddings.Config):
        """`own_prompts`: those of the layers' attention to the text itself; `cross_prompts`: to the other side."""

        own_prompts: Prompts.Config
        cross_prompts: Prompts.Config | None = None

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.own_prompts = config.own_prompts.build()
        self.cross_prompts = config.cross_prompts.build() if config.cross_prompts else None


@dataclass(frozen=True)
class PromptedScorer(Scorer):
    """Prompts before a text make a mask of what is causal: the kernels' own causal mode knows no keys before it."""

    @property
    def implementations(self) -> tuple[str, ...]:
        """The flash kernel takes no masks."""
        return (EAGER, SDPA)

    def attend(self, attention: Scored, query: Tensor, key: Tensor, value: Tensor, pairs: Pairs) -> Tensor:
        """See `Scorer`."""
        pairs = pairs._replace(mask=pairs.visible(query, key), causal=False)
        return super().attend(attention, query, key, value, pairs)


class PromptedAttention(Attention):
    """Every query may attend to the prompts of its layer too, which no mask hides and no cache holds."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Attention.Config):
        """`layer`: number of the layer."""

        layer: int

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(replace(config, scorer=PromptedScorer()))

    def _prefixed(self, key: Tensor, value: Tensor, ctx: Context) -> tuple[Tensor, Tensor]:
        prompts = ctx.embeddings.cross_prompts if self.crosses else ctx.embeddings.own_prompts
        once = ctx.once if ctx.cache is None else ctx.cache.once  # they are the same at each step of a text
        own: Tensor = once(prompts, prompts)[self.config.layer].to(key)
        own_key, own_value = own[:, None].expand(-1, key.shape[0], -1, -1, -1)
        return torch.cat((own_key, key), 2), torch.cat((own_value, value), 2)
