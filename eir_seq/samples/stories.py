"""Writes the sample of stories: ``python -m eir_seq.samples.stories [FOLDER]``.

Texts for language models, each with a summary, that the project can ship, because they are made and not collected. What
makes them worth learning is what holds a story together: who the hero is decides the pronouns, what was lost is what is
found in the end, and each gift comes back, by the one who gave it, at the obstacle that it helps against.
"""

from __future__ import annotations

import csv
import gzip
import io
import random
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from eir_seq.samples.grammar import Grammar
from eir_seq.samples.story_rules import ANIMALS, ELDERS, GIFTS, HOMES, NAMES, PRONOUNS, RULES, WISHES

SEED = 7
STORIES = 1500
COLUMNS = ("id", "text", "summary")

_ALTERNATIVES = {
    symbol: [" ".join(phrase.split()) for phrase in text.strip().split("/" if "/" in text else "\n")]
    for symbol, text in RULES.items()
}


def write_story(draw: random.Random) -> tuple[str, str]:
    """A story in paragraphs (loss, one or two helpers met, one or two obstacles passed, the way home); its summary."""
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
    passed = draw.sample(meetings, len(meetings))
    paragraphs += [tell("barrier use", meeting) for meeting in passed]
    paragraphs.append(tell("finding return ending", draw.choice(meetings)))
    return "\n".join(paragraphs) + "\n", summary(settled, passed)


def summary(settled: Mapping[str, str], passed: Sequence[Mapping[str, str]]) -> str:
    """What was brought back, and what helped on the way against what, in the order of the way."""
    steps = (f"past a {one['obstacle']} with {one['gift_short']} of the {one['helper']}" for one in passed)
    way = re.sub(r"\ba (?=[aeiou])", "an ", " and ".join(steps))
    return f"{settled['hero']} brings back {settled['lost']}. {settled['he'].capitalize()} gets {way}."


def spoken(sentence: str) -> str:
    """Direct speech begins with a capital and ends within its quotes."""
    sentence = re.sub(r'^"[a-z]', lambda match: match.group().upper(), sentence)
    return re.sub(r'"\.$', '."', sentence)


def stories() -> list[tuple[str, str, str]]:
    """The rows (id, text, summary) of the sample, none twice."""
    draw = random.Random(f"stories {SEED}")  # noqa: S311 (nothing here is secret)
    texts: dict[str, str] = {}
    while len(texts) < STORIES:
        texts.setdefault(*write_story(draw))
    return [(f"story-{row:04d}", *story) for row, story in enumerate(texts.items(), 1)]


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
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stories.csv.gz").write_bytes(gzip.compress(as_csv(), 9, mtime=0))


if __name__ == "__main__":
    main()
