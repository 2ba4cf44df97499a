"""Tokenizers that were trained before, kept by what they were trained on."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from eir_seq.cache import Cache, Label, code_version
from eir_seq.cache.owners import Mark
from eir_seq.tokenizers.published import load_tokenizer
from eir_seq.tokenizers.tokenizer import Tokenizer

log = logging.getLogger(__name__)

SECONDS = 1.0
"""A tokenizer that is trained faster than that is not kept."""
_CODE = "eir_seq.tokenizers.training"


class TokenizerCache:
    """Trained tokenizers in a cache folder, see `Cache`. Where it cannot be written nothing is kept.

    Args:
        folder: the cache folder.
        max_size: bytes that it may have.
        source: what they are trained on, in readable form.
        seconds: one that is trained faster is not kept; `SECONDS` if absent.
    """

    def __init__(
        self, folder: str | Path, *, max_size: int | None = None, source: str = "", seconds: float | None = None
    ) -> None:
        self._cache = Cache(folder, max_size)
        self._source = source
        self._seconds = SECONDS if seconds is None else seconds

    @property
    def folder(self) -> Path:
        """Where tokenizers are kept."""
        return self._cache.folder

    def get(self, state: str, learn: Callable[[], Tokenizer], *, code: str = _CODE) -> Tokenizer:
        """The tokenizer that `learn` gives; `state` says what it learns from: the texts, by their hash, and options.

        `code`: the module of the function that learns it.
        """
        learned: list[Tokenizer] = []

        def build(folder: Path, renew: Callable[[], None]) -> Label | None:  # noqa: ARG001
            start = time.monotonic()
            if not learned:
                learned.append(learn())
            if time.monotonic() - start < self._seconds:
                return None
            learned[0].save(folder)
            return Label("tokenizer", self._source)

        def read(folder: Path, mark: Mark | None) -> Tokenizer:  # noqa: ARG001
            return load_tokenizer(folder, local_files_only=True)

        name = f"tokenizer-{hashlib.sha256(f'{code_version(_CODE, code)} {state}'.encode()).hexdigest()}"
        try:
            known = self._cache.get(name, build, read)
        except OSError as error:
            log.info("%s: the tokenizer cannot be kept (%s)", self.folder, error)
            known = None
        if known is None:
            known = learned[0] if learned else learn()
        return known
