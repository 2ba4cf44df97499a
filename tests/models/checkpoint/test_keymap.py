"""Rows of key tables and their inverses."""

from __future__ import annotations

import pytest
import torch

from eir_seq.models.checkpoint.keymap import Fused, Stacked

HEAD = 2
LAYOUTS = {
    "one after the other": (Fused("qkv", ("q", "k", "v")), "q0 q1 q2 q3 k0 k1 k2 k3 v0 v1 v2 v3"),
    "one head of keys": (Fused("qkv", ("q", "k", "v"), shares=(4, 1, 1)), "q0 q1 q2 q3 k0 v0"),
    "by head": (Fused("qkv", ("q", "k", "v"), groups=4), "q0 k0 v0 q1 k1 v1 q2 k2 v2 q3 k3 v3"),
    "by group": (Fused("qkv", ("q", "k", "v"), groups=2, shares=(2, 1, 1)), "q0 q1 k0 v0 q2 q3 k1 v1"),
    "two blocks, values first": (
        Fused("qkv", ("q", "v", "k"), groups=2),
        "q0 q1 v0 v1 k0 k1 q2 q3 v2 v3 k2 k3",
    ),
}


@pytest.mark.parametrize(("row", "order"), LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("leaf", [".weight", ".bias"])
def test_heads_of_a_fused_module(row: Fused, order: str, transpose: bool, leaf: str) -> None:
    """Each head of each part is found in its place, and goes back there."""
    heads = order.split()
    places = torch.arange(len(heads) * HEAD, dtype=torch.float32)
    whole = places[:, None] * 100 + torch.arange(3) if leaf == ".weight" else places
    published = whole.t().contiguous() if transpose and leaf == ".weight" else whole
    row = Fused(row.published, row.native, transpose, row.groups, row.shares)
    parts = dict(row.pull({f"qkv{leaf}": published}))
    for part in "qkv":
        expected = [whole.split(HEAD)[heads.index(head)] for head in sorted(heads) if head[0] == part]
        assert torch.equal(parts[part + leaf], torch.cat(expected))
    ((name, back),) = row.push(parts)
    assert name == f"qkv{leaf}"
    assert torch.equal(back, published)
    assert back.is_contiguous()


def test_stacked_tensors() -> None:
    """Numbered tensors become one and go back, each in memory of its own; with one missing, none is taken."""
    row = Stacked("experts.*.w1.weight", "mlp.up", 3)
    published = {f"experts.{number}.w1.weight": torch.full((2, 4), float(number)) for number in range(3)}
    left = dict(published)
    moved = dict(row.pull(left))
    assert not left
    assert moved.keys() == {"mlp.up"}
    assert torch.equal(moved["mlp.up"], torch.arange(3.0)[:, None, None].expand(3, 2, 4))
    back = dict(row.push(dict(moved)))
    assert back.keys() == published.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in published.items())
    assert len({tensor.untyped_storage().data_ptr() for tensor in back.values()}) == 3
    del published["experts.1.w1.weight"]
    assert not list(row.pull(published))
    assert len(published) == 2
