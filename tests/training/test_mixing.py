"""Rows mixed in pairs: which are, how, and what a network computes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eir_seq.config.fusion import ConcatFusionConfig
from eir_seq.config.mixing import MixingConfig
from eir_seq.data.mixing import pair_rows, part_of_pairs, places_of
from eir_seq.errors import UserError
from eir_seq.fusion import build_fusion
from eir_seq.modalities.encoders.base import VectorEncoder
from eir_seq.modalities.encoders.mixing import Mixing, Pairs
from eir_seq.models.output import TokenStates
from eir_seq.randomness import Draw
from eir_seq.training.mixing import Mixer, layer_names
from eir_seq.training.network import Network
from tests.data.stream import tables

MIXUP = {"type": "mixup", "alpha": 1.0}
PARTNER, SHARE = torch.tensor([1, 2, 3, 0]), torch.tensor([1.0, 0.75, 0.5, 0.0])


pytestmark = pytest.mark.usefixtures("one_thread")


class TestPairs:
    def test_are_counted(self) -> None:
        config, rows = MixingConfig(alpha=1.0), [5, 3, 8, 1]
        one, same, other = (pair_rows(config, rows, {}, Draw(7, epoch)) for epoch in (1, 1, 2))
        assert torch.equal(one["partner"], same["partner"])
        assert torch.equal(one["share"], same["share"])
        assert one["seed"] == same["seed"] != other["seed"]
        assert not torch.equal(one["share"], other["share"])

    def test_have_the_same_inputs(self) -> None:
        present = {"a": np.array([1, 0, 1, 0, 1, 0, 1], bool), "b": np.array([1, 1, 1, 1, 0, 0, 1], bool)}
        patterns = np.stack(list(present.values()), axis=1)
        seen = set()
        for epoch in range(30):
            pairs = pair_rows(MixingConfig(alpha=1.0), range(7), present, Draw(0, epoch))
            partner = pairs["partner"].numpy()
            assert (partner[partner] == np.arange(7)).all()
            assert (patterns[partner] == patterns).all()
            alone = partner == np.arange(7)
            assert (pairs["share"][alone] == 1).all()
            assert alone[4:6].all()
            seen.add(tuple(partner))
        assert len(seen) == 3  # one of three like rows is left, two others are a pair, and two have none like them

    @pytest.mark.parametrize("world_size", [2, 3, 8])
    @pytest.mark.parametrize("rows", [1, 7, 16])
    def test_belong_to_one_process(self, rows: int, world_size: int) -> None:
        present = {"a": np.arange(rows) % 3 > 0}
        pairs = pair_rows(MixingConfig(alpha=1.0), range(rows), present, Draw(0, 1))
        parts = [places_of(pairs["partner"], rank, world_size) for rank in range(world_size)]
        assert sorted(place for part in parts for place in part) == list(range(rows))
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 2
        for part in filter(None, parts):
            own = part_of_pairs(pairs, part)
            assert [part[place] for place in own["partner"]] == pairs["partner"][part].tolist()
            assert torch.equal(own["share"], pairs["share"][part])
            assert own["place"].tolist() == part

    def test_shares_are_of_the_beta_distribution(self) -> None:
        share = pair_rows(MixingConfig(alpha=0.4, probability=0.5), range(8000), {}, Draw(0, 1))["share"]
        assert float((share < 1).float().mean()) == pytest.approx(0.5, abs=0.03)
        mixed = share[share < 1].double()
        # Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1)); 4,000 draws
        assert float(mixed.mean()) == pytest.approx(0.5, abs=0.03)
        assert float(mixed.var()) == pytest.approx(1 / (4 * 1.8), abs=0.01)

    @pytest.mark.parametrize("by_length", [True, False])
    def test_are_the_same_for_processes_that_stream(self, tmp_path: Path, by_length: bool) -> None:
        tables.write_shards(tmp_path / "rows", count=90, shards=3, group=10)
        trainer = {"mixing": MIXUP}
        config = tables.streamed(tmp_path / "rows", tmp_path, trainer=trainer, length_buckets=by_length)

        def pairs(rank: int, world_size: int) -> list[set[tuple[str, str, float]]]:
            found = []
            for batch in tables.epoch(tables.module(config, rank, world_size), 1):
                ids, share = batch["id"], batch["mixing"]["share"].tolist()
                partners = [ids[place] for place in batch["mixing"]["partner"]]
                found.append(set() if "uncounted" in batch else set(zip(ids, partners, share, strict=True)))
            return found

        for world_size in (2, 3):
            parts = [pairs(rank, world_size) for rank in range(world_size)]
            assert [set.union(*batch) for batch in zip(*parts, strict=True)] == pairs(0, 1)


class TestMixing:
    def test_sums(self) -> None:
        x = torch.randn(4, 3, 2)
        expected = torch.stack([s * a + (1 - s) * b for s, a, b in zip(SHARE, x, x[PARTNER], strict=True)])
        torch.testing.assert_close(Pairs(PARTNER, SHARE).blend(x), expected)
        tensors = {"x": x, "mask": x[..., 0] > 0, "codes": torch.arange(4)}
        found, share = Mixing(PARTNER, SHARE).tensors(tensors, has_embeddings=True)
        torch.testing.assert_close(found["x"], expected)
        either = tensors["mask"] | tensors["mask"][PARTNER]
        assert torch.equal(found["mask"], torch.cat([tensors["mask"][:1], either[1:]]))
        assert torch.equal(found["codes"], tensors["codes"])
        assert torch.equal(share, SHARE)
        numbers, _ = Mixing(PARTNER, SHARE).tensors({"codes": torch.tensor([[0], [4], [8], [8]], dtype=torch.uint8)})
        assert numbers["codes"].flatten().tolist() == [0, 5, 8, 0]

    @pytest.mark.parametrize("way", ["cutmix-block", "cutmix-uniform"])
    def test_cuts_a_row_alike_whichever_others_are_there(self, way: Any) -> None:
        x, share, partner = torch.randn(4, 3, 12, 10), torch.tensor([0.2, 0.4, 0.6, 0.8]), torch.tensor([2, 3, 0, 1])
        found, kept = Mixing(partner, share, way, seed=3).cut({"x": x})
        own, place = torch.tensor([1, 0]), torch.tensor([1, 3])
        part, left = Mixing(own, share[place], way, seed=3, place=place).cut({"x": x[place]})
        assert torch.equal(part["x"], found["x"][place])
        assert torch.equal(left, kept[place])

    @pytest.mark.parametrize("way", ["cutmix-block", "cutmix-uniform"])
    @pytest.mark.parametrize("shape", [(40,), (3, 40), (3, 12, 10), (1, 6, 5, 4)])
    def test_cuts(self, way: Any, shape: tuple[int, ...]) -> None:
        rows, partner = torch.arange(64), torch.arange(64).roll(1)
        x = rows.view(-1, *[1] * len(shape)).expand(64, *shape)
        share = torch.linspace(0, 1, 64)
        found, kept = Mixing(partner, share, way, seed=3).cut({"x": x, "same": 2 * x})
        own = found["x"] == x
        assert torch.equal(torch.where(own, x, partner.view(-1, *[1] * len(shape))), found["x"])
        assert torch.equal(found["same"], 2 * found["x"]), "tensors with the same positions are cut alike"
        if len(shape) > 1:
            assert torch.equal(own.all(dim=1), own.any(dim=1)), "all channels of a position"
        torch.testing.assert_close(own.flatten(1).float().mean(dim=1), kept)
        # half a position; of blocks with several sides, whose lengths are whole, half of one of its faces
        rounding = {1: 0.5 / 40, 2: 0.5 / 40, 3: 0.5 / 10, 4: 0.5 / 4}[len(shape)]
        assert (kept - share).abs().max() <= (0.5 / 40 if way == "cutmix-uniform" else rounding) + 1e-6
        if way == "cutmix-block":
            flat = (~own).reshape(64, *shape)[:, 0] if len(shape) > 1 else ~own
            for row in flat:
                places = row.nonzero()
                if len(places):
                    box = places.amax(dim=0) - places.amin(dim=0) + 1
                    assert int(box.prod()) == len(places), "one block"

    def test_states(self) -> None:
        mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 0, 0]]).bool()
        states = torch.randn(4, 3, 2).masked_fill(~mask[..., None], torch.nan)
        found = Pairs(PARTNER, SHARE).blend_features(TokenStates(states, mask, {}))
        clean = states.nan_to_num()
        torch.testing.assert_close(found.states, Pairs(PARTNER, SHARE).blend(clean))
        assert torch.equal(found.mask, torch.cat([mask[:1], (mask | mask[PARTNER])[1:]]))


# ------------------------------------------------------------------------------------------------- through a network


class Dense(VectorEncoder):
    output_size = 5

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 5))

    def encode(self, values: Tensor) -> Tensor:  # type: ignore[override]
        found: Tensor = self.linear(values)
        return found


class Categories(VectorEncoder):
    output_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 2)

    def encode(self, codes: Tensor) -> Tensor:  # type: ignore[override]
        found: Tensor = self.table(codes).flatten(1).square()
        return found


def network() -> Network:
    torch.manual_seed(0)
    encoders = {"x": Dense(), "c": Categories()}
    fusion = build_fusion(ConcatFusionConfig(), {"x": 5, "c": 4}, ["y"])
    return Network(encoders, fusion, {"y": nn.Linear(9, 2)}, absent=("x",))


def batch() -> dict[str, Any]:
    torch.manual_seed(1)
    inputs = {"x": {"values": torch.randn(4, 3)}, "c": {"codes": torch.tensor([[0, 1], [2, 3], [4, 5], [6, 7]])}}
    return {"inputs": inputs, "mixing": {"partner": PARTNER, "share": SHARE, "seed": 5, "place": torch.arange(4)}}


def blend_of(mixing: dict[str, Any], x: Tensor) -> Tensor:
    return Pairs(mixing["partner"], mixing["share"]).blend(x)


def blend(x: Tensor) -> Tensor:
    return Pairs(PARTNER, SHARE).blend(x)


def test_mixup_sums_numbers_and_the_vectors_of_categories() -> None:
    net, given = network(), batch()
    raw, after = Mixer(MixingConfig(), net).outputs(net, given)
    dense: Any = net.encoder("x")
    categories: Any = net.encoder("c")
    vectors = blend(categories.table(given["inputs"]["c"]["codes"])).flatten(1).square()
    features = torch.cat([dense.linear(blend(given["inputs"]["x"]["values"])), vectors], dim=1)
    torch.testing.assert_close(raw["y"], net.head("y")(features))
    torch.testing.assert_close(after["mixing"]["share"], SHARE)
    assert not categories.table._forward_hooks


def test_targets_have_the_shares_that_cuts_leave() -> None:
    net, given = network(), batch()
    config = MixingConfig(type="cutmix", inputs={"c": "mixup"})
    present = torch.tensor([True, True, True, False])
    raw, after = Mixer(config, net).outputs(net, {**given, "present": {"x": present}})
    # of three positions 0, 1 (0.75), 2 (0.83) and 3 are cut; the last row lacks the input
    kept = torch.tensor([1.0, 2 / 3, 1 / 3, 0.0])
    torch.testing.assert_close(after["mixing"]["share"], torch.where(present, (kept + SHARE) / 2, SHARE))
    assert raw["y"].shape == (4, 2)


def test_manifold_mixup_sums_features_or_what_layers_give() -> None:
    net, given = network(), batch()
    dense, categories = (net.encoder(name) for name in ("x", "c"))
    x, c = dense(**given["inputs"]["x"]), categories(**given["inputs"]["c"])
    head = net.head("y")

    def mixed(*layers: Any) -> Tensor:
        return Mixer(MixingConfig(type="manifold", layers=list(layers)), net).outputs(net, given)[0]["y"]

    torch.testing.assert_close(mixed(), head(torch.cat([blend(x), blend(c)], dim=1)))
    torch.testing.assert_close(mixed("inputs.x"), head(torch.cat([blend(x), c], dim=1)))
    torch.testing.assert_close(mixed(["inputs.x", "inputs.c"]), mixed())
    torch.testing.assert_close(mixed("fusion"), mixed())
    last: Any = dense
    inside = last.linear[2](blend(last.linear[1](last.linear[0](given["inputs"]["x"]["values"]))))
    torch.testing.assert_close(mixed("inputs.x.linear.1"), head(torch.cat([inside, c], dim=1)))
    one, two = mixed("inputs.x"), mixed("inputs.c")
    drawn = []
    for seed in range(20):
        given["mixing"]["seed"] = seed
        raw = mixed("inputs.x", "inputs.c")
        drawn.append(torch.equal(raw, one))
        assert torch.equal(raw, one) != torch.equal(raw, two), "one of the layers"
    assert 4 <= sum(drawn) <= 16


def test_unknown_layers_are_named() -> None:
    net = network()
    with pytest.raises(UserError) as caught:
        Mixer(MixingConfig(type="manifold", layers=["inputs.x.linaer.1", "fusion.blocks.0"]), net)
    assert [str(fault) for fault in caught.value.faults] == [
        "trainer.mixing.layers: the network has no layer 'inputs.x.linaer.1'; did you mean 'inputs.x.linear.1'?",
        "trainer.mixing.layers: the network has no layer 'fusion.blocks.0'",
    ]
    assert layer_names(net)[:3] == ["inputs.x", "inputs.x.linear", "inputs.x.linear.0"]


def test_genotypes_are_mixed_as_one_hot_values_and_cut_as_codes() -> None:
    from eir_seq.modalities.omics.encoders import GenotypeEncoder

    class Reader(VectorEncoder):
        output_size = 6

        def encode(self, **tensors: Tensor) -> Tensor:
            return tensors["values"].flatten(1)

    encoder = GenotypeEncoder(Reader(), 3)
    codes = torch.tensor([[0, 1], [2, 3]], dtype=torch.uint8)  # 3: missing, all zeros
    mixing = Mixing(torch.tensor([1, 0]), torch.tensor([0.75, 1.0]), "mixup", 0)
    tensors, share = encoder.mix({"codes": codes}, mixing)
    expected = 0.75 * encoder.expand(codes[:1]) + 0.25 * encoder.expand(codes[1:])
    torch.testing.assert_close(encoder(**tensors)[:1], expected.flatten(1))
    assert share.tolist() == [0.75, 1.0]
    cut, _ = encoder.mix({"codes": codes}, Mixing(torch.tensor([1, 0]), torch.tensor([0.5, 1.0]), "cutmix-block", 0))
    assert cut["codes"].dtype == torch.uint8
    assert sorted(cut["codes"][0].tolist()) in ([0, 3], [1, 2])
