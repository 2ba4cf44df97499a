"""Writes the sample of movie reviews: ``python -m eir_seq.samples.reviews [FOLDER]``.

The reviews are made, not collected, so that the project can ship them and everybody gets the same ones. They are made
so that a model has to read: each review mixes praise and blame, says part of both by denial ("hardly boring") or
contrast ("I expected a mess, but ..."), and a closing verdict decides the label. Words of praise and blame stand in
both classes; docs/results.md tells what simple and better models reach.
"""

from __future__ import annotations

import csv
import gzip
import io
import random
import sys
from pathlib import Path

from eir_seq.samples.grammar import Grammar
from eir_seq.samples.review_rules import MANNERS, RULES

SEED = 20
ROWS = {"reviews": 6000, "reviews_test": 500}
SHORTEST, LONGEST = 30, 600  # words
COLUMNS = ("id", "text", "sentiment")
LABELS = {1: "positive", -1: "negative"}


def write_review(label: int, grammar: Grammar, draw: random.Random) -> str:
    """One review whose verdict is `label` (+1 or -1)."""
    length = SHORTEST * (LONGEST / SHORTEST) ** (draw.random() ** 2)  # more short ones, as in life
    agreement = draw.uniform(0.8, 1.0)  # share of the single opinions that agree with the verdict
    chatter = draw.uniform(0.1, 0.35)  # share of sentences that give no opinion
    # A frank reviewer mostly says what is meant, a roundabout one mostly denies the opposite: the same words in both.
    denial = draw.uniform(0.0, 0.3) if draw.random() < 0.76 else draw.uniform(0.7, 1.0)

    def say(kind: str, polarity: int) -> str:
        manner = draw.choices(MANNERS, (1 - denial, denial, 0.35))[0]
        return grammar.sentence(f"{kind}_{manner}", polarity, draw)

    def verdict() -> str:
        return say(draw.choices(("verdict", "advice"), (7, 3))[0], label)

    closing = verdict()
    sentences: list[str] = []
    words = len(closing.split())
    while words < length:
        if draw.random() < chatter:
            sentence = grammar.sentence(draw.choices(("plot", "aside"), (2, 1))[0], draw.choice((1, -1)), draw)
        elif draw.random() < 0.12:
            sentence = verdict()
        else:
            sentence = say("opinion", label if draw.random() < agreement else -label)
        words += len(sentence.split())
        sentences.append(sentence)
    return " ".join([*sentences, closing])


def reviews(name: str) -> list[tuple[str, str, str]]:
    """The rows (id, text, sentiment) of the sample `name`: as many positive as negative ones, none twice."""
    draw = random.Random(f"{name} {SEED}")  # noqa: S311 (nothing here is secret)
    grammar = Grammar(RULES)
    labels = [1, -1] * (ROWS[name] // 2)
    draw.shuffle(labels)
    texts: dict[str, int] = {}
    for label in labels:
        text = ""
        while not SHORTEST <= len(text.split()) <= LONGEST or text in texts:
            text = write_review(label, grammar, draw)
        texts[text] = label
    return [(f"{name}-{row:04d}", text, LABELS[label]) for row, (text, label) in enumerate(texts.items(), 1)]


def as_csv(name: str) -> bytes:
    """The sample as UTF-8 encoded CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(reviews(name))
    return buffer.getvalue().encode()


def main() -> None:
    """Write every sample, compressed, next to this file (or into the folder that is given)."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    folder.mkdir(parents=True, exist_ok=True)
    for name in ROWS:
        (folder / f"{name}.csv.gz").write_bytes(gzip.compress(as_csv(name), 9, mtime=0))


if __name__ == "__main__":
    main()
