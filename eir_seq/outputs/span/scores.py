"""Exact match and F1 of answers, with the normalisation of SQuAD (Rajpurkar et al. 2016)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """Lower case, without punctuation, articles and further white space.

    Example:
        >>> normalized("The  Old Man's Hat!")
        'old mans hat'
    """
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, true: Sequence[str]) -> float:
    """1 where the answer is one of the true ones; no answer is right where there is none.

    Example:
        >>> exact_match("the hat", ["Hat", "a red hat"])
        1.0
    """
    return max(float(normalized(answer) == normalized(one)) for one in true or [""])


def f1(answer: str, true: Sequence[str]) -> float:
    """F1 of the words of the answer and the most similar true one; no answer is right where there is none.

    Example:
        >>> f1("his red hat", ["a red hat"])
        0.8
    """
    return max(_f1(normalized(answer).split(), normalized(one).split()) for one in true or [""])


def _f1(words: Sequence[str], true: Sequence[str]) -> float:
    if not words or not true:
        return float(words == true)
    both = (Counter(words) & Counter(true)).total()
    return 2 * both / (len(words) + len(true))
