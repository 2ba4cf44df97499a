"""Writes made-up pupils and their grades: ``python make_data.py [ROWS]`` writes pupils.csv.

Hours of learning, days of absence, the grade of the year before and the school make a score, with some chance. The
grade says between which bounds it lies: fail, pass, good or excellent. One number in twenty is missing.
"""

from __future__ import annotations

import csv
import sys

import numpy as np

ROWS = 2500
GRADES = ("fail", "pass", "good", "excellent")
SCHOOLS = {"lake": 0.4, "hill": 0.0, "town": -0.4}


def main(rows: int = ROWS) -> None:
    random = np.random.default_rng(10)
    hours = random.gamma(4, 2, rows)
    absent = random.poisson(4, rows)
    before = random.normal(0, 1, rows)
    school = random.choice(list(SCHOOLS), rows)
    score = np.sqrt(hours) - 0.15 * absent + 0.8 * before + [SCHOOLS[name] for name in school]
    score += random.normal(0, 0.4, rows)
    grade = np.searchsorted([1.0, 2.2, 3.4], score)
    numbers = np.stack([hours.round(1), absent, before.round(2)], 1).astype(str)
    numbers[random.random(numbers.shape) < 0.05] = ""
    with open("pupils.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "school", "hours", "absent", "before", "grade"])
        for row in range(rows):
            table.writerow([f"p{row}", school[row], *numbers[row], GRADES[grade[row]]])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
