"""A recursive grammar whose rules are written once and read from either side: in praise or in blame.

A grammar maps a symbol to its alternatives. In an alternative, ``{place}`` stands for an expansion of the symbol
``place``. Every expansion has a polarity, +1 or -1: ``{adjective+}`` goes on with the present polarity,
``{adjective-}`` with the opposite one. Where polarity matters, a grammar holds two word lists, ``adjective+`` and
``adjective-``, instead of one. So ``"hardly {adjective-}"`` yields "hardly boring" in praise and "hardly gripping"
in blame, and no rule speaks for one side more often than for the other.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

Rules = Mapping[str, Sequence[str]]

_SYMBOL = re.compile(r"\{(\w+)([+-]?)\}")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])")
_SENTENCE_START = re.compile(r"(?:^|(?<=[.!?] ))[a-z]")


class Grammar:
    """Rules with the means to draw sentences from them."""

    def __init__(self, rules: Rules) -> None:
        """Raises `ValueError` for a rule that uses a symbol without alternatives."""
        self.rules = rules
        for symbol, alternatives in rules.items():
            for name, _ in _SYMBOL.findall(" ".join(alternatives)):
                if name not in rules and not {f"{name}+", f"{name}-"} <= rules.keys():
                    raise ValueError(f"rule {symbol!r} uses {name!r}, which has no alternatives")

    def expand(self, symbol: str, polarity: int, draw: random.Random) -> str:
        """A phrase for `symbol`, without capital and full stop."""
        key = symbol if symbol in self.rules else symbol + ("+" if polarity > 0 else "-")
        alternatives = self.rules[key]
        template = alternatives[int(draw.random() * len(alternatives))]

        def replace(match: re.Match[str]) -> str:
            name, sign = match.groups()
            return self.expand(name, -polarity if sign == "-" else polarity, draw)

        return _SYMBOL.sub(replace, template)

    def sentence(self, symbol: str, polarity: int, draw: random.Random) -> str:
        """An expansion of `symbol` with a capital, the right articles and a closing mark."""
        text = _ARTICLE.sub(r"\1n ", self.expand(symbol, polarity, draw))
        text = _SENTENCE_START.sub(lambda match: match.group().upper(), text)
        return text if text[-1] in ".!?" else f"{text}."
