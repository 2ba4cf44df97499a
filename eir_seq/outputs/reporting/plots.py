"""Plots as inline SVG that follow the page: its fonts, and its colours in light and dark.

Matplotlib draws with stand-in colours, which become CSS variables of the page. Text stays text.

Example:
    >>> from eir_seq.outputs.reporting.plots import plot
    >>> plot("Squares", "Squares of 0 to 2", lambda axes: axes.plot([0, 1, 2], [0, 1, 4])).title
    'Squares'
"""

from __future__ import annotations

import hashlib
import html
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

SERIES = 8
"""Colours of the page, ``--c1`` to ``--c8``: those of Okabe and Ito, apart for every kind of colour vision."""
INK, PAPER, _GRID = "#010203", "#010205", "#010204"
"""Stand-ins for the colours of text, of what it is on, and of the grid."""
COLOURS = [f"#0203{number:02x}" for number in range(1, SERIES + 1)]
"""Stand-ins for the colours of lines, `SERIES` of them."""
_VARIABLES = {INK: "currentColor", PAPER: "var(--surface)", _GRID: "var(--grid)"} | {
    colour: f"var(--c{number})" for number, colour in enumerate(COLOURS, start=1)
}
_STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a class may be called $x$
    "svg.fonttype": "none",
    "svg.hashsalt": "eir_seq",  # the same ids in every process
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": _GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
    "axes.prop_cycle": cycler(color=COLOURS),
}


@dataclass
class Plot:
    """A finished plot: what it is called and its SVG."""

    title: str
    svg: str = field(repr=False)
    note: str = ""


def legend_below(axes: Axes, columns: int, title: str | None = None) -> None:
    """A legend under the axes, which never hides a line."""
    figure = axes.get_figure()
    assert figure is not None
    figure.legend(loc="outside lower center", ncols=columns, title=title, title_fontsize=9)


def plot(
    title: str, text: str, draw: Callable[[Axes], object], *, width: float = 4.6, height: float = 2.9, note: str = ""
) -> Plot:
    """A plot of one pair of axes.

    Args:
        title: above it.
        text: what it shows, in words, for those who cannot see it.
        draw: draws into the axes, in `COLOURS` and `INK`.
        width: in inches.
        height: in inches.
        note: below it.
    """
    return figure_of(title, text, lambda figure: draw(figure.subplots()), width=width, height=height, note=note)


def figure_of(
    title: str, text: str, draw: Callable[[Figure], object], *, width: float = 4.6, height: float = 2.9, note: str = ""
) -> Plot:
    """A plot of a whole figure; arguments as of `plot`."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Plot(title, _inline(buffer.getvalue(), text), note)


def _inline(svg: str, text: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(?<=<g) id="[^"]*"', "", svg)  # names of groups, which nothing refers to
    # All plots share the page, so what each refers to gets its own name.
    own = hashlib.sha256((text + svg).encode()).hexdigest()[:8]
    svg = re.sub(r'( id="|"#|\(#)', rf"\g<1>p{own}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    opening, rest = svg.split(">", 1)
    box = re.search(r'viewBox="([^"]+)"', opening)
    assert box is not None
    width = float(box[1].split()[2])
    opening = (
        f'<svg viewBox="{box[1]}" style="max-width:{width * 4 / 3:.0f}px" role="img" aria-label="{html.escape(text)}"'
    )
    for colour, variable in _VARIABLES.items():
        rest = rest.replace(colour, variable)
    rest = re.sub(r"font: ([^;\"]*?)px '[^;\"]*", r"font: \1px var(--sans)", rest)
    return f"{opening}><title>{html.escape(text)}</title>{rest}"


def short(name: str, limit: int = 24) -> str:
    """A name as a legend shows it: cut where it is long."""
    name = name if len(name) <= limit else f"{name[: limit - 1]}…"
    # A legend leaves labels out that begin with an underscore; a space of no width keeps them.
    return f"\u200b{name}" if name.startswith("_") else name
