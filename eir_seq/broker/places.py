"""Places of a network: what a named layer reads or gives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from eir_seq.errors import nearest

Layers = Mapping[str, nn.Module]
"""The modules of a network by their public names."""


class Place(NamedTuple):
    """What a layer reads (``input``) or gives (``output``)."""

    layer: str
    side: str

    @property
    def part(self) -> str:
        """``inputs.NAME``, ``fusion`` or ``outputs.NAME``."""
        return ".".join(self.layer.split(".")[: 1 if self.layer.startswith("fusion") else 2])

    @property
    def input(self) -> str | None:
        """The input in whose encoder it is; None elsewhere."""
        section, _, name = self.part.partition(".")
        return name if section == "inputs" else None

    @property
    def is_encoder(self) -> bool:
        """Whether it is what a whole encoder gives: the vector or the states of its input."""
        return self.input is not None and self.layer == self.part and self.side == "output"

    def __str__(self) -> str:
        return self.layer if self.side == "output" else f"the input of {self.layer}"


def found_layer(name: str, layers: Layers) -> str:
    """The layer that a name or a pattern with * means; modules between a part and the end of a name may be left out.

    Raises:
        ValueError: there is none, or the name fits several, and which.

    Example:
        >>> layers = dict.fromkeys(["inputs.a.body.layers.0", "inputs.a.body.layers.1"], nn.Identity())
        >>> found_layer("inputs.a.layers.1", layers), found_layer("inputs.*.0", layers)
        ('inputs.a.body.layers.1', 'inputs.a.body.layers.0')
    """
    if name in layers:
        return name
    if "*" in name:
        pattern = re.compile("(.*)".join(map(re.escape, name.split("*"))))
        found = [layer for layer in layers if pattern.fullmatch(layer)]
    else:
        part, _, end = name.partition(".")
        if part != "fusion":
            part, end = f"{part}.{end.partition('.')[0]}", end.partition(".")[2]
        found = [layer for layer in layers if layer.startswith(f"{part}.") and layer.endswith(f".{end}")]
        outermost = min((layer.count(".") for layer in found), default=0)
        found = [layer for layer in found if layer.count(".") == outermost]
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(found[:4]) + (" ..." if len(found) > 4 else "")
        raise ValueError(f"{name!r} fits {len(found)} layers: {listed}")
    raise ValueError(f"there is no layer {name!r}{nearest(name, _alike(name, layers)) or _within(name, layers)}")


def _alike(name: str, layers: Layers) -> list[str]:
    """The layers, and those of the same part in names as short as this one."""
    part, depth = Place(name, "output").part, name.count(".")
    short = [
        f"{part}.{'.'.join(layer.split('.')[-(depth - part.count('.')) :])}"
        for layer in layers
        if layer.startswith(f"{part}.")
    ]
    return [*dict.fromkeys([*short, *layers])] if depth > part.count(".") else list(layers)


def _within(name: str, layers: Layers) -> str:
    """The layers of the deepest module that the name is in."""
    outer = name
    while "." in outer and outer not in layers:
        outer = outer.rpartition(".")[0]
    inside = [layer for layer in layers if layer.rpartition(".")[0] == outer]
    return f"; in {outer} there are {', '.join(layer.rpartition('.')[2] for layer in inside)}" if inside else ""
