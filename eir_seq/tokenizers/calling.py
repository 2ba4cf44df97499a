"""Texts straight to what a model takes: transformers' call of a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.tokenizers.backend import Encoding
from eir_seq.tokenizers.batch import BatchEncoding, as_tensors
from eir_seq.tokenizers.core import TokenizerCore
from eir_seq.tokenizers.framing import PLAIN, Framing

Texts = str | Sequence[str] | Sequence[Sequence[str]]
PADDINGS = ("longest", "max_length", "do_not_pad")
TRUNCATIONS = ("longest_first", "only_first", "only_second", "do_not_truncate")
SIDES = ("right", "left")
TENSORS = ("pt", "np")


@dataclass(frozen=True, kw_only=True)
class Filling:
    """The arguments of a call, or of `Tokenizer.pad`, that say how rows are filled up."""

    padding: bool | str
    padding_side: str
    pad_to_multiple_of: int | None
    max_length: int | None
    return_tensors: str | None

    def checked_padding(self) -> str:
        """The name of the padding, for True and False too.

        Raises:
            UserError: arguments that do not go together.
        """
        padding = _name("padding", self.padding, PADDINGS, on=PADDINGS[0])
        if padding == "max_length" and self.max_length is None:
            raise UserError(Fault("max_length", "padding='max_length' needs it"))
        if self.padding_side not in SIDES:
            raise UserError(Fault("padding_side", f"{self.padding_side!r} is not one of {', '.join(SIDES)}"))
        if self.pad_to_multiple_of is not None and self.pad_to_multiple_of < 1:
            message = f"{self.pad_to_multiple_of} is not an integer from 1 on"
            raise UserError(Fault("pad_to_multiple_of", message))
        if self.return_tensors not in (None, *TENSORS):
            message = f"{self.return_tensors!r} is not one of {', '.join(TENSORS)}, None"
            raise UserError(Fault("return_tensors", message))
        return padding

    def fill(self, rows: dict[str, list[Any]], fillers: dict[str, Any]) -> None:
        """Pad the rows of `fillers`, each with its own, in place."""
        if self.padding == "do_not_pad":
            return
        least = self.max_length or 0 if self.padding == "max_length" else 0
        for name in rows.keys() & fillers.keys():
            rows[name] = self._filled(rows[name], fillers[name], least, self.pad_to_multiple_of or 1)

    def _filled(self, values: list[Any], filler: Any, least: int, multiple: int) -> list[Any]:
        length = -(-max(map(len, values), default=0) // multiple) * multiple
        length = max(length, -(-least // multiple) * multiple)
        if filler is None:
            raise UserError(Fault("padding", "this tokenizer has no pad token"))
        blank = [[filler] * (length - len(row)) for row in values]
        left = self.padding_side == "left"
        return [space + row if left else row + space for space, row in zip(blank, values, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Call(Filling):
    """The arguments of a call that say how; see `Tokenizer.__call__`."""

    add_special_tokens: bool
    truncation: bool | str
    return_offsets_mapping: bool
    return_token_type_ids: bool | None
    return_attention_mask: bool
    return_special_tokens_mask: bool
    is_split_into_words: bool

    def checked(self, *, words: bool) -> Call:
        """The same, with the names of paddings and truncations for True and False; `words`: whether these can be read.

        Raises:
            UserError: arguments that do not go together.
        """
        truncation = _name("truncation", self.truncation, TRUNCATIONS, on=TRUNCATIONS[0])
        if truncation != "do_not_truncate" and self.max_length is None:
            raise UserError(Fault("max_length", "truncation needs it"))
        if self.is_split_into_words and not words:
            raise UserError(Fault("is_split_into_words", "words need a vocabulary with add_prefix_space: true"))
        return replace(self, truncation=truncation, padding=self.checked_padding())

    def batched(self, texts: Texts) -> bool:
        """Whether these are several texts."""
        one_of_words = self.is_split_into_words and (not texts or isinstance(texts[0], str))
        return not isinstance(texts, str) and not one_of_words


def call(
    tokenizer: TokenizerCore, text: Texts | None, text_pair: Texts | None, text_target: Texts | None, how: Call
) -> BatchEncoding:
    """See `Tokenizer.__call__`."""
    how = how.checked(words=tokenizer.add_prefix_space is not False)
    if text is None and text_target is None:
        raise UserError(Fault("text", "give a text, or a target text as text_target"))
    several = {how.batched(texts) for texts in (text, text_target) if texts is not None}
    if len(several) > 1:
        raise UserError(Fault("text_target", "give one text for one source, or a list for a list"))
    rows: dict[str, list[Any]] = {}
    if text is not None:
        first = _encode(tokenizer.encode_batch, text, how, offsets=how.return_offsets_mapping)
        second = None if text_pair is None else _encode(tokenizer.encode_batch, text_pair, how)
        rows = _framed(tokenizer.framing if how.add_special_tokens else None, first, second, how)
    if text_target is not None:
        targets = _encode(tokenizer.encode_targets, text_target, how)
        if text is not None and len(targets) != len(rows["input_ids"]):
            raise UserError(Fault("text_target", f"{len(targets)} texts for {len(rows['input_ids'])} sources"))
        framing = tokenizer.target_framing if how.add_special_tokens else None
        found = _framed(framing, targets, None, how, offsets=False)
        rows = found if text is None else {**rows, "labels": found["input_ids"]}
    if not (tokenizer.gives_type_ids if how.return_token_type_ids is None else how.return_token_type_ids):
        del rows["token_type_ids"]
    if not how.return_attention_mask:
        del rows["attention_mask"]
    if not how.return_special_tokens_mask:
        del rows["special_tokens_mask"]
    how.fill(rows, {**_fillers(tokenizer), "labels": tokenizer.pad_id, "offset_mapping": (0, 0)})
    if how.return_tensors is not None:
        return BatchEncoding(as_tensors(rows, how.return_tensors))
    return BatchEncoding(rows if several == {True} else {name: values[0] for name, values in rows.items()})


def _encode(
    encode_batch: Callable[..., list[Encoding]], texts: Texts, how: Call, *, offsets: bool = False
) -> list[Encoding]:
    rows: Any = texts if how.batched(texts) else [texts]
    if not how.is_split_into_words:
        return encode_batch(rows, offsets=offsets) if offsets else encode_batch(rows)
    encoded = iter(encode_batch([word for row in rows for word in row]))
    joined = [[number for _ in row for number in next(encoded).ids] for row in rows]
    return [Encoding(ids, [0] * len(ids)) for ids in joined]


def _framed(
    framing: Framing | None,
    first: list[Encoding],
    second: list[Encoding] | None,
    how: Call,
    *,
    offsets: bool | None = None,
) -> dict[str, list[Any]]:
    """Cut texts, in the special tokens of `framing` if there is one."""
    offsets = how.return_offsets_mapping if offsets is None else offsets
    if offsets and (second is not None or how.is_split_into_words):
        raise UserError(Fault("return_offsets_mapping", "known of single texts only, not of pairs or words"))
    names = ("input_ids", "token_type_ids", "attention_mask", "special_tokens_mask")
    rows: dict[str, list[Any]] = {name: [] for name in names}
    specials = 0 if framing is None else framing.count(pair=second is not None)
    for number, encoding in enumerate(first):
        ids, pair = encoding.ids, None if second is None else second[number].ids
        if how.truncation != "do_not_truncate":
            assert how.max_length is not None
            ids, pair = _truncated(ids, pair, max(0, how.max_length - specials), str(how.truncation))
        framed, type_ids = (framing or PLAIN).apply(ids, pair)
        rows["input_ids"].append(framed)
        rows["token_type_ids"].append(type_ids)
        rows["attention_mask"].append([1] * len(framed))
        rows["special_tokens_mask"].append((framing or PLAIN).special_mask(ids, pair))
        if offsets:
            assert encoding.offsets is not None
            before = 0 if framing is None else [part.token < 0 for part in framing.single].index(True)
            spans = [(0, 0)] * before + encoding.offsets[: len(ids)]
            rows.setdefault("offset_mapping", []).append(spans + [(0, 0)] * (len(framed) - len(spans)))
    return rows


def _truncated(ids: list[int], pair: list[int] | None, room: int, strategy: str) -> tuple[list[int], list[int] | None]:
    """The beginnings of a text and its pair that fit.

    "longest_first" takes tokens off the longer one, of equal ones the pair.
    """
    if pair is None:
        return ids[:room], None
    if len(ids) + len(pair) <= room:
        return ids, pair
    first = max(room - len(pair), min(len(ids), (room + 1) // 2))
    if strategy != "longest_first":
        first = room - len(pair) if strategy == "only_first" else len(ids)
        if first <= 0 or first >= room:
            raise UserError(Fault("truncation", f"{strategy!r} leaves nothing of that text in max_length; cut both"))
    return ids[:first], pair[: room - first]


def pad(
    tokenizer: TokenizerCore, encoded: Mapping[str, Any] | Sequence[Mapping[str, Any]], how: Filling, *, masked: bool
) -> BatchEncoding:
    """See `Tokenizer.pad`."""
    how = replace(how, padding=how.checked_padding())
    if not isinstance(encoded, Mapping):
        encoded = {name: [row[name] for row in encoded] for name in (encoded[0] if encoded else ())}
    if "input_ids" not in encoded:
        raise UserError(Fault("encoded_inputs", f"there are no input_ids in it ({', '.join(encoded) or 'nothing'})"))
    ids = encoded["input_ids"]
    first = ids if hasattr(ids, "tolist") else next(iter(ids), None)
    kind = how.return_tensors or (
        ("np" if "numpy" in type(first).__module__ else "pt") if hasattr(first, "tolist") else None
    )
    rows = {name: _as_lists(values) for name, values in encoded.items()}
    single = not any(isinstance(row, list) for row in rows["input_ids"]) and bool(rows["input_ids"])
    if single:
        rows = {name: [values] for name, values in rows.items()}
    rows.setdefault("attention_mask", [[1] * len(row) for row in rows["input_ids"]])
    if not masked:
        del rows["attention_mask"]
    how.fill(rows, _fillers(tokenizer))
    found = rows if kind is None else as_tensors(rows, kind)
    return BatchEncoding({name: values[0] for name, values in found.items()} if single else found)


def _fillers(tokenizer: TokenizerCore) -> dict[str, Any]:
    types = tokenizer.pad_token_type_id
    return {"input_ids": tokenizer.pad_id, "token_type_ids": types, "attention_mask": 0, "special_tokens_mask": 1}


def _as_lists(values: Any) -> list[Any]:
    if hasattr(values, "tolist"):
        return list(values.tolist())
    return [row.tolist() if hasattr(row, "tolist") else row for row in values]


def _name(argument: str, value: bool | str, allowed: Sequence[str], *, on: str) -> str:
    """The name of a way, where True is `on` and False the last one, which does nothing."""
    name = (on if value else allowed[-1]) if isinstance(value, bool) else value
    if name not in allowed:
        message = f"{name!r} is not one of True, False, {', '.join(allowed)}{nearest(name, allowed)}"
        raise UserError(Fault(argument, message))
    return name
