"""Sparse experts: feed-forward blocks of which every token goes through a few (https://arxiv.org/abs/1701.06538)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eir_seq.models.layers.build import Configured
from eir_seq.models.layers.dropout import Dropout
from eir_seq.models.layers.feed_forward.activations import activated
from eir_seq.models.layers.linear import Linear, linear, product


@torch.library.custom_op("eir_seq::grouped_linear", mutates_args=())
def grouped_linear(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """x W^T with a matrix for each group of rows; the groups follow one another.

    An operation of its own, so that a graph may hold it although the sizes of groups are known from the data only.

    Args:
        x: (rows, in). weight: (groups, out, in). counts: (groups,) rows of each group.

    Returns:
        (rows, out); rows after those of the last group are zero.
    """
    products = x.new_zeros(x.shape[0], weight.shape[1])
    for group, rows in _groups(counts):
        products[rows] = product(x[rows], weight[group])
    return products


@torch.library.custom_op("eir_seq::grouped_outer", mutates_args=())
def grouped_outer(left: Tensor, right: Tensor, counts: Tensor) -> Tensor:
    """Sums of outer products of rows (rows, out) and (rows, in) over each group: (groups, out, in)."""
    products = left.new_zeros(counts.shape[0], left.shape[1], right.shape[1])
    for group, rows in _groups(counts):
        products[group] = product(left[rows].t(), right[rows].t())
    return products


def _groups(counts: Tensor) -> Iterator[tuple[int, slice]]:
    start = 0
    for group, count in enumerate(counts.tolist()):
        if count:
            yield group, slice(start, start + count)
        start += count


@grouped_linear.register_fake
def _(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:  # noqa: ARG001
    return x.new_empty(x.shape[0], weight.shape[1])


@grouped_outer.register_fake
def _(left: Tensor, right: Tensor, counts: Tensor) -> Tensor:
    return left.new_empty(counts.shape[0], left.shape[1], right.shape[1])


def _keep_factors(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs)


def _linear_gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    x, weight, counts = ctx.saved_tensors
    of_x = grouped_linear(gradient, weight.transpose(1, 2), counts) if ctx.needs_input_grad[0] else None
    of_weight = grouped_outer(gradient, x, counts) if ctx.needs_input_grad[1] else None
    return of_x, of_weight, None


def _outer_gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    left, right, counts = ctx.saved_tensors
    of_left = grouped_linear(right, gradient, counts) if ctx.needs_input_grad[0] else None
    of_right = grouped_linear(left, gradient.transpose(1, 2), counts) if ctx.needs_input_grad[1] else None
    return of_left, of_right, None


grouped_linear.register_autograd(_linear_gradients, setup_context=_keep_factors)

grouped_outer.register_autograd(_outer_gradients, setup_context=_keep_factors)


class Experts(Configured):
    """Feed-forward blocks side by side, each kind of matrix in one tensor: every token goes to those chosen for it."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Configured.Config):
        """`count`: how many; `gated`: down(act(gate(x)) * up(x)) instead of down(act(up(x))).

        `inner_dropout`: dropout before `down`.
        """

        count: int
        hidden_size: int
        inner_size: int
        activation: str
        gated: bool
        inner_dropout: float = 0.0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.count = config.count
        inward = (config.count, config.inner_size, config.hidden_size)
        self.gate = nn.Parameter(torch.empty(inward)) if config.gated else None
        self.up = nn.Parameter(torch.empty(inward))
        self.down = nn.Parameter(torch.empty(config.count, config.hidden_size, config.inner_size))
        self.activation_name = config.activation
        self.inner_dropout = Dropout(config.inner_dropout)

    def forward(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Weighted sums over the experts of each token.

        Args:
            x: (tokens, hidden). chosen: (tokens, choices) numbers of experts; `count` stands for none.
            weights: (tokens, choices), of the same choices.

        Returns:
            (tokens, hidden).
        """
        experts = chosen.flatten()
        order = experts.argsort(stable=True)
        if torch.compiler.is_compiling():
            counts = (experts[None] == torch.arange(self.count, device=x.device)[:, None]).sum(1)
            tokens = order // chosen.shape[1]
            out = self._through(x[tokens], _Grouped(self, experts[order], counts))
        else:
            rows_of_each = torch.bincount(experts, minlength=self.count)[: self.count].tolist()
            order = order[: sum(rows_of_each)]
            tokens = order // chosen.shape[1]
            groups = zip(x.index_select(0, tokens).split(rows_of_each), _each(self), strict=True)
            out = torch.cat([self._through(rows, own) for rows, own in groups if rows.shape[0]] or [x[:0]])
        out = out * weights.flatten().index_select(0, order)[:, None]
        return torch.zeros_like(x).index_add(0, tokens, out.to(x.dtype))

    def _through(self, rows: Tensor, times: Times) -> Tensor:
        """Rows (rows, hidden) -> the same through an expert; `times` its matrices, and biases are added."""
        first = times(rows, "up" if self.gate is None else "gate")
        factor = None if self.gate is None else times(rows, "up")
        return times(activated(first, self.activation_name, factor, self.inner_dropout), "down")


Times = Callable[[Tensor, str], Tensor]
"""Rows and the name of a matrix -> their product, and the bias if there is one."""


def _each(experts: Experts) -> Iterator[Times]:
    """The products of each expert, one after the other."""
    own = {name: parameter.unbind() for name, parameter in experts.named_parameters()}

    def times(number: int, x: Tensor, name: str) -> Tensor:
        bias = own.get(f"{name}_bias")
        return linear(x, own[name][number], None if bias is None else bias[number])

    return (partial(times, number) for number in range(experts.count))


class _Grouped:
    """The products of all experts at once, for graphs, which do not know how many rows each of them has.

    `numbers`: (rows,) number of the expert of each row, in order; `counts`: (experts,) rows of each.
    """

    def __init__(self, experts: Experts, numbers: Tensor, counts: Tensor) -> None:
        self.own: dict[str, Tensor] = dict(experts.named_parameters())
        self.numbers, self.counts = numbers.clamp(max=experts.count - 1), counts

    def __call__(self, x: Tensor, name: str) -> Tensor:
        weight, device = self.own[name], x.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            x, weight = x.to(dtype), weight.to(dtype)
        product: Tensor = grouped_linear(x, weight, self.counts)
        bias = self.own.get(f"{name}_bias")
        return product if bias is None else product + bias[self.numbers]


def router_scores(router: Linear, x: Tensor, dtype: torch.dtype) -> Tensor:
    """(..., hidden) -> (..., experts), in the routers' own precision also where the rest is less precise."""
    dtype = torch.float64 if x.dtype == torch.float64 else dtype
    own = {name: parameter.to(dtype) for name, parameter in router.named_parameters()}
    with torch.autocast(x.device.type, enabled=False):
        scores: Tensor = torch.func.functional_call(router, own, x.to(dtype))
    return scores


def balance_loss(scores: Sequence[Tensor], per_token: int, real: Tensor | None) -> Tensor:
    """A scalar that is least, `per_token`, where all experts are used alike (https://arxiv.org/abs/2101.03961, 2.2).

    Args:
        scores: of the routers of all layers, each (batch, length, experts).
        per_token: how many experts a token goes through.
        real: (batch, length) bool, the tokens that count; None for all.
    """
    probabilities = torch.stack(tuple(scores)).softmax(-1)
    layers, experts = probabilities.shape[0], probabilities.shape[-1]
    share = torch.ones_like(probabilities[0, ..., 0]) if real is None else real.to(probabilities.dtype)
    share = (share / (share.sum() * layers))[None, ..., None]
    used = F.one_hot(probabilities.topk(per_token).indices, experts) * share[..., None]
    return experts * (used.sum((0, 1, 2, 3)) * (probabilities * share).sum((0, 1, 2))).sum()
