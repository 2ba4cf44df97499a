"""The picture of a network as data: its parts, and what goes from one to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

if TYPE_CHECKING:
    from eir_seq.config.schema import ExperimentConfig
    from eir_seq.training.network import Network


class Part(BaseModel):
    """An encoder, the fusion or a head.

    Attributes:
        name: its public name.
        column: where it stands from left to right: inputs, fusion, outputs.
        kind: what it is, in words.
        parameters: how many it has.
        layers: within it, that are connected by messages or adversaries.
    """

    name: str
    column: Literal[0, 1, 2]
    kind: str
    parameters: int
    layers: list[str] = []


class Edge(BaseModel):
    """What goes from a part or layer to another one."""

    source: str
    target: str
    kind: Literal["data", "message", "adversary"] = "data"
    label: str = ""


class Diagram(BaseModel):
    """All parts of a network and what goes between them."""

    parts: list[Part] = []
    edges: list[Edge] = []


def diagram_of(config: ExperimentConfig, network: Network) -> Diagram:
    """The diagram of the network of an experiment."""
    counts = network.count_parameters()
    parts: list[Part] = []
    for name, source in config.inputs.items():
        model = getattr(getattr(source, "model", None), "model_type", "")
        kind = " · ".join(filter(None, (source.type, str(model).rstrip("/").rpartition("/")[2])))
        parts.append(Part(name=f"inputs.{name}", column=0, kind=kind, parameters=counts[f"inputs.{name}"]))
    if network.fusion is not None:
        kind = config.fusion.chosen(list(config.inputs)).type
        parts.append(Part(name="fusion", column=1, kind=kind, parameters=counts["fusion"]))
    for name, output in config.outputs.items():
        parts.append(Part(name=f"outputs.{name}", column=2, kind=output.type, parameters=counts[f"outputs.{name}"]))
    fused = [] if network.fusion is None else config.fusion.chosen(list(config.inputs)).read(list(config.inputs))
    edges = [Edge(source=f"inputs.{name}", target="fusion") for name in fused]
    for name in config.outputs:
        if name in network.token_inputs:
            edges.append(Edge(source=f"inputs.{network.token_inputs[name]}", target=f"outputs.{name}"))
        elif read := network.state_inputs.get(name) or network.vector_inputs.get(name):
            edges += [Edge(source=f"inputs.{source}", target=f"outputs.{name}") for source in read]
        else:
            edges.append(Edge(source="fusion", target=f"outputs.{name}"))
            read = list(network.grid_inputs.get(name, {}))
            edges += [Edge(source=f"inputs.{source}", target=f"outputs.{name}") for source in read]
    if network.broker is not None:
        edges += [Edge(source=a, target=b, kind=kind, label=how) for a, b, kind, how in network.broker.edges()]
    by_name = {part.name: part for part in parts}
    for edge in edges:
        for layer in (edge.source, edge.target):
            owner = layer if layer in by_name else next(name for name in by_name if layer.startswith(f"{name}."))
            if layer != owner and layer not in by_name[owner].layers:
                by_name[owner].layers.append(layer)
    return Diagram(parts=parts, edges=edges)
