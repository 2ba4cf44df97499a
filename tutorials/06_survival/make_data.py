"""Writes a made-up cohort of patients: ``python make_data.py [ROWS]`` writes cohort.csv.

The hazard of a patient is known: it grows with age, stage and a marker in the blood, and the treatment halves it;
`ward` has no effect. Times of death follow a Weibull distribution. Patients who leave the study, or live at its end,
are censored. A tenth of the markers were not measured. Printed is how well the true hazards rank the patients
(c-index): no model can be expected to be better.
"""

from __future__ import annotations

import csv
import sys

import numpy as np

ROWS = 3000
STAGES = ("I", "II", "III")
YEARS = 5.0


def c_index(time: np.ndarray, died: np.ndarray, risk: np.ndarray) -> float:
    """Harrell's: of the pairs in which it is known who died first, the share in which that one had the higher risk."""
    right = pairs = 0.0
    for row in np.flatnonzero(died):
        later = time > time[row]
        pairs += later.sum()
        right += (risk[row] > risk[later]).sum() + 0.5 * (risk[row] == risk[later]).sum()
    return right / pairs


def main(rows: int = ROWS) -> None:
    random = np.random.default_rng(6)
    age = random.normal(65, 10, rows).clip(30, 95).round()
    stage = random.choice(3, rows, p=[0.5, 0.3, 0.2])
    treated = random.random(rows) < 0.5
    marker = random.lognormal(0, 0.8, rows)
    ward = random.choice(["north", "south", "west"], rows)
    log_hazard = 0.05 * (age - 65) + 0.7 * stage + 0.6 * np.log(marker) + np.log(0.5) * treated
    death = 6.0 * (random.exponential(size=rows) / np.exp(log_hazard)) ** (1 / 1.4)
    left = np.minimum(random.exponential(12.0, rows), YEARS)
    died = death <= left
    time = np.minimum(death, left)
    print(f"{rows} patients, {died.mean():.0%} died; c-index of the true hazards {c_index(time, died, log_hazard):.3f}")
    unknown = random.random(rows) < 0.1
    with open("cohort.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "age", "stage", "treated", "marker", "ward", "years", "died"])
        for row in range(rows):
            measured = "" if unknown[row] else f"{marker[row]:.3f}"
            known = [int(age[row]), STAGES[stage[row]], "yes" if treated[row] else "no", measured, ward[row]]
            table.writerow([f"p{row}", *known, f"{max(time[row], 0.001):.3f}", int(died[row])])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
