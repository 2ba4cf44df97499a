"""Writes made-up hours of a power grid: ``python make_data.py [ROWS]`` writes hours.csv.

The load follows the hour and the temperature, and its spread grows in the evening: between 1 and 7 units. So a single
number says too little about the hours to come.
"""

from __future__ import annotations

import csv
import sys

import numpy as np

ROWS = 3000
DAYS = ("workday", "saturday", "sunday")


def main(rows: int = ROWS) -> None:
    random = np.random.default_rng(14)
    hour = random.integers(0, 24, rows)
    temperature = random.normal(12, 8, rows)
    day = random.choice(3, rows, p=[5 / 7, 1 / 7, 1 / 7])
    mean = 50 + 15 * np.sin((hour - 9) / 24 * 2 * np.pi) + 0.1 * (temperature - 16) ** 2 - 4 * day
    spread = 1 + 6 * np.exp(-((hour - 19) ** 2) / 8)
    load = random.normal(mean, spread)
    with open("hours.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "day", "hour", "temperature", "load"])
        for row in range(rows):
            table.writerow([f"t{row}", DAYS[day[row]], hour[row], f"{temperature[row]:.1f}", f"{load[row]:.2f}"])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
