"""Tensors that travel between layers of a network: messages, and adversaries that read a layer."""

from __future__ import annotations

from eir_seq.broker.broker import Broker, Shapes
from eir_seq.broker.plan import build_broker, measured_shapes

__all__ = ["Broker", "Shapes", "build_broker", "measured_shapes"]
