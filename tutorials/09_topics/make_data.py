"""Writes made-up notes and what they are about: ``python make_data.py [ROWS]`` writes notes.csv.

A note has up to three topics, some have none; `topics` is a list. Each topic has words of its own, of which one to
four stand in a note about it, among words that say nothing. Now and then a note has a word of a topic that it is not
about. Travel is rare.
"""

from __future__ import annotations

import csv
import json
import random
import sys

ROWS = 2000
WORDS = {
    "food": "bread soup cheese lunch oven recipe salad kitchen",
    "music": "song guitar concert choir melody drum piano stage",
    "sport": "match goal team coach race medal stadium runner",
    "weather": "rain storm cloud wind frost sunshine fog thunder",
    "travel": "train hotel luggage airport ticket border map harbour",
}
OFTEN = {"food": 0.4, "music": 0.35, "sport": 0.3, "weather": 0.25, "travel": 0.06}
OTHERS = "the a we they then there today again people some many said went saw had with and but about after"


def main(rows: int = ROWS) -> None:
    draw = random.Random(9)
    with open("notes.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "note", "topics"])
        for row in range(rows):
            topics = [topic for topic in WORDS if draw.random() < OFTEN[topic]][:3]
            words = draw.choices(OTHERS.split(), k=draw.randint(8, 25))
            for topic, own in WORDS.items():
                count = draw.randint(1, 4) if topic in topics else draw.random() < 0.1
                words += draw.choices(own.split(), k=count)
            draw.shuffle(words)
            table.writerow([f"n{row}", " ".join(words), json.dumps(topics)])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
