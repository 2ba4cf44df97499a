"""How much longer the steps of a tokenizer.json can make a text: replacements of replacements fill any memory."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tokenizers import Tokenizer as RustTokenizer

from eir_seq.errors import Fault, UserError

MOST = 1000
"""Characters that one may become. In published tokenizers at most 324: ligatures that are spelled out, twice."""
STEPS = ("normalizer", "pre_tokenizer", "decoder")
UNICODE = {"NFD": 4, "NFKD": 18, "NFC": 3, "NFKC": 18}
"""Most characters of which one consists, by form (https://unicode.org/faq/normalization.html)."""


def check_growth(rust: RustTokenizer, place: str) -> None:
    """Raise `UserError` where a text could grow more than `MOST` times.

    >>> from tokenizers import Tokenizer, models, normalizers
    >>> tokenizer = Tokenizer(models.WordLevel({"a": 0}, "a"))
    >>> tokenizer.normalizer = normalizers.Sequence([normalizers.Replace("a", "aa") for _ in range(40)])
    >>> check_growth(tokenizer, "tokenizer.json")
    Traceback (most recent call last):
    eir_seq.errors.UserError: tokenizer.json: its normalizer could make a text 1,099,511,627,776 times as long ...
    """
    for step in STEPS:
        part = getattr(rust, step)
        if part is None:
            continue
        factor = 1
        decomposed = False
        for component in _components(json.loads(part.__getstate__())):
            kind = component.get("type")
            if kind in UNICODE:  # a form of a form is no longer
                factor *= 1 if decomposed else UNICODE[kind]
                decomposed = True
            else:
                factor *= _growth(component)
        if factor > MOST:
            message = f"its {step} could make a text {factor:,} times as long (more than {MOST:,})"
            raise UserError(Fault(place, message))


def _components(state: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The steps of a sequence, one after the other."""
    if state.get("type") == "Sequence":
        for inner in next((value for value in state.values() if isinstance(value, list)), []):
            yield from _components(inner)
    else:
        yield state


def _growth(component: Mapping[str, Any]) -> int:
    kind = component.get("type")
    if kind == "Replace":
        pattern, content = component["pattern"], len(component["content"])
        shortest = len(pattern["String"]) if "String" in pattern else int(not _matches_nothing(pattern["Regex"]))
        return max(1, -(-content // shortest)) if shortest else 1 + content
    if kind in ("Prepend", "Strip", "ByteFallback", "Fuse"):
        return 1 + len(component.get("prepend", ""))
    if kind == "Precompiled":
        return _longest_replacement(base64.b64decode(component["precompiled_charsmap"]))
    return 4 if kind == "ByteLevel" else 1


def _longest_replacement(charsmap: bytes) -> int:
    """Characters of the longest text that sentencepiece's table substitutes for another."""
    trie = int.from_bytes(charsmap[:4], "little")
    return max(1, *map(len, charsmap[4 + trie :].decode("utf-8", "replace").split("\0")))


def _matches_nothing(pattern: str) -> bool:
    """Whether an expression may match between two characters; if in doubt, yes."""
    try:
        return re.search(pattern, "") is not None
    except (re.error, RecursionError, OverflowError):
        return True
