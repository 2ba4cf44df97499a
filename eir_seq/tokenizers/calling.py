"""Texts straight to what a model takes: the documented call of a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from eir_seq.errors import Fault, UserError, nearest

if TYPE_CHECKING:
    from eir_seq.tokenizers.tokenizer import Encoding, Tokenizer

Texts = str | Sequence[str] | Sequence[Sequence[str]]
PADDINGS = ("longest", "max_length", "do_not_pad")
SIDES = ("right", "left")


def call(
    tokenizer: Tokenizer,
    text: Texts,
    text_pair: Texts | None,
    text_target: Texts | None,
    *,
    add_special_tokens: bool,
    padding: bool | str,
    padding_side: str,
    pad_to_multiple_of: int | None,
    truncation: bool,
    max_length: int | None,
    return_tensors: str | None,
    return_offsets_mapping: bool,
    return_token_type_ids: bool | None,
    is_split_into_words: bool,
) -> dict[str, Any]:
    """See `Tokenizer.__call__`."""
    if truncation and max_length is None:
        raise UserError(Fault("max_length", "truncation needs it"))
    if isinstance(padding, bool):
        padding = "longest" if padding else "do_not_pad"
    if padding not in PADDINGS:
        message = f"{padding!r} is not one of True, False, {', '.join(PADDINGS)}{nearest(padding, PADDINGS)}"
        raise UserError(Fault("padding", message))
    if padding == "max_length" and max_length is None:
        raise UserError(Fault("max_length", "padding='max_length' needs it"))
    if padding_side not in SIDES:
        raise UserError(Fault("padding_side", f"{padding_side!r} is not one of {', '.join(SIDES)}"))
    if pad_to_multiple_of is not None and pad_to_multiple_of < 1:
        raise UserError(Fault("pad_to_multiple_of", f"{pad_to_multiple_of} is not a whole number from 1 on"))
    if return_tensors not in (None, "pt"):
        raise UserError(Fault("return_tensors", f"{return_tensors!r} is not one of pt, None"))
    if is_split_into_words and tokenizer.add_prefix_space is False:
        raise UserError(Fault("is_split_into_words", "words need a vocabulary with add_prefix_space: true"))
    batched = not isinstance(text, str) and not (is_split_into_words and (not text or isinstance(text[0], str)))
    limit = max_length if truncation else None

    def encode(texts: Texts, encode_batch: Callable[..., list[Encoding]], *, offsets: bool = False) -> list[Encoding]:
        rows: Any = texts if batched else [texts]
        if not is_split_into_words:
            return encode_batch(rows, offsets=offsets) if offsets else encode_batch(rows)
        from eir_seq.tokenizers.tokenizer import Encoding

        encoded = iter(encode_batch([word for row in rows for word in row]))
        joined = [[number for _ in row for number in next(encoded).ids] for row in rows]
        return [Encoding(ids, [0] * len(ids)) for ids in joined]

    first = encode(text, tokenizer.encode_batch, offsets=return_offsets_mapping)
    second = None if text_pair is None else encode(text_pair, tokenizer.encode_batch)
    if return_offsets_mapping and (second is not None or is_split_into_words):
        raise UserError(Fault("return_offsets_mapping", "known of single texts only, not of pairs or words"))
    rows: dict[str, list[Any]] = {"input_ids": [], "token_type_ids": [], "attention_mask": []}
    specials = tokenizer.num_specials(second is not None) if add_special_tokens else 0
    for index, encoding in enumerate(first):
        ids, pair = encoding.ids, None if second is None else second[index].ids
        ids, pair = _truncated(ids, pair, None if limit is None else limit - specials)
        if add_special_tokens:
            framed, type_ids = tokenizer.add_specials(ids, pair)
        else:
            framed, type_ids = ids + (pair or []), [0] * len(ids) + [1] * len(pair or [])
        rows["input_ids"].append(framed)
        rows["token_type_ids"].append(type_ids)
        rows["attention_mask"].append([1] * len(framed))
        if return_offsets_mapping:
            assert encoding.offsets is not None
            before = [part.token < 0 for part in tokenizer.framing.single].index(True) if add_special_tokens else 0
            spans = [(0, 0)] * before + encoding.offsets[: len(ids)]
            rows.setdefault("offset_mapping", []).append(spans + [(0, 0)] * (len(framed) - len(spans)))
    differ = any(part.type_id for part in tokenizer.framing.pair)
    if not (differ if return_token_type_ids is None else return_token_type_ids):
        del rows["token_type_ids"]
    if text_target is not None:
        extra = len(tokenizer.add_target_specials([])[0]) if add_special_tokens else 0
        targets = [encoding.ids for encoding in encode(text_target, tokenizer.encode_targets)]
        if len(targets) != len(first):
            raise UserError(Fault("text_target", f"{len(targets)} texts for {len(first)} sources"))
        targets = [_truncated(ids, None, None if limit is None else limit - extra)[0] for ids in targets]
        rows["labels"] = [tokenizer.add_target_specials(ids)[0] for ids in targets] if add_special_tokens else targets
    if padding != "do_not_pad":
        fillers = {"input_ids": tokenizer.pad_id, "labels": tokenizer.pad_id, "offset_mapping": (0, 0)}
        least = max_length or 0 if padding == "max_length" else 0
        _pad(rows, fillers, least, pad_to_multiple_of or 1, padding_side)
    if return_tensors == "pt":
        return _tensors(rows)
    return rows if batched else {name: values[0] for name, values in rows.items()}


def _truncated(ids: list[int], pair: list[int] | None, room: int | None) -> tuple[list[int], list[int] | None]:
    """The beginnings of a text and its pair that fit: tokens are taken off the longer one, of equal ones the pair."""
    if room is None or len(ids) + len(pair or []) <= room:
        return ids, pair
    room = max(0, room)
    if pair is None:
        return ids[:room], None
    first = max(room - len(pair), min(len(ids), (room + 1) // 2))
    return ids[:first], pair[: room - first]


def _pad(rows: dict[str, list[Any]], fillers: dict[str, Any], least: int, multiple: int, side: str) -> None:
    """Fill all rows up to the longest one, to `least` tokens at least, and to a whole multiple."""
    for name, values in rows.items():
        length = -(-max(map(len, values), default=0) // multiple) * multiple
        length = max(length, -(-least // multiple) * multiple)
        filler = fillers.get(name, 0)
        if filler is None:
            raise UserError(Fault("padding", "this tokenizer has no pad token"))
        blank = [[filler] * (length - len(row)) for row in values]
        rows[name] = [space + row if side == "left" else row + space for space, row in zip(blank, values, strict=True)]


def _tensors(rows: dict[str, list[Any]]) -> dict[str, Any]:
    import torch

    for name, values in rows.items():
        if len({len(row) for row in values}) > 1:
            raise UserError(Fault("return_tensors", f"rows of {name} differ in length; give padding=True"))
    return {name: torch.tensor(values) for name, values in rows.items()}
