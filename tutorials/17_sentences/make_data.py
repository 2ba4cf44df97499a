"""Makes up weather and the sentences that report it: ``python make_data.py [ROWS]``."""

from __future__ import annotations

import csv
import random
import sys

CITIES = ("Oslo", "Lagos", "Lima", "Kyoto", "Cairo", "Perth")
SKIES = ("clear", "cloudy", "rainy")
WARMTH = ((0, "freezing"), (12, "cool"), (24, "warm"), (99, "hot"))
"""Up to which degree, and what that is called."""


def sentence(city: str, degrees: int, sky: str, wind: int | None) -> str:
    warmth = next(word for most, word in WARMTH if degrees <= most)
    report = f"it is {warmth} and {sky} in {city}"
    if wind is None:
        return report
    return f"{report} {'with a storm' if wind > 60 else 'with some wind' if wind > 20 else 'without wind'}"


def main(rows: int = 3000) -> None:
    chance = random.Random(0)
    test = rows // 10
    for table, count in (("train", rows - test), ("test", test)):
        with open(f"{table}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", "city", "degrees", "sky", "wind", "report"])
            for row in range(count):
                city, sky = chance.choice(CITIES), chance.choice(SKIES)
                degrees, wind = chance.randint(-20, 40), chance.choice([None, *[chance.randint(0, 100)] * 4])
                cells = [city, degrees, sky, "" if wind is None else wind, sentence(city, degrees, sky, wind)]
                writer.writerow([f"{table}{row}", *cells])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
