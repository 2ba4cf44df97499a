"""Writes a small table of made-up messages of customers: ``python make_data.py [ROWS]`` writes messages.csv.

Each customer wrote four of them, in words of his own. Complaints have more of the words of `BAD` and fewer of `GOOD`;
the product and the weeks since it was bought say a little, too.
"""

from __future__ import annotations

import csv
import random
import sys

ROWS = 400
GOOD = "fine works happy quick thanks friendly great easy"
BAD = "broken late wrong slow missing noisy refund scratched"
OTHERS = "the it was is my order box have for with last week please parcel a and"
PRODUCTS = {"lamp": 0.4, "kettle": 0.5, "radio": 0.6}


def main(rows: int = ROWS) -> None:
    draw = random.Random(13)
    own: list[str] = []
    with open("messages.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "customer", "product", "weeks", "message", "complaint"])
        for row in range(rows):
            if row % 4 == 0:
                own = draw.sample(OTHERS.split(), 6)
            product = draw.choice(list(PRODUCTS))
            complaint = draw.random() < PRODUCTS[product]
            weeks = draw.gammavariate(2, 2 if complaint else 4)
            words = draw.choices(own, k=draw.randint(6, 14))
            words += [
                draw.choice(BAD.split() if (draw.random() < 0.75) == complaint else GOOD.split()) for _ in range(4)
            ]
            draw.shuffle(words)
            label = "yes" if complaint else "no"
            table.writerow([f"m{row}", f"c{row // 4:03d}", product, f"{weeks:.1f}", " ".join(words), label])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
