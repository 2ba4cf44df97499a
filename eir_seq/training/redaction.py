"""Secrets stay out of what a run writes and says: config, manifest, log, report, trackers, console."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"

_USER_INFO = re.compile(r"(?<=://)[^/\s]*@")
_SIGNED = re.compile(r"(?i)(?<=\S)\?(?=\S*(?:signature|\bsig=|credential|x-amz-|x-goog-))\S*")
"""The query of a signed URL."""
_HEADER = re.compile(r"(?i:(\bbearer\s+|\bauthorization:\s*(?:\w+\s+)?))(?!\*\*\*)[^\s'\",]+")
_VALUE = re.compile(r"\"[^\"]*\"|'[^']*'|\S+")
_NAME = re.compile(
    r"(?P<flag>--)?(?<![A-Za-z0-9_])(?P<name>[A-Za-z0-9][\w-]{0,99})(?P<quote>[\"']?)"
    r"(?P<sign>\s{0,9}=\s{0,9}|:(?!//)(?=\S)|:\s{1,9}(?=[\"'])|:\s{1,9}(?=\S)|\s(?=[^\s=-]))",
    re.MULTILINE,
)
"""The start of ``name=value``, ``"name": "value"`` or ``--name value``; bounded, as texts may be long and odd."""
_ALWAYS = ("password", "passwd", "passphrase", "secret", "credential")
_OF_TEXT = re.compile(
    r"(^|_)(additional|audio|begins?|bos|cls|decoder|end|eo[st]|forced|image|lang|language|mask|max|middle|min|n|num|pad"
    r"|per|prefix|sentinel|sep|special|speech|start|stop|suffix|unk|use|video|word)_"
)
"""Words of the names of a tokenizer's tokens and of counts of tokens, which are no secrets."""
_LAST = re.compile(r"(?i:pass(word|wd|phrase)|secret|credentials?|.(key|token))$")
_PLAIN = re.compile(
    r"[\"']?(?:[+-]?[\d.]+|true|false|null|none|value|\*\*\*|[<\[].*)[\"';,.)]*", re.IGNORECASE | re.DOTALL
)
"""Numbers, switches, special tokens such as ``[MASK]``, and the word value, which messages have for one."""


def redact(value: Any) -> Any:
    """The same data without secrets.

    Secrets are what stands for names such as ``api_key``, ``*password*``, ``*secret*``, ``hf_token`` (as a key of a
    mapping, ``name=value`` or ``"name": "value"`` in a text, ``--name value``), ``Bearer ...`` and user info of URLs.
    ``pad_token`` and ``max_tokens`` are none.

        >>> redact({"api_key": "abc", "note": "hub_token=abc, seed=3", "mask_token": "[MASK]"})
        {'api_key': '***', 'note': 'hub_token=*** seed=3', 'mask_token': '[MASK]'}
    """
    if isinstance(value, str):
        value = _SIGNED.sub(f"?{HIDDEN}", _USER_INFO.sub(f"{HIDDEN}@", value))
        return _without_values(_HEADER.sub(rf"\1{HIDDEN}", value))
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if isinstance(item, str) and is_secret(str(key), item) else redact(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return value


def redact_words(words: list[str]) -> list[str]:
    """The words of a command line without secrets; a word is redacted to its end, whatever it holds."""
    found: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        name, sign, value = word.partition("=")
        last = name.rpartition(".")[2].lstrip("+~-")
        if sign and is_secret(last, value):
            found.append(f"{name}={HIDDEN}")
        elif before.startswith("--") and "=" not in before and is_secret(before.lstrip("-"), word):
            found.append(HIDDEN)
        else:
            found.append(str(redact(word)))
    return found


def is_secret(name: str, value: str) -> bool:
    """Whether the value of something of that name is a secret."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_").split("_")
    joined = "_".join(words)
    if any(word in joined for word in _ALWAYS):
        return True
    if not value or _PLAIN.fullmatch(value):
        return False
    if joined.endswith("apikey") or words[-1] == "key":
        return True
    return words[-1] == "token" and not _OF_TEXT.search(joined)


def _without_values(text: str) -> str:
    parts, end = [], 0
    for found in _NAME.finditer(text):
        name, sign, start = found["name"], found["sign"], found.end()
        # "unexpected token: x", "the key x" and "outputs.secret: what is wrong" are sentences; `"token": "x"`,
        # `--token x` and "my_secret: x" are not.
        if sign.isspace():
            named = found["flag"] is not None and not found["quote"]
        elif sign.startswith(":") and not found["quote"]:
            named = _LAST.search(name) is not None and not (sign[1:] and text[: found.start()].endswith("."))
        else:
            named = True
        if not named or found.start() < end or not is_secret(name, "x"):
            continue
        value = _VALUE.match(text, start)
        if value is not None and is_secret(name, value[0]):
            quote = value[0][0] if value[0][0] in "\"'" and value[0].endswith(value[0][0]) else ""
            parts += [text[end:start], quote, HIDDEN, quote]
            end = value.end()
    return "".join([*parts, text[end:]])
