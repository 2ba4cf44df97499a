"""Backend on sentencepiece: published `*.model` files, as their authors' library reads them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any

import sentencepiece
from tokenizers import AddedToken

from eir_seq.errors import Fault, UserError
from eir_seq.tokenizers.added import AddedTokens
from eir_seq.tokenizers.backend import Offsets

SPACE = "▁"
# ModelProto.normalizer_spec (field 3) = {add_dummy_prefix (field 3): false}. A message that is appended to another
# overrides its fields (Protocol Buffers, "Encoding": merging), so no schema is needed to change one.
_NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"
_TARGET_CODE = re.compile(">>.*?<<", re.DOTALL)


@dataclass(frozen=True)
class TextOptions:
    """What a format does to a text around sentencepiece.

    `normalize` and what follows belong to ALBERT and XLNet: white space to single spaces, quotes, accents, case, and
    commas after digits cut off. `prefix_once` is T5's corrected way (`legacy: false`): the space that sentencepiece
    sets before a text is set before the whole text only, and not again after each special token. `target_code` is
    Marian's way to name the language to translate into: `>>fra<<` at the beginning of a text is one token.
    `split_special_tokens`: added tokens that are in a text are characters like any others. `close`: in decoded texts
    added tokens have no spaces around them, and spaces at the ends stay (Llama and Gemma).
    """

    normalize: bool = False
    remove_space: bool = True
    keep_accents: bool = False
    lowercase: bool = False
    prefix_once: bool = False
    prefix_space: bool = True
    target_code: bool = False
    split_special_tokens: bool = False
    close: bool = False


@dataclass(frozen=True)
class Sampling:
    """Subword regularization (Kudo 2018) and BPE dropout (Provilkov et al. 2020): a text is segmented randomly.

    `nbest_size`: 0 or 1 for none, above for one of that many best, below for any; `alpha`: how much better cuts are
    preferred, for BPE the probability of leaving out a merge.
    """

    enable_sampling: bool = False
    nbest_size: int = -1
    alpha: float = 0.1

    @property
    def active(self) -> bool:
        """Whether anything is drawn."""
        return self.enable_sampling and self.nbest_size not in (0, 1)


@dataclass(frozen=True)
class Published:
    """How a sentencepiece tokenizer is written: the model's file, others next to it, and the class with its options."""

    class_name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    model_file: str = "spiece.model"
    other_files: Mapping[str, bytes] = field(default_factory=dict)


