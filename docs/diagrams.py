"""Draws the pictures of docs/architecture.md: ``python docs/diagrams.py`` writes docs/images/*.svg."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent
IMAGES = DOCS / "images"

INK, MUTED, FILL, EDGE = "#1f2933", "#52606d", "#e6f4f1", "#00897b"
WIDTH, MARGIN = 1000, 16

PACKAGES = {
    "__main__": "python -m eir_seq",
    "commands": "train, predict, check, runs, models, cache",
    "plugins": "entries of other packages",
    "hub": "names of published folders",
    "inference": "predictions, reports, comparisons",
    "training": "loop, checkpoints, run folder, bundle",
    "data": "readers, splits, encoded rows, batches",
    "explanations": "attributions of tokens",
    "broker": "messages between layers, adversaries",
    "modalities": "kinds of inputs",
    "outputs": "kinds of outputs",
    "fusion": "features of all inputs to one vector",
    "published": "published class names",
    "backbones": "a config and its tokens to a model",
    "tokenizers": "trained and published",
    "config": "schema, composition, checks",
    "models": "families, layers, heads, generation",
    "samples": "data that ship",
    "native": "optional kernels in C++",
    "remote": "files by URL",
    "registry": "names to module:Name",
    "cache": "features on disk",
    "machine": "full disks, file handles, shared memory",
    "errors": "UserError, Fault",
    "files": "safe reading",
    "randomness": "seeds by purpose",
    "rows": "typed columns",
    "spool": "tables beyond memory",
}
"""What each package holds, for the picture of the layers."""


@dataclass(frozen=True)
class Box:
    """One box: a heading, a line of explanation, and where the code is."""

    title: str
    text: str
    place: str = ""


FLOW = {
    "Experiment": [
        Box("YAML and overrides", "one experiment", "conf/, command line"),
        Box("Compose and check", "all errors at once", "config"),
        Box("ExperimentConfig", "typed, without torch", "config/schema.py"),
    ],
    "Data": [
        Box("Your files", "tables, texts, images", "data.train, ..."),
        Box("Readers", "CSV, JSONL, Parquet, ...", "data/readers"),
        Box("Rows and splits", "typed columns", "rows.py, data"),
        Box("Preprocessing", "fit, encode", "modalities/KIND"),
        Box("Features", "memory-mapped", "cache, data"),
    ],
    "Network": [
        Box("Batch", "collated, padded", "data/batching.py"),
        Box("Encoder", "one per input", "modalities, models"),
        Box("Fusion", "one vector per output", "fusion"),
        Box("Head", "one per output", "outputs/KIND"),
        Box("Loss, metrics", "weighted sum of losses", "outputs/KIND"),
    ],
    "Run": [
        Box("Training loop", "resumes bit-exactly", "training/loop.py"),
        Box("Run folder", "checkpoints, metrics", "training/folder.py"),
        Box("Bundle", "the best weights", "training/bundle.py"),
        Box("Predictor", "rows in, rows out", "inference"),
        Box("Results", "predictions, report", "inference"),
    ],
}
"""The data flow, row by row; the end of each row feeds the next."""


def layers() -> list[list[str]]:
    """The layers of packages from top to bottom, as import-linter enforces them."""
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    contract = next(contract for contract in contracts if "eir_seq.commands" in contract.get("layers", ()))
    return [[name.strip().removeprefix("eir_seq.") for name in layer.split("|")] for layer in contract["layers"]]


def flow_picture() -> str:
    """The data flow as SVG."""
    left, width, height, gap, row_height = 110, 152, 74, 22, 124
    parts: list[str] = []
    for row, (label, boxes) in enumerate(FLOW.items()):
        top = MARGIN + row * row_height
        parts.append(_text(MARGIN, top + height / 2 + 5, label, "label"))
        for column, box in enumerate(boxes):
            x = left + column * (width + gap)
            parts += _box(x, top, width, height, box)
            if column:
                parts.append(_arrow([(x - gap, top + height / 2), (x - 2, top + height / 2)]))
        if row + 1 < len(FLOW):
            end = left + (len(boxes) - 1) * (width + gap) + width / 2
            middle, start = top + height + (row_height - height) / 2, left + width / 2
            below = top + row_height - 2
            parts.append(_arrow([(end, top + height), (end, middle), (start, middle), (start, below)]))
    total = 2 * MARGIN + (len(FLOW) - 1) * row_height + height
    return _svg("From the experiment and its data to a network, a run folder and predictions", total, parts)


def layers_picture() -> str:
    """The layers of packages as SVG."""
    height, gap = 46, 10
    parts: list[str] = []
    for row, names in enumerate(layers()):
        top = MARGIN + row * (height + gap)
        width = (WIDTH - 2 * MARGIN - gap * (len(names) - 1)) / len(names)
        for column, name in enumerate(names):
            parts += _box(MARGIN + column * (width + gap), top, width, height, Box(name, PACKAGES[name]))
    return _svg("Packages in layers: imports go downwards only", 2 * MARGIN + (row + 1) * (height + gap) - gap, parts)


PICTURES = {"data_flow.svg": flow_picture, "layers.svg": layers_picture}


def _box(x: float, y: float, width: float, height: float, box: Box) -> Iterator[str]:
    middle = x + width / 2
    yield f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'
    lines = [(box.title, "title"), (box.text, "text"), *([(box.place, "place")] if box.place else [])]
    first = y + height / 2 - (len(lines) - 1) * 9 + 5
    for number, (line, style) in enumerate(lines):
        yield _text(middle, first + number * 18, line, style)


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{style}">{escape(text)}</text>'


def _arrow(points: list[tuple[float, float]]) -> str:
    path = " L".join(f"{x:g} {y:g}" for x, y in points)
    return f'<path d="M{path}" marker-end="url(#head)"/>'


def _svg(title: str, height: float, parts: list[str]) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" role="img">',
            f"<title>{escape(title)}</title>",
            "<style>",
            f"text {{ font-family: sans-serif; font-size: 12px; fill: {MUTED}; text-anchor: middle }}",
            f".title {{ font-size: 14px; font-weight: bold; fill: {INK} }}",
            f".label {{ font-size: 14px; font-weight: bold; fill: {EDGE}; text-anchor: start }}",
            ".place { font-family: monospace; font-size: 11px }",
            f"rect {{ fill: {FILL}; stroke: {EDGE} }}",
            f"path {{ fill: none; stroke: {INK}; stroke-width: 1.4 }}",
            "</style>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"',
            f' orient="auto"><path d="M0 0 L8 4 L0 8 z" style="fill: {INK}; stroke: none"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{height:g}" style="fill: white; stroke: none"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for name, picture in PICTURES.items():
        (IMAGES / name).write_text(picture(), encoding="utf-8")
