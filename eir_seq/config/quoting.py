"""Words of a command line that Hydra's grammar refuses, and the form of them that it takes.

Hydra reads a value as an expression: a space, a parenthesis or an accent makes it a syntax error unless the value has
its own quotes, inside those of the shell. What is suggested here was parsed and means what the user wrote.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString

from eir_seq.config.folders import options_of
from eir_seq.errors import Fault

COMMAND_LINE = "command line"
_BARE = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_OWN_FUNCTION = re.compile(r"\s*(bool|choice|float|glob|int|interval|json_str|range|shuffle|sort|str|tag)\(")


def refused(words: Sequence[str], index: int, reason: str) -> tuple[Fault, int]:
    """The fault of ``words[index]``, which does not parse for `reason`, and how many words it is about.

    More than one, where the shell has cut a value with spaces in brackets into several words.
    """
    text = words[index]
    key, equals, value = text.partition("=")
    if not equals:
        return Fault(text or "''", f"not of the form key=value{_key_value(text)}", COMMAND_LINE), 1
    if not key.strip("+~ "):
        return Fault(text, "not of the form key=value; it has no key", COMMAND_LINE), 1
    if _parsed(f"{key}=1") is None:
        better = _better_key(key)
        hint = f"; did you mean {shlex.quote(f'{better}={value}')}?" if better else ""
        return Fault(text, f"{key!r} is not a key such as trainer.max_epochs{hint}", COMMAND_LINE), 1
    place = key.lstrip("+~")
    if any(value.count(opening) > value.count(closing) for opening, closing in ("[]", "{}")):
        for end in range(index + 2, len(words) + 1):
            whole = " ".join(words[index:end])
            if _parsed(whole) is not None or corrected(key, whole.partition("=")[2]):
                form = " ".join(map(shlex.quote, corrected(key, whole.partition("=")[2]) or [whole]))
                return Fault(place, f"the shell cuts it at the spaces; write {form}", COMMAND_LINE), end - index
    if "${" in value:
        message = f"{value!r}: '${{' begins an interpolation such as ${{data.batch_size}}, which this is not"
        return Fault(place, message, COMMAND_LINE), 1
    if function := _OWN_FUNCTION.match(value):
        if "NoneType" in reason:
            reason = f"{function[1]}() takes no null; write the values as a list, {place}=VALUE,null"
        return Fault(place, f"{value!r}: {reason}", COMMAND_LINE), 1
    if forms := corrected(key, value):
        quoted = " ".join(map(shlex.quote, forms))
        fewer = f"{key}={','.join(part for part in value.split(',') if part.strip())}"
        if value.lstrip()[:1] not in ("[", "{") and len(fewer) < len(f"{key}={value}") and _parsed(fewer) is not None:
            text = "" if options_of(place) else f", or for a text write {quoted}"
            message = f"{value!r} has a comma without a value; leave it out ({fewer}){text}"
            return Fault(place, message, COMMAND_LINE), 1
        why = "cannot be written so" if value.lstrip()[:1] in ("[", "{") else "needs its own quotes"
        return Fault(place, f"{value!r} {why}; write {quoted}", COMMAND_LINE), 1
    return Fault(place, f"{value!r}: {reason}", COMMAND_LINE), 1


def as_list(text: str) -> str:
    """``KEY=choice(A,null)`` as ``KEY=A,null``, which is the same list; Hydra's function takes everything but null."""
    key, _, value = text.partition("=")
    call = re.fullmatch(r"\s*choice\((.*)\)\s*", value, re.DOTALL)
    listed = f"{key}={call[1]}" if call else text
    return text if _parsed(text) is not None or _parsed(listed) is None else listed


def corrected(key: str, value: str) -> list[str]:
    """Overrides that set `key` to what `value` was meant to be; none if that cannot be determined."""
    meant: Any = value
    if value.lstrip()[:1] in ("[", "{"):
        try:
            meant = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError):
            meant = value
    try:
        return _forms(key, meant)
    except RecursionError:
        return []


def _forms(key: str, meant: Any) -> list[str]:
    word = f"{key}={_rendered(meant)}"
    parsed = _parsed(word)
    if parsed is not None and not parsed.is_sweep_override() and parsed.value() == meant:
        return [word]
    if not isinstance(meant, dict) or not meant:
        return []
    parts = [_forms(f"{key}.{name}", item) for name, item in meant.items()]  # a key that cannot be in braces
    return [form for part in parts for form in part] if all(parts) else []


def _rendered(value: Any) -> str:
    """A value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        plain = _BARE.fullmatch(value) and not isinstance(yaml.safe_load(value), bool | None)
        return value if plain else str(QuotedString(value, Quote.double).with_quotes())
    if isinstance(value, list):
        return f"[{', '.join(map(_rendered, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_rendered(item)}" for name, item in value.items()) + "}"
    return str(value)


def _parsed(word: str) -> Any:
    try:
        return OverridesParser.create().parse_override(word)
    except Exception:  # whatever the grammar raises: it is no override
        return None


def _key_value(text: str) -> str:
    """What was meant by a word without ``=``."""
    name = PurePath(text).stem if text.endswith((".yaml", ".yml")) else text
    if name in options_of("experiment"):
        return f"; did you mean experiment={name}?"
    key, colon, value = text.partition(":")
    if colon and _parsed(word := f"{key.strip()}={value.strip()}") is not None and key.strip():
        return f"; did you mean {shlex.quote(word)}?"
    return ""


def _better_key(key: str) -> str | None:
    """The key that a misspelled one was meant to be: without spaces and brackets, parts joined by single dots."""
    sign = key[: len(key) - len(key.lstrip("+~"))]
    parts = re.split(r"[\s.:/\[\]\"']+", key[len(sign) :])
    better = sign + ".".join(part for part in parts if part)
    return better if better != sign and _parsed(f"{better}=1") is not None else None
