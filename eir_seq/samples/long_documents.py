"""Writes the sample of long documents: ``python -m eir_seq.samples.long_documents [FOLDER]``.

Two passages of a document matter: near its beginning the captain hides something, and at least `APART` tokens further
on the captain finds something. `same` says whether it is the same thing, so either passage alone tells nothing of it.
What stands around the passages is drawn without regard to them. Both are at least `MARGIN` tokens away from the ends,
beyond the reach of models that keep a beginning and an end.

All paragraphs come from sets so small that gzip finds them again: hence a small file.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eir_seq.samples.grammar import Grammar

SEED = 11
DOCUMENTS = 600
APART = 4000
MARGIN = 260
COLUMNS = ("id", "text", "hidden", "found", "same")
THINGS = ("lantern", "compass")

PASSAGE = 4
"""Paragraphs of a passage."""

VERB, THING = "VERB", "THING"

_TOKEN = re.compile(r"\w+|[^\w\s]")
_RULES = {
    symbol: [alternative.strip() for alternative in text.split(";")]
    for symbol, text in {
        "filler": "the {who} and the {who} {did} the {what} {where}; {when} the {who} {did} the {what} of the {who};"
        "{where} the {who} {did} the {what} {when}; the {who} told the {who} about the {what} {where};"
        "nobody {did} the {what} {where} {when}; the {who} {did} the {what} {where}",
        "who": "baker; sailor; nurse; painter; farmer; pilot; teacher; doctor; clerk; gardener; fisher; weaver; judge",
        "did": "cleaned; carried; painted; sold; mended; measured; bought; moved; opened; weighed",
        "what": "bread; boat; letter; door; basket; wheel; table; window; coat; ladder; bell; chair; rope; barrel; map",
        "where": "{side} the {place}",
        "side": "in; near; behind",
        "place": "harbour; market; mill; church; garden; school; station; tower",
        "when": "on {day}; in the morning; at noon; after the rain; before supper",
        "day": "Monday; Tuesday; Friday; Sunday",
        "evidence": "{when} the captain {verb} the {thing} {where}; the captain {verb} the {thing} {when};"
        "{where} the captain {verb} the {thing} of the {who}",
        "verb": VERB,
        "thing": THING,
    }.items()
}
_GRAMMAR = Grammar(_RULES)


def count_tokens(text: str) -> int:
    """Words and marks: no tokenizer that keeps words apart makes fewer of a text."""
    return len(_TOKEN.findall(text))


@dataclass(frozen=True)
class Paragraphs:
    """The sets that documents are put together from; evidence has places for a verb and a thing."""

    filler: list[str]
    evidence: list[str]

    @staticmethod
    def make(draw: random.Random) -> Paragraphs:
        """Four sentences each."""

        def paragraph(symbol: str) -> str:
            return " ".join(_GRAMMAR.sentence(symbol, 1, draw) for _ in range(4))

        return Paragraphs([paragraph("filler") for _ in range(40)], [paragraph("evidence") for _ in range(8)])


def write_document(paragraphs: Paragraphs, hidden: str, found: str, draw: random.Random) -> str:
    """A text; all but the names of the two things depends on `draw` alone."""

    def choose(parts: Sequence[str]) -> str:
        return parts[int(draw.random() * len(parts))]

    def around(tokens: int) -> list[str]:
        """Paragraphs of `tokens` tokens together, or a few more."""
        parts: list[str] = []
        while tokens > 0:
            parts.append(choose(paragraphs.filler))
            tokens -= count_tokens(parts[-1])
        return parts

    def passage(verb: str, thing: str) -> list[str]:
        return [choose(paragraphs.evidence).replace(VERB, verb).replace(THING, thing) for _ in range(PASSAGE)]

    parts = [*around(MARGIN), *passage("hid", hidden), *around(APART), *passage("found", found), *around(MARGIN)]
    return "\n".join(parts)


def long_documents() -> list[tuple[str, str, str, str, str]]:
    """The rows (id, text, hidden, found, same); each pair of things is as frequent as any other."""
    draw = random.Random(f"long documents {SEED}")  # noqa: S311 (nothing here is secret)
    paragraphs = Paragraphs.make(draw)
    pairs = list(itertools.product(THINGS, THINGS)) * (DOCUMENTS // len(THINGS) ** 2)
    pairs.sort(key=lambda _: draw.random())
    return [
        (
            f"document-{row:04d}",
            write_document(paragraphs, hidden, found, draw),
            hidden,
            found,
            "yes" if hidden == found else "no",
        )
        for row, (hidden, found) in enumerate(pairs, 1)
    ]


def as_csv() -> bytes:
    """The sample as UTF-8 encoded CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(long_documents())
    return buffer.getvalue().encode()


def main() -> None:
    """Write the sample, compressed, next to this file (or into the folder that is given)."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "long_documents.csv.gz").write_bytes(gzip.compress(as_csv(), 9, mtime=0))


if __name__ == "__main__":
    main()
