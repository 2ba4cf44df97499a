"""The nearest sentences to a question: ``python ask.py QUESTION`` reads sentences.npy, which `embed` has written."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from eir_seq.inference.predictor import Predictor
from eir_seq.training.bundle import read_bundle


def main(question: str, count: int = 3) -> None:
    with open("pairs.csv", encoding="utf-8", newline="") as file:
        sentences = [row["sentence"] for row in csv.DictReader(file)]
    predictor = Predictor(read_bundle(Path("runs/search/bundle")))
    cosines = np.load("sentences.npy") @ predictor.embed([{"question": question}], "question")[0]
    for row in cosines.argsort()[::-1][:count]:
        print(f"{cosines[row]:.3f}  {sentences[row]}")


if __name__ == "__main__":
    main(sys.argv[1])
