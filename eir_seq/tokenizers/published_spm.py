"""Published sentencepiece models: which ids and special tokens their formats have, and how they frame a text."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tokenizers import AddedToken

from eir_seq.tokenizers.backend import SpecialTokens
from eir_seq.tokenizers.conventions import (
    ALBERT,
    CLOSED,
    FNET,
    LLAMA,
    MAX_ID,
    PIECES,
    SENTENCEPIECE,
    T5,
    WITH_BEGIN,
    WITH_LANGUAGES,
    XLNET,
    PieceFormat,
    add_special_tokens,
    framing_of,
    unknown_format,
    with_begin,
)
from eir_seq.tokenizers.core import CONFIG_FILE
from eir_seq.tokenizers.files import TokenizerConfigFiles, TokenizerFiles
from eir_seq.tokenizers.framing import FIRST, SECOND, Framing, Part
from eir_seq.tokenizers.published_translation import (
    own_ids,
    read_marian,
    read_pegasus,
    read_with_languages,
    special,
)
from eir_seq.tokenizers.spm import Published, SentencePieceBackend, TextOptions
from eir_seq.tokenizers.tokenizer import Tokenizer


def read_sentencepiece(files: TokenizerFiles, config: TokenizerConfigFiles, name: str) -> Tokenizer:
    """The tokenizer of a sentencepiece model in the format of T5, ALBERT or XLNet.

    Raises:
        UserError: a broken file, or a format that is not known.
    """
    model, place = files.read(name), os.fspath(files.folder / name)
    lineage = config.lineage()
    if lineage is not None and lineage not in SENTENCEPIECE:
        raise unknown_format(files, name, lineage, SENTENCEPIECE)
    if (lineage == "marian") != (name == "source.spm") and lineage is not None:
        raise files.fault(name, f"{lineage!r} does not use this file; Marian alone uses source.spm, and no other")
    if lineage is None and name in ("source.spm", "sentencepiece.bpe.model") and files.has("vocab.json"):
        lineage = "marian" if name == "source.spm" else "m2m100"
    if lineage in WITH_LANGUAGES:
        return read_with_languages(files, config, name, lineage)
    if lineage in CLOSED:
        return read_marian(files, config) if lineage == "marian" else read_pegasus(files, config, name)
    if lineage in PIECES:
        return _read_pieces(files, config, name, PIECES[lineage], TextOptions(), {})
    if lineage in WITH_BEGIN:
        return _read_with_begin(files, config, name, WITH_BEGIN[lineage])

    def backend(
        added: dict[int, AddedToken], text: TextOptions, class_name: str, options: dict[str, Any]
    ) -> SentencePieceBackend:
        text = replace(text, split_special_tokens=not config.specials_in_text())
        published = Published(class_name, options)
        return SentencePieceBackend(
            model, added, place=place, text_options=text, published=published, sampling=sampling
        )

    sampling = config.sampling()
    plain = backend({}, TextOptions(), "", {})
    usual = SENTENCEPIECE[lineage] if lineage else _usual_pieces(plain)
    if usual is None:
        raise files.fault(name, "its architecture is unknown, because there is no config.json next to it")
    specials = config.specials(usual)
    further: dict[int, AddedToken] = {}
    additional = config.additional()
    if usual is T5:
        extra_ids, additional = _sentinels(config, additional)
        sentinels = [token for token in additional if "<extra_id_" in token.content]
        for number, token in enumerate(sentinels):
            sentinel = AddedToken(token.content, lstrip=True, rstrip=True, special=True, normalized=False)
            further[plain.vocab_size - 1 + len(sentinels) - number] = sentinel
    elif usual is XLNET and additional is None:
        additional = [AddedToken(token, special=True, normalized=False) for token in ("<eop>", "<eod>")]
    vocabulary = {piece: number for number, piece in enumerate(plain.pieces)}
    lstrip = usual is not T5
    added = add_special_tokens(config, specials, additional or [], vocabulary, further, mask_lstrip=lstrip)
    if max(added, default=0) > MAX_ID:
        raise files.fault(CONFIG_FILE, f"added_tokens_decoder: {max(added)} is too large for an id")

    ids = {token.content: number for number, token in added.items()}
    first = Part(FIRST, 0)
    if usual is T5:
        legacy = config.flag("legacy", None) is not False
        prefix_space = bool(config.flag("add_prefix_space", True))
        listed = [token.content for token in additional or []]
        options: dict[str, Any] = {"extra_ids": extra_ids, "legacy": legacy, "add_prefix_space": prefix_space}
        options["additional_special_tokens"] = listed
        eos = Part(ids[_needed(files, specials.eos)], 0)
        return Tokenizer(
            backend(added, TextOptions(prefix_once=not legacy, prefix_space=prefix_space), "T5Tokenizer", options),
            specials,
            Framing(single=(first, eos), pair=(first, eos, Part(SECOND, 0), eos), once=True),
        )
    lowercase = bool(config.flag("do_lower_case", usual is ALBERT))
    remove_space = bool(config.flag("remove_space", True))
    keep_accents = bool(config.flag("keep_accents", usual is FNET))
    options = {"do_lower_case": lowercase, "remove_space": remove_space, "keep_accents": keep_accents}
    text = TextOptions(True, remove_space, keep_accents, lowercase)
    cls, sep = ids[_needed(files, specials.cls)], ids[_needed(files, specials.sep)]
    second = (Part(SECOND, 1), Part(sep, 1))
    if usual in (ALBERT, FNET):
        single, class_name = (
            (Part(cls, 0), first, Part(sep, 0)),
            "AlbertTokenizer" if usual is ALBERT else "FNetTokenizer",
        )
        return Tokenizer(backend(added, text, class_name, options), specials, Framing(single, single + second))
    options["additional_special_tokens"] = [token.content for token in additional or []]
    last = Part(cls, 2)
    framing = Framing((first, Part(sep, 0), last), (first, Part(sep, 0), *second, last))
    return Tokenizer(backend(added, text, "XLNetTokenizer", options), specials, framing)


def _read_pieces(
    files: TokenizerFiles,
    config: TokenizerConfigFiles,
    name: str,
    known: PieceFormat,
    text: TextOptions,
    options: Mapping[str, Any],
) -> Tokenizer:
    """A model whose pieces are what a text is cut into, without any rules around it."""
    for option in ("do_lower_case", "split_by_punct"):
        if config.flag(option, False):
            raise config.fault(option, "true is not supported with this format")
    model, place, specials = files.read(name), os.fspath(files.folder / name), config.specials(known.specials)
    pieces = SentencePieceBackend(model, {}, place=place).pieces
    vocabulary = own_ids(pieces, known.heads, first_piece=known.first_piece)
    additional = config.additional() or []
    there = {token.content for token in additional}
    additional += [special(token) for token in known.further if token not in there]
    added = add_special_tokens(config, specials, additional, vocabulary, {}, mask_lstrip=known.mask_lstrip)
    listed = {"additional_special_tokens": [token.content for token in additional]} if additional else {}
    backend = SentencePieceBackend(
        model,
        added,
        place=place,
        text_options=replace(text, split_special_tokens=not config.specials_in_text()),
        published=Published(known.class_name, {**options, **listed}, known.file),
        vocabulary=vocabulary if known.heads else None,
        unk=specials.unk or "<unk>",
        sampling=config.sampling(),
    )
    try:
        framing = framing_of(known, specials, backend.token_to_id)
    except KeyError as error:
        raise files.fault(CONFIG_FILE, f"this format needs its {error.args[0]}") from error
    return Tokenizer(backend, specials, framing)


def _read_with_begin(files: TokenizerFiles, config: TokenizerConfigFiles, name: str, known: PieceFormat) -> Tokenizer:
    """Llama's and Gemma's models: byte-pair encoding after a token that begins each text."""
    known, flags = with_begin(config, known, default=True)
    options: dict[str, Any] = dict(flags)
    text = TextOptions(close=True)
    if known.specials is LLAMA:
        legacy = config.flag("legacy", None) is not False
        prefix_space = config.flag("add_prefix_space", None) is not False
        options |= {"legacy": legacy, "add_prefix_space": prefix_space}
        text = replace(text, prefix_once=not legacy, prefix_space=prefix_space)
    return _read_pieces(files, config, name, known, text, options)


def _usual_pieces(model: SentencePieceBackend) -> SpecialTokens | None:
    for convention, tokens in ((XLNET, ("<sep>", "<cls>")), (ALBERT, ("[CLS]", "[SEP]")), (T5, ("<pad>", "</s>"))):
        if all(model.token_to_id(token) is not None for token in tokens):
            return convention
    return None


def _sentinels(config: TokenizerConfigFiles, additional: list[AddedToken] | None) -> tuple[int, list[AddedToken]]:
    """T5's `<extra_id_0>` and so on: how many, and all additional special tokens with them."""
    count = config.number("extra_ids", 100, most=100_000)
    listed = additional or []
    there = sum("<extra_id_" in token.content for token in listed)
    if not there:
        listed = listed + [AddedToken(f"<extra_id_{i}>", special=True, normalized=False) for i in range(count)]
    elif "extra_ids" in config.options and count not in (0, there):
        raise config.fault("extra_ids", f"{count}, but additional_special_tokens lists {there} of them")
    return count, listed


def _needed(files: TokenizerFiles, token: str | None) -> str:
    if token is None:
        raise files.fault(CONFIG_FILE, "this format needs its cls, sep and eos tokens")
    return token
