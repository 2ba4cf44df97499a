"""The picture of the network: inputs, fusion and outputs from left to right, and messages between their layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from eir_seq.outputs.reporting.plots import COLOURS, INK, PAPER, Plot, figure_of, short
from eir_seq.training.diagram import Diagram, Edge, Part

WIDTHS, GAP = (2.6, 2.0, 2.6), 1.5
"""Inches of the boxes of each column, and between columns."""
LINE, SPACE, MARGIN = 0.24, 0.34, 0.3
"""Inches of a line of text, between boxes, and around the picture."""
WIDTH = sum(WIDTHS) + 2 * GAP + 4 * MARGIN
STYLES: dict[str, dict[str, Any]] = {
    "data": {"color": INK, "linewidth": 1.0},
    "message": {"color": COLOURS[0], "linewidth": 1.6},
    "adversary": {"color": COLOURS[1], "linewidth": 1.6, "linestyle": (0, (4, 2))},
}


@dataclass(frozen=True)
class Box:
    """A part and its place, in inches from the lower left corner."""

    part: Part
    left: float
    top: float
    width: float

    @property
    def height(self) -> float:
        """Of its lines."""
        return LINE * (2 + len(self.part.layers)) + 0.16

    def row(self, name: str) -> float:
        """The height at which arrows of a layer, or of the part, begin and end."""
        if name == self.part.name:
            return self.top - 0.08 - LINE
        return self.top - 0.08 - LINE * (2.5 + self.part.layers.index(name))


def network_picture(diagram: Diagram) -> Plot | None:
    """The picture; None where the run did not note its network."""
    if not diagram.parts:
        return None
    boxes, height = _placed(diagram)
    text, note = "; ".join(_said(edge) for edge in diagram.edges), " ".join(_legend(diagram))

    def draw(figure: Figure) -> None:
        draw_network(figure.subplots(), diagram, boxes, height)

    return figure_of("The network", text, draw, width=WIDTH, height=height, note=note)


def draw_network(axes: Axes, diagram: Diagram, boxes: dict[str, Box], height: float) -> None:
    """Draw the edges first, so that boxes cover their ends; positions in inches."""
    axes.set(xlim=(0, WIDTH), ylim=(0, height), aspect="equal")
    axes.axis("off")
    for edge in diagram.edges:
        _draw_edge(axes, edge, boxes)
    for box in boxes.values():
        _draw_box(axes, box)


def _placed(diagram: Diagram) -> tuple[dict[str, Box], float]:
    """The box of each part, columns centred, and the height of all."""
    columns = [[part for part in diagram.parts if part.column == column] for column in range(3)]
    heights = [sum(Box(part, 0, 0, 0).height for part in parts) + SPACE * max(0, len(parts) - 1) for parts in columns]
    total, boxes = max(heights) + 2 * MARGIN, {}
    left = 2 * MARGIN
    for parts, own, width in zip(columns, heights, WIDTHS, strict=True):
        top = total / 2 + own / 2
        for part in parts:
            box = boxes[part.name] = Box(part, left, top, width)
            top -= box.height + SPACE
        left += width + GAP
    return boxes, total


def _draw_box(axes: Axes, box: Box) -> None:
    frame = FancyBboxPatch(
        (box.left, box.top - box.height),
        box.width,
        box.height,
        boxstyle="round,pad=0,rounding_size=0.08",
        facecolor=PAPER,
        edgecolor=INK,
        linewidth=0.9,
        zorder=2,
    )
    axes.add_patch(frame)
    lines: list[tuple[str, dict[str, Any]]] = [
        (short(box.part.name, 30), {"fontweight": "bold"}),
        (f"{short(box.part.kind, 22)}, {box.part.parameters:,}", {"fontsize": 9}),
        *((_within(layer, box.part.name), {"fontsize": 8.5, "color": COLOURS[6]}) for layer in box.part.layers),
    ]
    for number, (line, style) in enumerate(lines):
        height = box.top - 0.08 - LINE * (number + 0.5)
        options: dict[str, Any] = {"ha": "left", "va": "center", "zorder": 3, "color": INK, **style}
        axes.text(box.left + 0.12, height, line, **options)


def _draw_edge(axes: Axes, edge: Edge, boxes: dict[str, Box]) -> None:
    source, target = _box_of(edge.source, boxes), _box_of(edge.target, boxes)
    start, end, bend = source.left + source.width, target.left, 0.0
    if source.part.column == target.part.column:  # around the box, on the outer side
        if source.part.column == 2:
            end = target.left + target.width
        else:
            start = source.left
        rise = target.row(edge.target) > source.row(edge.source)
        bend = 0.5 if rise == (source.part.column == 2) else -0.5
    elif target.part.column < source.part.column:
        start, end = source.left, target.left + target.width
        bend = 0.15
    elif target.part.column - source.part.column == 2 or edge.kind != "data":
        bend = 0.12 if source.row(edge.source) < target.row(edge.target) else -0.12
    arrow = FancyArrowPatch(
        (start, source.row(edge.source)),
        (end, target.row(edge.target)),
        connectionstyle=f"arc3,rad={bend}",
        arrowstyle="-|>",
        mutation_scale=10,
        shrinkA=0,
        shrinkB=0,
        zorder=1,
        **STYLES[edge.kind],
    )
    axes.add_patch(arrow)


def _box_of(name: str, boxes: dict[str, Box]) -> Box:
    return boxes[name] if name in boxes else next(box for part, box in boxes.items() if name.startswith(f"{part}."))


def _within(layer: str, part: str) -> str:
    """A layer as its part lists it, its end where it is long."""
    name = layer.removeprefix(f"{part}.")
    return name if len(name) <= 34 else f"…{name[-33:]}"


def _said(edge: Edge) -> str:
    words = {"data": "", "message": f" a message ({edge.label})", "adversary": f" an adversary ({edge.label})"}
    return f"{edge.source} to {edge.target}{words[edge.kind]}"


def _legend(diagram: Diagram) -> Iterator[str]:
    kinds = {edge.kind for edge in diagram.edges}
    yield "Numbers are those of parameters."
    if "message" in kinds:
        yield "Messages: " + "; ".join(_arrow(edge) for edge in diagram.edges if edge.kind == "message") + "."
    if "adversary" in kinds:
        listed = "; ".join(_arrow(edge) for edge in diagram.edges if edge.kind == "adversary")
        yield f"Dashed, adversaries, whose gradient is reversed: {listed}."


def _arrow(edge: Edge) -> str:
    return f"{edge.source} → {edge.target} ({edge.label})"
