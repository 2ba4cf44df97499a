"""Data that ship with the package, so that the first experiment needs neither a download nor a file of one's own."""

from __future__ import annotations

from pathlib import Path

from eir_seq.errors import Fault, UserError, nearest

SAMPLES = {
    "reviews": "made-up movie reviews: id, text, sentiment",
    "stories": "made-up stories for language models: id, text, and a summary of each",
    "translations": "made-up sentences in two made-up languages: id, source, target",
    "long_documents": "made-up documents of 4,500 tokens: id, text, hidden, found, same",
    "reviews_test": "further reviews from the same program, to predict on",
}


def sample_path(name: str) -> Path:
    """The file of a shipped sample; raises `UserError` for a name that none has."""
    if name not in SAMPLES:
        raise UserError(
            Fault("data.name", f"{name!r} is no sample; there are {', '.join(SAMPLES)}{nearest(name, SAMPLES)}")
        )
    return Path(__file__).with_name(f"{name}.csv.gz")
