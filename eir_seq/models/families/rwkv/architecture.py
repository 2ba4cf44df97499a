"""RWKV, version 4 (https://arxiv.org/abs/2305.13048)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.rwkv.layers import ChannelMixing, MixingLayer, MixingPlan, TimeMixing
from eir_seq.models.families.rwkv.options import RwkvConfig
from eir_seq.models.families.rwkv.stack import RwkvPlan
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.embeddings import Embeddings
from eir_seq.models.layers.norms.layer_norm import LayerNorm


def rwkv_plan(c: RwkvConfig) -> RwkvPlan:
    """A normed token table, layers of time mixing and channel mixing, a final norm.

    The published code leaves the mask unread, so that padding before a text is text; here it is nothing.
    """
    norm = LayerNorm.Config(eps=c.layer_norm_epsilon)
    every = c.rescale_every if c.rescale_every > 0 else c.num_hidden_layers + 1
    return RwkvPlan(
        embeddings=Embeddings.Config(vocab_size=c.vocab_size, hidden_size=c.hidden_size, norm=norm),
        layers=tuple(
            MixingPlan(
                residual=MixingLayer,
                hidden_size=c.hidden_size,
                norm=norm,
                mixer=TimeMixing.Config(c),
                mlp=ChannelMixing.Config(c),
                halvings=i // every,
                halves=(i + 1) % every == 0,
            )
            for i in range(c.num_hidden_layers)
        ),
        final_norm=LayerNorm.Config(),  # its epsilon is no option
        cached=c.use_cache,
        lists_embeddings=False,
    )


LAYER, NATIVE = "blocks.{i}.", "layers.{i}."


def rwkv_rows(c: RwkvConfig) -> Iterator[Row]:
    """The key map of the body."""
    yield Same("embeddings", "embeddings.tokens")
    yield Same("blocks.0.pre_ln", "embeddings.norm")
    yield from for_layers(
        c.num_hidden_layers,
        Same(LAYER + "ln1", NATIVE + "mixer_norm"),
        Same(LAYER + "attention.time_decay", NATIVE + "mixer.decay"),
        Same(LAYER + "attention.time_first", NATIVE + "mixer.bonus"),
        Same(LAYER + "attention.time_mix_key", NATIVE + "mixer.key_share"),
        Same(LAYER + "attention.time_mix_value", NATIVE + "mixer.value_share"),
        Same(LAYER + "attention.time_mix_receptance", NATIVE + "mixer.gate_share"),
        Same(LAYER + "attention.key", NATIVE + "mixer.key"),
        Same(LAYER + "attention.value", NATIVE + "mixer.value"),
        Same(LAYER + "attention.receptance", NATIVE + "mixer.gate"),
        Same(LAYER + "attention.output", NATIVE + "mixer.out"),
        Same(LAYER + "ln2", NATIVE + "mlp_norm"),
        Same(LAYER + "feed_forward.time_mix_key", NATIVE + "mlp.up_share"),
        Same(LAYER + "feed_forward.time_mix_receptance", NATIVE + "mlp.gate_share"),
        Same(LAYER + "feed_forward.key", NATIVE + "mlp.up"),
        Same(LAYER + "feed_forward.receptance", NATIVE + "mlp.gate"),
        Same(LAYER + "feed_forward.value", NATIVE + "mlp.down"),
    )
    yield Same("ln_out", "final_norm")


@dataclass(frozen=True, kw_only=True)
class RwkvInitialization(Initialization):
    """Orthogonal matrices, and shares and decays that vary over channels and over depth."""

    options: RwkvConfig

    def _set(self, module: nn.Module, name: str, parameter: Tensor) -> None:
        c, leaf = self.options, name.rpartition(".")[2]
        layer = int(name.split(".layers.")[1].partition(".")[0]) if ".layers." in name else 0
        depth, rest = layer / max(1, c.num_hidden_layers - 1), 1 - layer / c.num_hidden_layers
        if leaf == "bonus":
            parameter.fill_(1.0)
        elif leaf == "decay":
            channels = torch.arange(len(parameter)) / max(1, len(parameter) - 1)
            parameter.copy_(8 * channels ** (0.7 + 1.3 * depth) - 5)
        elif leaf.endswith("_share"):
            halved = leaf == "gate_share" and isinstance(module, TimeMixing)
            parameter.copy_((torch.arange(c.hidden_size) / c.hidden_size) ** (rest / 2 if halved else rest))
            parameter.add_(0.3 * depth if leaf == "value_share" else 0.0)
        elif parameter.dim() == 2:
            rows, columns = parameter.shape
            gain = max(1.0, (rows / columns) ** 0.5) * (0.5 if (rows, columns) == (c.vocab_size, c.hidden_size) else 1)
            if isinstance(module, nn.Embedding):
                gain = 1e-4 * max(rows, columns) ** 0.5
            nn.init.orthogonal_(parameter, gain)
        else:
            super()._set(module, name, parameter)


def _language_model(c: RwkvConfig) -> LanguageModel.Config:
    return LanguageModel.Config(
        predicts="next", hidden_size=c.hidden_size, vocab_size=c.vocab_size, tied=c.tie_word_embeddings
    )


RWKV = Architecture(
    tasks=declare_tasks(
        "Rwkv",
        "rwkv",
        rwkv_plan,
        rwkv_rows,
        {"causal-lm": TaskHead("ForCausalLM", _language_model, (Same("head", "out"),))},
    ),
    prefixes=("rwkv",),
    initialization=lambda c: RwkvInitialization(std=0.0, options=c),
)
