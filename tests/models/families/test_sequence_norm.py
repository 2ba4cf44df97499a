"""The norms of mega by their definition, and those over the batches of several processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from eir_seq.models.families.mega.sequence_norm import SequenceNorm
from eir_seq.models.layers.layout import Layout


@pytest.mark.parametrize("kind", ["scalenorm", "layernorm", "rmsnorm", "batchnorm"])
@pytest.mark.parametrize("affine", [True, False])
def test_norms(kind: str, affine: bool) -> None:
    norm = SequenceNorm.Config(kind=kind, affine=affine).build(6).double()
    x = torch.randn(2, 7, 6, dtype=torch.double) * 3 + 1
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    axes = (0, 1) if kind == "batchnorm" else (2,)
    mean = x.mean(axes, keepdim=True) if kind in ("layernorm", "batchnorm") else 0.0
    expected = (x - mean) / ((x - mean).square().mean(axes, keepdim=True) + 1e-5).sqrt()
    if affine:
        expected = expected * norm.weight + (0.0 if norm.bias is None else norm.bias)
    torch.testing.assert_close(norm(x, Layout(2, 7)), expected)
    assert len(list(norm.parameters())) == affine * (2 if kind in ("layernorm", "batchnorm") else 1)


def _moments(rank: int, folder: str, kind: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.set_num_threads(1)
    norm, (x, layout) = SequenceNorm.Config(kind=kind, affine=False).build(6), halves()[rank]
    x.requires_grad_()
    states = norm(x, layout)
    (states.square() * torch.arange(6)).sum().backward()
    torch.save((states.detach(), x.grad, norm.running_mean, norm.running_var), f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


def halves() -> list[tuple[Tensor, Layout]]:
    """Texts of two processes, some padded, not equally many."""
    x = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(3))
    mask = torch.ones(5, 4, dtype=torch.bool)
    mask[0, 2:] = mask[4, :3] = False
    return [(x[part].clone(), Layout.padded(len(x[part]), 4, mask[part])) for part in (slice(0, 2), slice(2, 5))]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this build of torch knows no other processes")
def test_norms_over_the_batches_of_all_processes(tmp_path: Path) -> None:
    """Two processes have the states, gradients and moments of one that reads both batches; but for syncbatchnorm."""
    (first, one), (second, other) = halves()
    whole = SequenceNorm.Config(kind="batchnorm", affine=False).build(6)
    x, real = torch.cat((first, second)).requires_grad_(), torch.cat((one.mask, other.mask))
    expected = whole(x, Layout.padded(5, 4, real))
    (expected.square() * torch.arange(6)).sum().backward()
    for kind in ("syncbatchnorm", "batchnorm"):
        folder = tmp_path / kind
        folder.mkdir()
        torch.multiprocessing.start_processes(_moments, (str(folder), kind), nprocs=2, start_method="fork")
        found = [torch.load(folder / str(rank), weights_only=True) for rank in (0, 1)]
        states = torch.cat((found[0][0], found[1][0]))
        same = torch.allclose(states[real], expected[real], atol=1e-5)
        assert same is (kind == "syncbatchnorm")
        if same:
            torch.testing.assert_close(torch.cat((found[0][1], found[1][1])), x.grad, atol=1e-5, rtol=1e-5)
            for moments in found:
                torch.testing.assert_close(moments[2:], (whole.running_mean, whole.running_var), atol=1e-6, rtol=1e-5)
