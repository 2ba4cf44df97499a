"""The texts of an HTML page and the xpath of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = frozenset(("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source",
                   "track", "wbr"))  # fmt: skip
_UNSEEN = frozenset(("script", "style", "template"))


@dataclass
class _Element:
    """An element; `number` counts those of its tag below the same parent, from 1 on."""

    tag: str
    parent: _Element | None = None
    number: int = 1
    counts: dict[str, int] = field(default_factory=dict)

    def step(self) -> str:
        """Its step in an xpath; numbered only if there are several."""
        several = self.parent is not None and self.parent.counts[self.tag] > 1
        return f"{self.tag}[{self.number}]" if several else self.tag


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.place = _Element("")
        self.texts: list[tuple[str, _Element]] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        counts = self.place.counts
        counts[tag] = counts.get(tag, 0) + 1
        if tag not in _VOID:
            self.place = _Element(tag, self.place, counts[tag])

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        place: _Element | None = self.place
        while place is not None and place.tag != tag:
            place = place.parent
        if place is not None and place.parent is not None:  # an end without a beginning is passed over
            self.place = place.parent

    def handle_data(self, data: str) -> None:
        text = " ".join(data.split())
        if text and self.place.tag not in _UNSEEN:
            self.texts.append((text, self.place))


def read_html(page: str) -> tuple[list[str], list[str]]:
    """The texts of a page in their order, white space folded, and their xpaths; scripts and styles are left out.

    A step has a number where the parent has several elements of the tag: ``/html/body/div[2]/p``.
    """
    parser = _Page()
    parser.feed(page)
    parser.close()
    texts, paths = [], []
    for text, place in parser.texts:
        steps, element = [], place
        while element.parent is not None:
            steps.append(element.step())
            element = element.parent
        texts.append(text)
        paths.append("/" + "/".join(reversed(steps)))
    return texts, paths
