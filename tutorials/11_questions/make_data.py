"""Writes made-up messages and questions about them: ``python make_data.py [ROWS]`` writes questions.json.

The file has the format of SQuAD. A message says who does what, and mostly where and when, in any order, among
sentences that say nothing. A question asks for one of these; where the message does not say it, there is no answer.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

ROWS = 2000
WHO = "Ada Ben Carla David Emma Felix Greta Hugo"
WHAT = ["a letter", "two boxes", "the old bicycle", "a red umbrella", "three tickets", "the spare key", "a cake"]
WHERE = ["at the station", "in the library", "near the harbour", "behind the church", "at the market"]
WHEN = ["on Monday", "on Friday morning", "before noon", "after the concert", "at six", "next Sunday"]
CHATTER = [
    "Please tell the others.",
    "It will not take long.",
    "I hope you are well.",
    "Thanks a lot.",
    "See you soon.",
]
QUESTIONS = {"who": "Who brings it?", "what": "What is brought?", "where": "Where is it?", "when": "When is it?"}


def row_of(number: int, draw: random.Random) -> dict[str, Any]:
    """One message with one question."""
    facts = {
        "who": draw.choice(WHO.split()),
        "what": draw.choice(WHAT),
        "where": draw.choice(WHERE),
        "when": draw.choice(WHEN),
    }
    sentences = [f"{facts['who']} brings {facts['what']}."]
    missing = draw.choice([("where",), ("when",), ("where", "when"), (), ()])
    sentences += [f"It is {facts[key]}." for key in ("where", "when") if key not in missing]
    sentences += draw.sample(CHATTER, draw.randint(1, 4))
    draw.shuffle(sentences)
    context = " ".join(sentences)
    asked = draw.choice(list(QUESTIONS))
    answers = [] if asked in missing else [{"text": facts[asked], "answer_start": context.index(facts[asked])}]
    question = {"id": f"q{number}", "question": QUESTIONS[asked], "answers": answers, "is_impossible": not answers}
    return {"context": context, "qas": [question]}


def main(rows: int = ROWS) -> None:
    draw = random.Random(11)
    paragraphs = [row_of(number, draw) for number in range(rows)]
    with open("questions.json", "w", encoding="utf-8") as file:
        json.dump({"version": "v2.0", "data": [{"title": "messages", "paragraphs": paragraphs}]}, file)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
