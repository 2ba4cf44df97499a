"""Writes poker hands with their names: ``python make_data.py [ROWS]`` writes hands.csv.

A row is a hand of five cards, sorted by rank: `rank1` to `rank5` and `suit1` to `suit5`. `hand` is its name by the
rules. Every name has as many rows, but for the royal flush, of which there are only four different hands.
"""

from __future__ import annotations

import csv
import random
import sys
from collections import Counter
from collections.abc import Sequence

ROWS = 6000
RANKS = ("2", "3", "4", "5", "6", "7", "8", "9", "10", "jack", "queen", "king", "ace")
SUITS = ("clubs", "diamonds", "hearts", "spades")
ALIKE = {
    "nothing": (1, 1, 1, 1, 1),
    "one pair": (2, 1, 1, 1),
    "two pairs": (2, 2, 1),
    "three of a kind": (3, 1, 1),
    "full house": (3, 2),
    "four of a kind": (4, 1),
}
"""How many cards of each rank there are."""
IN_A_ROW = ("straight", "straight flush", "royal flush")
NAMES = (*ALIKE, "straight", "flush", "straight flush")

Card = tuple[int, int]
"""Rank and suit, as places in `RANKS` and `SUITS`."""


def name_of(hand: Sequence[Card]) -> str:
    """What a hand is called."""
    ranks = sorted(rank for rank, _ in hand)
    flush = len({suit for _, suit in hand}) == 1
    straight = len(set(ranks)) == 5 and (ranks[4] - ranks[0] == 4 or ranks == [0, 1, 2, 3, 12])
    if straight and flush:
        return "royal flush" if ranks[0] == 8 else "straight flush"
    if flush or straight:
        return "flush" if flush else "straight"
    counts = tuple(sorted(Counter(ranks).values(), reverse=True))
    return next(name for name, alike in ALIKE.items() if alike == counts)


def draw_hand(name: str, draw: random.Random) -> list[Card]:
    """A random hand of that name."""
    while True:
        if name in IN_A_ROW:
            lowest = 8 if name == "royal flush" else draw.randrange(-1, 9)
            ranks = [(lowest + step) % 13 for step in range(5)]
            counts = [1] * 5
        else:
            counts = list(ALIKE.get(name, ALIKE["nothing"]))
            ranks = draw.sample(range(13), len(counts))
        same = draw.randrange(4) if name.endswith("flush") else None
        suits = [[same] if same is not None else draw.sample(range(4), count) for count in counts]
        hand = [(rank, suit) for rank, found in zip(ranks, suits, strict=True) for suit in found]
        if name_of(hand) == name:
            return sorted(hand)


def main(rows: int = ROWS) -> None:
    draw = random.Random(3)
    names = [NAMES[row % len(NAMES)] if row % 30 else "royal flush" for row in range(rows)]
    with open("hands.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        places = range(1, 6)
        table.writerow(["id", *(f"rank{place}" for place in places), *(f"suit{place}" for place in places), "hand"])
        for row, name in enumerate(names):
            hand = draw_hand(name, draw)
            table.writerow([f"h{row}", *(RANKS[rank] for rank, _ in hand), *(SUITS[suit] for _, suit in hand), name])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
