"""Moving averages by their definition, of whole texts and in pieces."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.models.families.mega.moving_average import ExponentialMovingAverage, convolved, faded_sum, geometric
from eir_seq.models.layers.cache import Cache
from eir_seq.models.layers.context import Context
from eir_seq.models.layers.layout import Layout
from eir_seq.models.layers.left_aligned import LeftAligned


def average_of(reach: int | None, bidirectional: bool) -> ExponentialMovingAverage:
    average: ExponentialMovingAverage = ExponentialMovingAverage.Config(
        hidden_size=3, dimensions=4, bidirectional=bidirectional, reach=reach
    ).build()
    for number, parameter in enumerate(average.parameters()):
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(number))
    return average.double()


def by_definition(average: ExponentialMovingAverage, x: Tensor) -> Tensor:
    """Token by token (length, channels): h = damping * expansion * x + (1 - damping * decay) * h, then a projection."""
    damping, decay = torch.sigmoid(average.damping[..., 0]), torch.sigmoid(average.decay[..., 0])
    reach = average.config.reach or len(x)

    def one_way(x: Tensor, which: slice) -> Tensor:
        found = []
        for last in range(len(x)):
            state = torch.zeros(3, 4, dtype=x.dtype)
            for token in x[max(0, last + 1 - reach) : last + 1]:
                written = damping[which] * average.expansion[which, :, 0] * token[:, None]
                state = written + (1 - damping[which] * decay[which]) * state
            found.append((state * average.projection[which]).sum(1) / 2)  # the root of four dimensions
        return torch.stack(found)

    both = one_way(x, slice(0, 3))
    if average.config.bidirectional:
        both = both + one_way(x.flip(0), slice(3, 6)).flip(0)
    return F.silu(both + x * average.residual)


def rows_of(layout: Layout, cache: Cache | None = None) -> LeftAligned:
    return LeftAligned.of(Context(layout, torch.zeros(layout.batch, layout.length), cache=cache))


@pytest.mark.parametrize("reach", [None, 1, 4, 30])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["so_far", "both_ways"])
def test_an_average_is_its_recurrence(reach: int | None, bidirectional: bool) -> None:
    """States and gradients, with padding on either side."""
    average = average_of(reach, bidirectional)
    x = torch.randn(3, 11, 3, dtype=torch.double, generator=torch.Generator().manual_seed(9), requires_grad=True)
    real = torch.ones(3, 11, dtype=torch.bool)
    real[1, 7:] = real[2, :5] = False
    found = average(x, rows_of(Layout.padded(3, 11, real)), None)[real]
    expected = torch.cat([by_definition(average, text[mask]) for text, mask in zip(x, real, strict=True)])
    torch.testing.assert_close(found, expected)
    wanted = [x, *average.parameters()]
    direction = torch.randn(found.shape, dtype=torch.double, generator=torch.Generator().manual_seed(8))
    for ours, true in zip(
        torch.autograd.grad((found * direction).sum(), wanted),
        torch.autograd.grad((expected * direction).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(ours, true)


@pytest.mark.parametrize("reach", [None, 1, 4, 30])
@pytest.mark.parametrize("pieces", [(1,) * 11, (4, 1, 6), (11,)], ids=str)
def test_an_average_goes_on(reach: int | None, pieces: tuple[int, ...]) -> None:
    """In pieces it is that of the whole text, wherever padding stands."""
    average, cache = average_of(reach, False), Cache()
    x = torch.randn(3, 11, 3, dtype=torch.double, generator=torch.Generator().manual_seed(9))
    real = torch.ones(3, 11, dtype=torch.bool)
    real[1, 2:6] = real[2, :5] = False
    whole = average(x, rows_of(Layout.padded(3, 11, real)), None)
    found = [
        average(part, rows_of(Layout.padded(3, part.shape[1], mask), cache), cache)
        for part, mask in zip(x.split(pieces, 1), real.split(pieces, 1), strict=True)
    ]
    torch.testing.assert_close(torch.cat(found, 1)[real], whole[real])


@pytest.mark.parametrize("count", [1, 2, 3, 10, 17])
def test_powers_and_sums(count: int) -> None:
    first, ratio = torch.rand(2, 5, 3, dtype=torch.double), torch.rand(5, 3, dtype=torch.double)
    every = ratio[..., None] ** torch.arange(count)
    torch.testing.assert_close(geometric(first, ratio, count), (first[..., None] * every).sum(-2))
    x = torch.randn(2, count, 5, dtype=torch.double)
    torch.testing.assert_close(faded_sum(x, ratio), torch.einsum("blc,cnl->bcn", x, every))
    kernel = torch.randn(10, 4, dtype=torch.double)
    found, padded = convolved(x, kernel, True), F.pad(x, (0, 0, 3, 3))
    for age in range(4):
        found = found - padded[:, 3 - age : 3 - age + count] * kernel[:5, age]
        found = found - padded[:, 3 + age : 3 + age + count] * kernel[5:, age]
    assert float(found.abs().max()) < 1e-12
