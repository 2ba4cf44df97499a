"""Writes the sample of stories: ``python -m eir_seq.samples.stories [FOLDER]``.

A text for language models that the project can ship, because it is made and not collected. What makes it worth
learning is what holds a story together: who the hero is decides the pronouns, what was lost is what is found in the
end, and each gift comes back, by the one who gave it, at the obstacle that it helps against.
"""

from __future__ import annotations

import csv
import gzip
import io
import random
import re
import sys
from pathlib import Path

from eir_seq.samples.grammar import Grammar
from eir_seq.samples.story_rules import ANIMALS, ELDERS, GIFTS, HOMES, NAMES, PRONOUNS, RULES, WISHES

SEED = 7
STORIES = 1500
COLUMNS = ("id", "text")

_ALTERNATIVES = {
    symbol: [" ".join(phrase.split()) for phrase in text.strip().split("/" if "/" in text else "\n")]
    for symbol, text in RULES.items()
}


def write_story(draw: random.Random) -> str:
    """A story in paragraphs: loss, one or two helpers met and one or two obstacles passed, the way home."""
    pronoun = draw.choice(list(NAMES))
    lost, works, plight = draw.choice(list(WISHES.values()))
    settled = {
        **PRONOUNS[pronoun],
        "hero": draw.choice(NAMES[pronoun]),
        "home": draw.choice(HOMES),
        "elder": draw.choice(ELDERS),
        "lost": lost,
        "works": works,
        "plight": plight,
    }
    helpers = draw.sample(ANIMALS, draw.choice((1, 2, 2)))
    gifts = draw.sample(list(GIFTS), len(helpers))
    meetings = [
        {
            "helper": helper,
            "gift": GIFTS[gift][0],
            "gift_short": f"the {gift}",
            "used": GIFTS[gift][1],
            "obstacle": draw.choice(GIFTS[gift][2]),
        }
        for helper, gift in zip(helpers, gifts, strict=True)
    ]

    def tell(symbols: str, own: dict[str, str]) -> str:
        grammar = Grammar(_ALTERNATIVES | {name: [value] for name, value in (settled | own).items()})
        return " ".join(spoken(grammar.sentence(symbol, 1, draw)) for symbol in symbols.split())

    paragraphs = [tell("opening loss leaving", meetings[0])]
    paragraphs += [tell("walking trouble kindness giving", meeting) for meeting in meetings]
    paragraphs += [tell("barrier use", meeting) for meeting in draw.sample(meetings, len(meetings))]
    paragraphs.append(tell("finding return ending", draw.choice(meetings)))
    return "\n".join(paragraphs) + "\n"


def spoken(sentence: str) -> str:
    """Direct speech begins with a capital and ends within its quotes."""
    sentence = re.sub(r'^"[a-z]', lambda match: match.group().upper(), sentence)
    return re.sub(r'"\.$', '."', sentence)


def stories() -> list[tuple[str, str]]:
    """The rows (id, text) of the sample, none twice."""
    draw = random.Random(f"stories {SEED}")  # noqa: S311 (nothing here is secret)
    texts: dict[str, None] = {}
    while len(texts) < STORIES:
        texts.setdefault(write_story(draw))
    return [(f"story-{row:04d}", text) for row, text in enumerate(texts, 1)]


def as_csv() -> bytes:
    """The sample as UTF-8 encoded CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(stories())
    return buffer.getvalue().encode()


def main() -> None:
    """Write the sample, compressed, next to this file (or into the folder that is given)."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    (folder / "stories.csv.gz").write_bytes(gzip.compress(as_csv(), 9, mtime=0))


if __name__ == "__main__":
    main()