class SentencePieceBackend:
    """A sentencepiece model and the tokens that were added to it.

    `vocabulary` holds the ids of its pieces where they are not the model's own numbers; pieces that it lacks get the id
    of `unk`.
    """

    def __init__(
        self,
        model: bytes,
        added: dict[int, AddedToken],
        *,
        place: str,
        text_options: TextOptions = TextOptions(),
        published: Published = Published(),
        vocabulary: Mapping[str, int] | None = None,
        unk: str = "<unk>",
        sampling: Sampling = Sampling(),
    ) -> None:
        self._model, self._text, self._place = model, text_options, place
        self._added = AddedTokens(added, in_text=not text_options.split_special_tokens)
        self._published, self._vocabulary, self._unk = published, vocabulary, unk
        self._sampling, self._seed, self._calls = sampling, 0, 0
        self._by_id = {number: piece for piece, number in (vocabulary or {}).items()}
        try:
            proto = model + (_NO_DUMMY_PREFIX if text_options.prefix_once else b"")
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=proto)
            self._size = self._pieces.get_piece_size()
        except (RuntimeError, OSError, ValueError) as error:
            raise UserError(Fault(place, "not a sentencepiece model, or a broken one")) from error
        pieces = self._pieces.id_to_piece(list(range(self._size)))
        self._comma_ids = frozenset(
            i for i, piece in enumerate(pieces) if len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit()
        )
        self._guard = self._pieces.id_to_piece(self._pieces.unk_id())
        self._guard_length = len(self._pieces.encode(self._guard)) if text_options.prefix_once else 0

    def __getstate__(self) -> dict[str, Any]:
        return {
            "model": self._model,
            "added": self._added.by_id,
            "place": self._place,
            "text_options": self._text,
            "published": self._published,
            "vocabulary": self._vocabulary,
            "unk": self._unk,
            "sampling": self._sampling,
            "drawn": (self._seed, self._calls),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        seed, calls = state.pop("drawn")
        SentencePieceBackend.__init__(self, **state)
        self._seed, self._calls = seed, calls

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        size = self._size if self._vocabulary is None else 1 + max(self._by_id, default=0)
        return max(size, 1 + max(self._added.by_id, default=0))

    @property
    def pieces(self) -> list[str]:
        """The pieces of the model by their own numbers."""
        pieces: list[str] = self._pieces.id_to_piece(list(range(self._size)))
        return pieces

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of the added tokens that are special."""
        return self._added.special_ids

    def seed(self, seed: int) -> None:
        """Restart what is drawn; only of effect with `Sampling`."""
        self._seed, self._calls = seed, 0

    def token_to_id(self, token: str) -> int | None:
        """Id of a token, None if it has none."""
        if token in self._added.ids:
            return self._added.ids[token]
        if self._vocabulary is not None:
            return self._vocabulary.get(token)
        number: int = self._pieces.piece_to_id(token)
        return number if self._pieces.id_to_piece(number) == token else None

    def id_to_token(self, token_id: int) -> str | None:
        """Token of an id, None if there is none."""
        if (content := self._added.content(token_id)) is not None:
            return content
        if self._vocabulary is not None:
            return self._by_id.get(token_id)
        token: str | None = self._pieces.id_to_piece(token_id) if token_id < self._size else None
        return token

    def vocabulary(self) -> dict[str, int]:
        """All tokens with their ids."""
        own = (
            {piece: number for number, piece in enumerate(self.pieces)}
            if self._vocabulary is None
            else self._vocabulary
        )
        return {**own, **self._added.ids}

    def added_vocabulary(self) -> dict[str, int]:
        """The added tokens with their ids."""
        return dict(self._added.ids)

    def add_tokens(self, tokens: Sequence[AddedToken]) -> int:
        """Set tokens outside the vocabulary; how many of them are new."""
        before = self.vocab_size
        self._added = self._added.extended(tokens, self.token_to_id, before)
        return self.vocab_size - before

    def encode(self, texts: list[str], *, offsets: bool) -> list[tuple[list[int], Offsets | None]]:
        """Ids of each text, and offsets in characters if wanted; one call of the library for all texts."""
        segments: list[tuple[int, int | str, int, int]] = []  # number of the text, an id or characters, start, length
        for number, text in enumerate(texts):
            segments += [(number, *segment) for segment in self._segments(text)]
        plain = [piece for _, piece, _, _ in segments if isinstance(piece, str)]
        encoded = iter(self._encode_plain(plain, offsets=offsets))
        ids: list[list[int]] = [[] for _ in texts]
        spans: list[Offsets] = [[] for _ in texts]
        lone_space = [self._pieces.piece_to_id(SPACE)] if self._text.prefix_once else None
        for number, piece, start, length in segments:
            if isinstance(piece, int):
                if ids[number] == lone_space and piece in self.special_ids:  # the set space, with no word after it
                    ids[number], spans[number] = [], []
                ids[number].append(piece)
                spans[number].append((start, start + length))
            else:
                new_ids, new_spans = next(encoded)
                ids[number] += new_ids
                spans[number] += [(start + first, start + last) for first, last in new_spans]
        if not offsets:
            return [(row, None) for row in ids]
        size = [len(text) for text in texts]
        clipped = [
            [(max(0, min(first, size[n])), max(0, min(last, size[n]))) for first, last in row]
            for n, row in enumerate(spans)
        ]
        return list(zip(ids, clipped, strict=True))

    def _segments(self, text: str) -> list[tuple[int | str, int, int]]:
        """The text cut at added tokens: their ids and the strings between, each with its start and length in the text.

        A language code before a string counts as an added token where the format knows such codes.
        """
        shift = 0
        if self._text.prefix_once and text:
            text = text.replace(SPACE, " ")
            if self._text.prefix_space:
                text, shift = SPACE + text, -1
        result: list[tuple[int | str, int, int]] = []
        for piece, start in self._added.cut(text, shift):
            if isinstance(piece, int):
                result.append((piece, start, len(self._added.by_id[piece].content)))
                continue
            if self._text.target_code and (code := _TARGET_CODE.match(piece)):
                result.append((self._id_of(code.group()), start, code.end()))
                start, piece = start + code.end(), piece[code.end() :]
            if piece:
                result.append((piece, start, len(piece)))
        return result

    def _id_of(self, piece: str) -> int:
        assert self._vocabulary is not None
        return self._vocabulary.get(piece, self._vocabulary[self._unk])

    def _encode_plain(self, segments: list[str], *, offsets: bool) -> list[tuple[list[int], Offsets]]:
        original = segments
        if self._text.normalize:
            segments = [self._normalize(segment) for segment in segments]
        guarded = [self._text.prefix_once and segment.startswith((SPACE, " ")) for segment in segments]
        given = [self._guard + text if guard else text for text, guard in zip(segments, guarded, strict=True)]
        encoded = self._cut(given, guarded, offsets=offsets)
        if self._text.normalize:
            encoded = [
                self._cut_commas(ids, spans) if self._comma_ids.intersection(ids) else (ids, spans)
                for ids, spans in encoded
            ]
            if offsets:
                origins = [self._normalized_spans(segment) for segment in original]
                encoded = [
                    (ids, [_original(origin, first, last) for first, last in spans])
                    for (ids, spans), origin in zip(encoded, origins, strict=True)
                ]
        return encoded

    def _cut(self, texts: list[str], guarded: list[bool], *, offsets: bool) -> list[tuple[list[int], Offsets]]:
        """Ids and spans of the pieces that the library makes, those of a guard left out.

        Without a guard sentencepiece drops the leading space.
        """
        options: dict[str, Any] = {}
        if self._sampling.active:
            sentencepiece.set_random_generator_seed((self._seed * 1_000_003 + self._calls) % 2**31)
            self._calls += 1
            options = {"enable_sampling": True, "nbest_size": self._sampling.nbest_size, "alpha": self._sampling.alpha}
            options["num_threads"] = 1  # each thread has its own generator
        if not offsets and self._vocabulary is None and not options:
            rows = self._pieces.encode(texts, out_type=int)
            return [(row[self._guard_length :] if guard else row, []) for row, guard in zip(rows, guarded, strict=True)]
        spans: list[Offsets] = [[] for _ in texts]
        if offsets:
            maps = self._pieces.encode(texts, out_type="offset_mapping", **options)
            pieces = [row["pieces"] for row in maps]
            spans = [list(map(tuple, row["offsets"])) for row in maps]
        else:
            pieces = self._pieces.encode(texts, out_type=str, **options)
        skip = len(self._guard)
        for number, guard in enumerate(guarded):
            if guard:
                count = 1 + list(accumulate(map(len, pieces[number]))).index(skip)
                pieces[number] = pieces[number][count:]
                spans[number] = [(first - skip, last - skip) for first, last in spans[number][count:]]
        return list(zip(map(self._ids_of, pieces), spans, strict=True))

    def _ids_of(self, pieces: list[str]) -> list[int]:
        if self._vocabulary is None:
            ids: list[int] = self._pieces.piece_to_id(pieces)
            return ids
        return [self._id_of(piece) for piece in pieces]

    def _normalize(self, text: str) -> str:
        """The text as ALBERT and XLNet want it."""
        if self._text.remove_space:
            text = " ".join(text.split())
        text = text.replace("``", '"').replace("''", '"')
        if not self._text.keep_accents and not text.isascii():
            text = "".join(part for part in unicodedata.normalize("NFKD", text) if not unicodedata.combining(part))
        if self._text.lowercase:  # character by character: no final sigma
            text = text.lower() if text.isascii() else "".join(map(str.lower, text))
        return text

    def _normalized_spans(self, text: str) -> Offsets:
        """For each character of the normalized text the characters of `text` that it stands for."""
        spans: list[tuple[int, int, str]] = []
        pattern = r"``|''|\s+|." if self._text.remove_space else r"``|''|."
        for match in re.finditer(pattern, text, re.DOTALL):
            (first, last), found = match.span(), match.group()
            if self._text.remove_space and found.isspace():
                if spans and last < len(text):
                    spans.append((first, last, " "))
                continue
            part = '"' if found in ("``", "''") else self._normalize(found)
            spans += [(first, last, character) for character in part]
        return [(first, last) for first, last, _ in spans]

    def _cut_commas(self, ids: list[int], spans: Offsets) -> tuple[list[int], Offsets]:
        """`9,` as the pieces of `9` and a comma, as in BERT's own pre-processing."""
        new_ids: list[int] = []
        new_spans: Offsets = []
        for index, number in enumerate(ids):
            if number not in self._comma_ids:
                new_ids.append(number)
                new_spans += spans[index : index + 1]
                continue
            piece = self._pieces.id_to_piece(number)
            digits = piece[:-1].replace(SPACE, "")
            parts = self._pieces.encode(digits, out_type=str)
            if piece[0] != SPACE and parts[0][0] == SPACE:
                parts = parts[1:] if len(parts[0]) == 1 else [parts[0][1:], *parts[1:]]
            new_ids += [self._pieces.piece_to_id(part) for part in (*parts, ",")]
            if spans:
                first, last = spans[index]
                end = last - 1 - len(digits)
                for part in (*parts, ","):
                    end += len(part.replace(SPACE, ""))
                    new_spans.append((first, end))
                    first = end
        return new_ids, new_spans

    def decode(self, ids: list[int], *, skip_specials: bool) -> str:
        """Text of the ids."""
        parts: list[str] = []
        run: list[Any] = []  # numbers of the model, or pieces where these have their own ids
        for number in [*ids, None]:
            token = None if number is None else self._added.by_id.get(number)
            if number is not None and token is None:
                if self._vocabulary is not None:
                    run.append(self._by_id.get(number, self._unk))
                elif number < self._size:  # a hole between the model's pieces and the added tokens has no text
                    run.append(number)
            elif token is None or not (skip_specials and token.special):
                if run:
                    parts.append(self._pieces.decode(run))
                    run = []
                if token is not None:
                    parts.append(token.content)
        return "".join(parts) if self._text.close else " ".join(parts).strip()

    def files(self) -> dict[str, bytes]:
        """The published model, and the files next to it."""
        return {self._published.model_file: self._model, **self._published.other_files}

    vocabulary_files = files

    def options(self) -> dict[str, Any]:
        """The class that reads it, its options, and the added tokens."""
        options: dict[str, Any] = {"tokenizer_class": self._published.class_name, **self._published.options}
        if self._text.split_special_tokens:
            options["split_special_tokens"] = True
        if self._sampling != Sampling():
            options["sp_model_kwargs"] = asdict(self._sampling)
        return {**options, "added_tokens_decoder": self._added.as_json()}


def _original(origins: Offsets, first: int, last: int) -> tuple[int, int]:
    """A span of the normalized text as a span of the original."""
    if first >= last or not origins:
        at = origins[min(first, len(origins) - 1)][0] if origins else 0
        return at, at
    return origins[first][0], origins[last - 1][1]
