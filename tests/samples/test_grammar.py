from __future__ import annotations

import random

import pytest

from eir_seq.samples.grammar import Grammar

RULES = {
    "opinion": ["{thing} is hardly {adjective-}"],
    "thing": ["it"],
    "adjective+": ["exciting"],
    "adjective-": ["boring"],
    "nested": ["a {adjective+} thing? i think {opinion-}"],
}


@pytest.mark.parametrize(
    ("symbol", "polarity", "sentence"),
    [
        ("opinion", 1, "It is hardly boring."),
        ("opinion", -1, "It is hardly exciting."),
        ("nested", 1, "An exciting thing? I think it is hardly exciting."),
        ("nested", -1, "A boring thing? I think it is hardly boring."),
    ],
)
def test_a_rule_reads_from_both_sides(symbol: str, polarity: int, sentence: str) -> None:
    assert Grammar(RULES).sentence(symbol, polarity, random.Random(0)) == sentence


def test_an_unknown_symbol_is_refused() -> None:
    with pytest.raises(ValueError, match="'opinion' uses 'thing'"):
        Grammar({"opinion": ["{thing}"]})
