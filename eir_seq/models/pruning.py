"""Attention without some of its heads (https://arxiv.org/abs/1905.10650)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from eir_seq.errors import Fault, UserError
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.linear import Linear
from eir_seq.models.names import adapters

PRUNED = "pruned_heads"
"""Entry of a config.json: number of a layer -> numbers of the heads that it lacks."""
PRUNABLE = frozenset((
    "albert", "bert", "bert-generation", "camembert", "ctrl", "data2vec-text", "distilbert", "electra", "ernie",
    "flaubert", "git", "gpt2", "imagegpt", "layoutlm", "markuplm", "megatron-bert", "mobilebert", "nezha",
    "openai-gpt", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "splinter", "visual_bert",
    "xlm", "xlm-roberta", "xlm-roberta-xl", "yoso",
))  # fmt: skip
"""Types whose published classes take heads out, and read folders in which heads are missing."""
_MIXER = re.compile(r"((stack|decoder)\.)?layers\.\d+\.(inner\.\d+\.|layer\.)?mixer")


class HeadPruning:
    """What a `Model` does with the heads of its layers."""

    @torch.no_grad()
    def prune_heads(self: Any, heads_to_prune: Mapping[int, Iterable[int]]) -> None:
        """Take heads out of layers, in place; they are named in ``config.json`` and stay away when it is read.

        Args:
            heads_to_prune: number of a layer -> numbers of its heads, as they were before any was taken out; those
                that are gone already may be named again.

        Raises:
            UserError: no such layer or head, no head would be left, or heads that cannot be taken out.

        Example:
            >>> from eir_seq.models import create_model
            >>> small = dict(vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=4)
            >>> model = create_model("bert", {**small, "intermediate_size": 32})
            >>> model.prune_heads({0: [1, 3]})
            >>> model.config.published["pruned_heads"]
            {'0': [1, 3]}
        """
        if self.config.model_type not in PRUNABLE:
            message = f"published classes of {self.config.model_type!r} take no heads out"
            raise UserError(Fault("prune_heads", message))
        if adapters(self):
            raise UserError(Fault("prune_heads", "layers have adapters; merge them first"))
        layers = [module for name, module in self.body.named_modules() if _MIXER.fullmatch(name)]
        gone = {int(layer): set(heads) for layer, heads in self.config.published.get(PRUNED, {}).items()}
        faults, kept = [], {}
        for layer, heads in heads_to_prune.items():
            place = f"prune_heads.{layer}"
            if layer not in range(len(layers)):
                faults.append(Fault(place, f"there is no layer {layer}; they are 0 to {len(layers) - 1}"))
                continue
            before = gone.get(layer, set())
            count, wanted = layers[layer].config.num_heads + len(before), before | set(heads)
            unknown = sorted(wanted - set(range(count)))
            if unknown:
                faults.append(Fault(place, f"there is no head {unknown[0]}; they are 0 to {count - 1}"))
            elif len(wanted) == count:
                faults.append(Fault(place, f"none of its {count} heads would be left"))
            else:
                present = [head for head in range(count) if head not in before]
                kept[layer] = [place for place, head in enumerate(present) if head not in wanted]
                gone[layer] = wanted
        if faults:
            raise UserError(*faults)
        for layer, places in kept.items():
            _keep(layers[layer], places)
        listed = {str(layer): sorted(heads) for layer, heads in sorted(gone.items()) if heads}
        self.config = replace(self.config, published={**self.config.published, PRUNED: listed})


def pruned_heads(content: Any, source: str) -> dict[int, list[int]]:
    """The entry of a config.json as `HeadPruning.prune_heads` takes it.

    Raises:
        UserError: no numbers of layers and heads.
    """
    try:
        return {int(layer): [int(head) for head in heads] for layer, heads in dict(content or {}).items()}
    except (TypeError, ValueError):
        message = f"{content!r} does not map numbers of layers to lists of heads"
        raise UserError(Fault(PRUNED, message, source)) from None


def _keep(mixer: nn.Module, heads: list[int]) -> None:
    """Keep some heads of a layer's attention, by their places."""
    assert isinstance(mixer, Attention)
    size = mixer.head_size
    index = torch.tensor([head * size + channel for head in heads for channel in range(size)])
    for linear in (mixer.query, mixer.key, mixer.value):
        _select(linear, index, 0)
    _select(mixer.out, index, 1)
    mixer.config = replace(mixer.config, num_heads=len(heads), head_size=size)


def _select(linear: Linear, index: torch.Tensor, axis: int) -> None:
    index = index.to(linear.weight.device)
    weight = nn.Parameter(linear.weight.index_select(axis, index), requires_grad=linear.weight.requires_grad)
    if axis == 0 and linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias.index_select(0, index), requires_grad=linear.bias.requires_grad)
    linear.weight, (linear.out_features, linear.in_features) = weight, tuple(weight.shape)
