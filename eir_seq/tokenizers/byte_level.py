"""Byte-level vocabularies (Radford et al. 2019): each byte is written as a character."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders

ERRORS = ("replace", "ignore", "strict")
"""What decoding can do with bytes that are no UTF-8: U+FFFD, nothing, or `UnicodeDecodeError`."""
_WITH_OPTIONS = ("ByteLevel", "RobertaProcessing")


def byte_symbols() -> list[str]:
    """The character by which byte-level vocabularies write each byte, in the order of bytes.

    Printable Latin-1 characters stand for themselves, the other bytes for the characters from U+0100 on.
    """
    themselves = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = iter(range(256, 512))
    return [chr(byte if byte in themselves else next(others)) for byte in range(256)]


@cache
def _bytes_by_symbol() -> Mapping[str, int]:
    return {symbol: byte for byte, symbol in enumerate(byte_symbols())}


def is_byte_level(rust: RustTokenizer) -> bool:
    """Whether the tokens of a vocabulary are bytes."""
    return isinstance(rust.decoder, decoders.ByteLevel)


def option_of(rust: RustTokenizer, component: str, name: str) -> bool | None:
    """A byte-level option of the pre_tokenizer or post_processor, None if it has no such option."""
    return next((part[name] for part in _parts(_state(rust, component)) if name in part), None)


def set_option(rust: RustTokenizer, component: str, name: str, value: bool) -> None:
    """Set a byte-level option wherever the pre_tokenizer or post_processor has it."""
    state = _state(rust, component)
    for part in _parts(state):
        if name in part:
            part[name] = value
    changed = getattr(rust, component)
    if state:
        changed.__setstate__(json.dumps(state).encode())
        setattr(rust, component, changed)


def text_of_tokens(tokens: list[tuple[str, bool]], errors: str) -> str:
    """The text of tokens, each with whether its characters stand for bytes; `errors` as of `bytes.decode`."""
    symbols, parts, run = _bytes_by_symbol(), [], bytearray()
    for token, as_bytes in [*tokens, ("", False)]:
        if as_bytes:
            run += bytes(symbols[character] for character in token)
            continue
        parts += [run.decode(errors=errors), token]
        run.clear()
    return "".join(parts)


def _state(rust: RustTokenizer, component: str) -> dict[str, Any]:
    part = getattr(rust, component)
    state: dict[str, Any] = {} if part is None else json.loads(part.__getstate__())
    return state


def _parts(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Of a component, or of those of a sequence, the ones with byte-level options."""
    if state.get("type") in _WITH_OPTIONS:
        yield state
    for inner in (*state.get("pretokenizers", ()), *state.get("processors", ())):
        yield from _parts(inner)
