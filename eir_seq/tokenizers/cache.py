"""Vocabularies that were learnt before, kept by what they were learnt from."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import tokenizers

import eir_seq
from eir_seq.tokenizers import training
from eir_seq.tokenizers.published import load_tokenizer
from eir_seq.tokenizers.tokenizer import Tokenizer

log = logging.getLogger(__name__)

FORMAT = 1
"""Changes with what the folders hold, so that older ones are not read."""
SECONDS = 1.0
"""A vocabulary that is learnt faster than that is not kept."""
_FINGERPRINT = "fingerprint"


class TokenizerCache:
    """A folder with one folder per learnt vocabulary, each named by the hash of all that it depends on.

    They appear whole or not at all, so several processes may learn the same one at once. One that is damaged is learnt
    again. Where the folder cannot be written nothing is kept.
    """

    def __init__(self, folder: str | Path, *, seconds: float = SECONDS) -> None:
        self.folder = Path(folder).expanduser()
        self._seconds = seconds

    def get(self, state: str, learn: Callable[[], Tokenizer]) -> Tokenizer:
        """The tokenizer that `learn` gives; `state` says what it learns from: the texts, by their hash, and options."""
        source = hashlib.sha256(Path(training.__file__).read_bytes()).hexdigest()
        versions = f"{FORMAT} {eir_seq.__version__} {tokenizers.__version__} {source}"
        path = self.folder / f"tokenizer-{hashlib.sha256(f'{versions} {state}'.encode()).hexdigest()}"
        known = _intact(path)
        if known is not None:
            return known
        start = time.monotonic()
        learnt = learn()
        if time.monotonic() - start >= self._seconds:
            try:
                self._keep(learnt, path)
            except OSError as error:
                log.info("%s: the vocabulary cannot be kept (%s)", path, error)
        return learnt

    def _keep(self, tokenizer: Tokenizer, path: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".tokenizer-", suffix=".tmp", dir=self.folder) as temporary:
            whole = Path(temporary) / "whole"
            tokenizer.save(whole)
            (whole / _FINGERPRINT).write_text(tokenizer.fingerprint(), encoding="utf-8")
            if path.exists():  # damaged: `get` has tried to read it
                os.replace(path, Path(temporary) / "damaged")
            os.replace(whole, path)


def _intact(path: Path) -> Tokenizer | None:
    """The tokenizer in a folder, if it is there and what was written."""
    try:
        expected = (path / _FINGERPRINT).read_text(encoding="utf-8")
        tokenizer = load_tokenizer(path, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return tokenizer if tokenizer.fingerprint() == expected else None
