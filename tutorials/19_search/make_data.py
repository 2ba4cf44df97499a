"""Writes made-up questions and the sentences that answer them: ``python make_data.py [ROWS]`` writes pairs.csv.

A sentence of the notebook says who did what with which thing, where and when. A question asks who, where or when, and
says the rest in other words: no noun, verb or place is spelled alike. The notebook has no sentence twice.
"""

from __future__ import annotations

import csv
import random
import sys

ROWS = 800
WHO = {
    "the doctor": "the physician", "the teacher": "the instructor", "the lawyer": "the attorney",
    "the policeman": "the officer", "the boss": "the manager", "the writer": "the author", "the seaman": "the sailor",
    "the pupil": "the student", "the cook": "the chef", "the singer": "the vocalist",
}  # fmt: skip
DID = {
    "bought": "purchase", "sold": "get rid of", "repaired": "fix", "found": "discover", "lost": "mislay",
    "painted": "colour", "cleaned": "wash", "hid": "conceal", "built": "construct", "threw": "toss",
}  # fmt: skip
WHAT = {
    "a car": "an automobile", "a couch": "a sofa", "a rock": "a stone", "a rug": "a carpet", "a picture": "an image",
    "a bike": "a bicycle", "a boat": "a vessel", "a coat": "a jacket", "a present": "a gift", "a cup": "a mug",
}  # fmt: skip
WHERE = {
    "in the woods": "in the forest", "at the shop": "at the store", "by the sea": "by the ocean",
    "on the hill": "on the slope", "in the street": "on the road", "in the cellar": "in the basement",
    "at the airport": "at the airfield", "in the garden": "in the backyard",
}  # fmt: skip
WHEN = {
    "at dawn": "early", "at noon": "at midday", "at dusk": "in the evening", "after dark": "at night",
    "last fall": "last autumn", "on Saturday": "at the weekend",
}  # fmt: skip
QUESTIONS = [
    "when did {who} {did} {what} {where}?",
    "where did {who} {did} {what} {when}?",
    "who went to {did} {what} {where} {when}?",
]
SENTENCES = ["{who} {did} {what} {where} {when}", "{when} {who} {did} {what} {where}"]


def main(rows: int = ROWS) -> None:
    draw = random.Random(19)
    parts = {"who": WHO, "did": DID, "what": WHAT, "where": WHERE, "when": WHEN}
    known: set[tuple[str, ...]] = set()
    with open("pairs.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "question", "sentence"])
        while len(known) < rows:
            event = {name: draw.choice(list(words)) for name, words in parts.items()}
            if tuple(event.values()) in known:
                continue
            known.add(tuple(event.values()))
            asked = {name: parts[name][word] for name, word in event.items()}
            question = draw.choice(QUESTIONS).format(**asked)
            writer.writerow([f"n{len(known)}", question, draw.choice(SENTENCES).format(**event)])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
