"""What all HTML pages share: templates that escape, in one file without scripts."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def environment() -> Environment:
    """The templates of this package; the filter `svg` lets a plot through as it is."""
    made = Environment(
        loader=PackageLoader("eir_seq.inference"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["svg"] = Markup
    return made
