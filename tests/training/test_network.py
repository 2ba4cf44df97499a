"""Heads on fused vectors and heads on the tokens of one input, in one network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from eir_seq.config.fusion import ConcatFusionConfig
from eir_seq.fusion import Fusion, build_fusion
from eir_seq.models.output import TokenStates
from eir_seq.training.network import Network


class Encoder(nn.Module):
    output_size = state_size = 3

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, self.output_size)
        self.reads = 0

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.pool_tokens(self.read(input_ids))

    def read(self, input_ids: Tensor) -> TokenStates:
        self.reads += 1
        return TokenStates(self.table(input_ids), input_ids > 0, {"input_ids": input_ids})

    def pool_tokens(self, tokens: TokenStates) -> Tensor:
        return tokens.states.mean(dim=1)


class TokenSums(nn.Module):
    def forward(self, tokens: TokenStates) -> Tensor:
        return (tokens.states.sum(-1) * tokens.mask).sum(dim=1, keepdim=True)


IDS = torch.tensor([[1, 2, 0], [3, 4, 1]])


def test_a_head_on_tokens_beside_one_on_the_fused_vector() -> None:
    encoders = {"one": Encoder(), "two": Encoder()}
    fusion = build_fusion(ConcatFusionConfig(), {"one": 3, "two": 3}, ["label"])
    heads = {"label": nn.Identity(), "tokens": TokenSums()}
    network = Network(encoders, fusion, heads, {"tokens": "two"})
    raw = network({"one": {"input_ids": IDS}, "two": {"input_ids": IDS}})
    pooled = torch.cat([encoders[name].table(IDS).mean(dim=1) for name in ("one", "two")], dim=1)
    torch.testing.assert_close(raw["label"], pooled)
    expected = (encoders["two"].table(IDS).sum(-1) * (IDS > 0)).sum(dim=1, keepdim=True)
    torch.testing.assert_close(raw["tokens"], expected)
    assert encoders["two"].reads == 1, "an input is read once for all that looks at it"


def test_without_a_head_on_the_fused_vector_there_is_no_fusion() -> None:
    network = Network({"one": Encoder()}, None, {"tokens": TokenSums()}, {"tokens": "one"})
    assert network({"one": {"input_ids": IDS}})["tokens"].shape == (2, 1)
    assert network.count_parameters() == {"inputs.one": 15, "outputs.tokens": 0, "total": 15, "trainable": 15}


class SumOfStates(Fusion):
    reads_states = True

    def __init__(self) -> None:
        super().__init__({"one": 3, "two": 3}, ["label"])
        self.output_size = 3

    def forward(self, features: dict[str, Any]) -> dict[str, Tensor]:
        return self.shared(sum((f.states * f.mask[..., None]).sum(dim=1) for f in features.values()))


def test_a_fusion_may_read_states_and_a_missing_input_is_one_learnt_state() -> None:
    encoders = {"one": Encoder(), "two": Encoder()}
    network = Network(encoders, SumOfStates(), {"label": nn.Identity()}, absent=("two",))
    torch.nn.init.constant_(network.state_absence["of_two"], 0.5)
    there = {"one": {"input_ids": IDS}, "two": {"input_ids": IDS}}
    first, second = ((e.table(IDS) * (IDS > 0)[..., None]).sum(dim=1) for e in encoders.values())
    torch.testing.assert_close(network(there)["label"], first + second)
    some = network(there, {"two": torch.tensor([True, False])})["label"]
    torch.testing.assert_close(some, first + torch.stack([second[0], torch.full((3,), 0.5)]))
    none = network({**there, "two": {}}, {"two": torch.tensor([False, False])})["label"]
    torch.testing.assert_close(none, first + 0.5)
