"""Messages and adversaries of a network: measured on training rows, or as a bundle has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eir_seq.broker import Shapes, build_broker, measured_shapes
from eir_seq.broker.shapes import Shape
from eir_seq.config.broker import connected_inputs
from eir_seq.config.schema import ExperimentConfig
from eir_seq.errors import Fault, UserError
from eir_seq.files import read_json
from eir_seq.randomness import derive_seed
from eir_seq.training.latents import layers_of
from eir_seq.training.network import Network

if TYPE_CHECKING:
    from eir_seq.data.dataset import EncodedSplit

BROKER = "broker.json"
"""The shapes of the layers that a broker connects, in a bundle."""
ROWS = (2, 3)
"""Rows of the two batches by which shapes are measured; different, to tell rows from other axes."""


def connect(
    config: ExperimentConfig,
    network: Network,
    outputs: Mapping[str, Any],
    *,
    train: EncodedSplit | None = None,
    shapes: Shapes | None = None,
) -> None:
    """Give a network the broker of its config; nothing where there is neither a message nor an adversary.

    First weights depend on the seed alone, and those of the rest of the network are as they are without a broker.

    Args:
        config: the experiment.
        network: gets the broker.
        outputs: fitted, by name.
        train: training rows, by which shapes are measured.
        shapes: or the shapes.

    Raises:
        UserError: with all that is wrong with the layers.
    """
    import torch

    if not config.broker and not config.adversaries:
        return
    layers = layers_of(network)
    if network.fusion is None:
        by_heads = (*network.state_inputs.values(), *network.vector_inputs.values())
        own = {*network.token_inputs.values(), *(name for names in by_heads for name in names)}
        network.sending = tuple(name for name in connected_inputs(config.broker, config.adversaries) if name not in own)
    if shapes is None:
        assert train is not None
        batches = _batches(config, train)
        shapes = measured_shapes(network, layers, config.broker, config.adversaries, batches)
    torch.manual_seed(derive_seed(config.seed, "broker"))
    try:
        network.broker = build_broker(network, layers, config.broker, config.adversaries, outputs, shapes)
    except KeyError as error:
        raise UserError(Fault("broker", f"the shape of {error.args[0]} is not known")) from None


def read_shapes(path: Path) -> Shapes:
    """The shapes in a bundle.

    Raises:
        UserError: they cannot be read.
    """
    try:
        return {str(name): Shape(tuple(_size(size) for size in sizes)) for name, sizes in read_json(path).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(Fault(str(path), f"does not hold shapes by layer ({type(error).__name__})")) from None


def _size(size: Any) -> int | None:
    if size is not None and (not isinstance(size, int) or size < 1):
        raise ValueError(size)
    return size


def _batches(config: ExperimentConfig, train: EncodedSplit) -> list[dict[str, Any]]:
    """Two batches of rows that have all inputs that are connected: of the shortest texts and of the longest."""
    from eir_seq.data.dataset import BatchKey

    read = connected_inputs(config.broker, config.adversaries)
    there = np.ones(len(train), bool)
    for name, mask in train.present.items():
        if name in read:
            there &= mask
    if not there.any():
        listed = " and ".join(f"inputs.{name}" for name in read)
        raise UserError(Fault("broker" if config.broker else "adversaries", f"no training row has {listed}"))
    rows = np.flatnonzero(there)
    rows = rows[np.argsort(train.lengths[rows].sum(axis=1), kind="stable")].tolist()
    few, more = ROWS
    return [train[BatchKey(tuple((part * few * more)[:count]))] for part, count in ((rows[:1], few), (rows[-1:], more))]
