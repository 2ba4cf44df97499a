"""Vocabularies in files: a JSON object of ids by token, or a token per line."""

from __future__ import annotations

import json
from pathlib import Path

from eir_seq.errors import Fault, UserError
from eir_seq.files import MEGABYTE, read_text, reason

LARGEST = 256 * MEGABYTE
"""Bytes of such a file."""


def read_vocab_file(name: str) -> list[str]:
    """The tokens in the order of their ids, or of their lines.

    Args:
        name: of the file; ``.json`` holds an object ``{"token": id, ...}``, any other a token per line.

    Raises:
        UserError: it cannot be read, or names a token or an id twice.
    """
    path = Path(name).expanduser()
    try:
        text = read_text(path, LARGEST)
    except UnicodeDecodeError:
        raise UserError(Fault(name, "is not UTF-8")) from None
    except OSError as error:
        raise UserError(Fault(name, f"cannot be read: {reason(error).lower()}")) from None
    tokens = _of_json(text, name) if path.suffix.lower() == ".json" else _of_lines(text, name)
    if not tokens:
        raise UserError(Fault(name, "holds no token"))
    return tokens


def _of_lines(text: str, name: str) -> list[str]:
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []
    seen: dict[str, int] = {}
    for number, token in enumerate(lines, 1):
        if not token:
            raise UserError(Fault(name, f"line {number} is empty; each line is a token"))
        if token in seen:
            raise UserError(Fault(name, f"line {number}: {token!r} stands in line {seen[token]} already"))
        seen[token] = number
    return lines


def _of_json(text: str, name: str) -> list[str]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [key for key, _ in pairs]
            twice = next(key for key in names if names.count(key) > 1)
            raise UserError(Fault(name, f"{twice!r} occurs more than once"))
        return found

    try:
        content = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise UserError(Fault(name, f"is not valid JSON ({error})")) from None
    if not isinstance(content, dict):
        raise UserError(Fault(name, 'is no object of ids by token, such as {"the": 0, "a": 1}'))
    by_id: dict[int, str] = {}
    for token, number in content.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise UserError(Fault(name, f"the id of {token!r} is {str(number)[:40]}, not a whole number from 0 on"))
        if not token:
            raise UserError(Fault(name, "the empty text is no token"))
        if number in by_id:
            raise UserError(Fault(name, f"{by_id[number]!r} and {token!r} have the same id {number}"))
        by_id[number] = token
    return [by_id[number] for number in sorted(by_id)]
