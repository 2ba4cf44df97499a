"""Writes the sample of translations: ``python -m eir_seq.samples.translations [FOLDER]``.

Two made-up languages that say the same things in other ways, so that a model has to do what translators do: move
words, agree, and say in an ending what the other language says in a word.

| | source | target |
|---|---|---|
| order | subject, verb, object | subject, object, verb |
| article | in front of the noun | an ending of the noun |
| adjectives | in front of the noun | behind it, with the ending of the noun's class |
| many | an ending of the noun | an ending of the noun, another one per class |
| past | a word in front of the verb | an ending of the verb |
| denial | a word behind the verb | the beginning of the verb |
| place | a preposition, at the end | a postposition, at the beginning |
| pronoun | by number | by number and class, as if it stood for the noun before |
"""

from __future__ import annotations

import csv
import gzip
import io
import random
import sys
from dataclasses import dataclass
from pathlib import Path

SEED = 11
PAIRS = 5000
COLUMNS = ("id", "source", "target")

PAST, DENIAL, MANY, AND = "ke", "nul", "ri", "u"
"""Of the source: words in front of and behind the verb, the ending of nouns, the word between clauses."""
ARTICLES = {True: "la", False: "te"}
"""Of the source: the known one and any one."""
ENDINGS = {
    "a": {"known": "eth", "any": "", "adjective": "or", "many": "im", "pronoun": "hev"},
    "b": {"known": "ush", "any": "", "adjective": "ilk", "many": "ant", "pronoun": "drum"},
}
"""Of the target, by class of the noun."""
PAST_ENDING, DENIAL_BEGINNING, JOINT = "ost", "ungh", "veld"
PRONOUNS = {False: "so", True: "sori"}


@dataclass(frozen=True)
class Word:
    """A word in both languages; nouns have a class in the target."""

    source: str
    target: str
    kind: str = ""


@dataclass(frozen=True)
class Lexicon:
    """The words of both languages."""

    nouns: list[Word]
    adjectives: list[Word]
    verbs: list[Word]
    places: list[Word]


@dataclass(frozen=True)
class Phrase:
    """A noun with its article and adjectives."""

    noun: Word
    adjectives: tuple[Word, ...]
    known: bool
    many: bool


def make_lexicon(draw: random.Random) -> Lexicon:
    """Words that sound alike within a language and differ between them."""
    taken: set[str] = {PAST, DENIAL, AND, JOINT, *ARTICLES.values(), *PRONOUNS.values()}

    def word(onsets: str, vowels: str, codas: str, syllables: int) -> str:
        sounds = [onsets.split(), vowels, codas or [""]]
        while True:
            found = "".join(draw.choice(choices) for _ in range(syllables) for choices in sounds)
            if found not in taken:
                taken.add(found)
                return found

    def words(count: int, kinds: str = "") -> list[Word]:
        return [
            Word(
                word("b d f g l m n p r s t v z", "aeio", "", draw.choice((2, 2, 3))),
                word("b br d dr f g gr h k kr l m n p s st t th w", "aeiou", "ckmnrst", draw.choice((1, 2, 2))),
                draw.choice(kinds) if kinds else "",
            )
            for _ in range(count)
        ]

    return Lexicon(words(60, "ab"), words(24), words(24), words(6))


def write_pair(lexicon: Lexicon, draw: random.Random) -> tuple[str, str]:
    """A sentence of one or two clauses in both languages."""
    source, target = [], []
    subject: Phrase | None = None
    for _ in range(draw.choice((1, 1, 2))):
        pronoun = subject if subject is not None and draw.random() < 0.5 else None
        subject = pronoun or _phrase(lexicon, draw)
        one, other = _clause(lexicon, draw, subject, is_pronoun=pronoun is not None)
        source.append(one)
        target.append(other)
    return _written(f" {AND} ".join(source)), _written(f" {JOINT} ".join(target))


def _phrase(lexicon: Lexicon, draw: random.Random) -> Phrase:
    adjectives = draw.sample(lexicon.adjectives, draw.choice((0, 0, 1, 1, 2)))
    return Phrase(draw.choice(lexicon.nouns), tuple(adjectives), draw.random() < 0.5, draw.random() < 0.3)


def _clause(lexicon: Lexicon, draw: random.Random, subject: Phrase, *, is_pronoun: bool) -> tuple[str, str]:
    verb, thing = draw.choice(lexicon.verbs), _phrase(lexicon, draw) if draw.random() < 0.8 else None
    past, denied = draw.random() < 0.4, draw.random() < 0.25
    place = (draw.choice(lexicon.places), _phrase(lexicon, draw)) if draw.random() < 0.3 else None
    ending = ENDINGS[subject.noun.kind]
    source = [PRONOUNS[subject.many] if is_pronoun else in_source(subject)]
    source += [PAST] * past + [verb.source] + [DENIAL] * denied
    target = [f"{in_target(place[1])} {place[0].target}"] if place else []
    target.append(ending["pronoun"] + ending["many"] * subject.many if is_pronoun else in_target(subject))
    if thing is not None:
        source.append(in_source(thing))
        target.append(in_target(thing))
    if place:
        source.append(f"{place[0].source} {in_source(place[1])}")
    target.append(DENIAL_BEGINNING * denied + verb.target + PAST_ENDING * past)
    return " ".join(source), " ".join(target)


def in_source(phrase: Phrase) -> str:
    """Article, adjectives, noun."""
    noun = phrase.noun.source + MANY * phrase.many
    return " ".join([ARTICLES[phrase.known], *(adjective.source for adjective in phrase.adjectives), noun])


def in_target(phrase: Phrase) -> str:
    """Noun with its endings, adjectives that agree with it."""
    ending = ENDINGS[phrase.noun.kind]
    noun = phrase.noun.target + ending["many"] * phrase.many + ending["known" if phrase.known else "any"]
    return " ".join([noun, *(adjective.target + ending["adjective"] for adjective in phrase.adjectives)])


def _written(sentence: str) -> str:
    return f"{sentence[0].upper()}{sentence[1:]}."


def translations() -> list[tuple[str, str, str]]:
    """The rows (id, source, target) of the sample, no source twice."""
    draw = random.Random(f"translations {SEED}")  # noqa: S311 (nothing here is secret)
    lexicon = make_lexicon(draw)
    pairs: dict[str, str] = {}
    while len(pairs) < PAIRS:
        pairs.setdefault(*write_pair(lexicon, draw))
    return [(f"pair-{row:04d}", *pair) for row, pair in enumerate(pairs.items(), 1)]


def as_csv() -> bytes:
    """The sample as UTF-8 encoded CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(translations())
    return buffer.getvalue().encode()


def main() -> None:
    """Write the sample, compressed, next to this file (or into the folder that is given)."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "translations.csv.gz").write_bytes(gzip.compress(as_csv(), 9, mtime=0))


if __name__ == "__main__":
    main()
