"""Published vocabularies of models that write texts: sentencepiece models whose pieces have their own ids."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from tokenizers import AddedToken

from eir_seq.tokenizers.backend import SpecialTokens
from eir_seq.tokenizers.closed import ClosedTokenizer, MarianTokenizer
from eir_seq.tokenizers.conventions import FAIRSEQ, MARIAN, MAX_ID, PEGASUS, SENTENCEPIECE, add_special_tokens
from eir_seq.tokenizers.core import CONFIG_FILE
from eir_seq.tokenizers.files import TokenizerConfigFiles, TokenizerFiles
from eir_seq.tokenizers.languages import TranslationTokenizer, languages_of
from eir_seq.tokenizers.spm import Published, SentencePieceBackend, TextOptions
from eir_seq.tokenizers.tokenizer import Tokenizer

CLASS_NAMES = {
    "m2m100": "M2M100Tokenizer",
    "mbart": "MBartTokenizer",
    "mbart50": "MBart50Tokenizer",
    "nllb": "NllbTokenizer",
    "nllbmoe": "NllbTokenizer",
    "plbart": "PLBartTokenizer",
}


def read_with_languages(files: TokenizerFiles, config: TokenizerConfigFiles, name: str, lineage: str) -> Tokenizer:
    """The tokenizer of M2M100 (whose pieces have their ids from vocab.json), mBART, mBART-50, NLLB or PLBart.

    Raises:
        UserError: a broken file, or a special token that the vocabulary lacks.
    """
    languages, specials = languages_of(config, lineage), config.specials(SENTENCEPIECE[lineage])
    assert languages is not None
    model, place, sampling = files.read(name), os.fspath(files.folder / name), config.sampling()
    pieces = SentencePieceBackend(model, {}, place=place).pieces
    other_files: dict[str, bytes] = {}
    if lineage == "m2m100":
        vocabulary = read_vocabulary(files, "vocab.json", unk=specials.unk)
        other_files["vocab.json"] = files.read("vocab.json")
    else:
        vocabulary = own_ids(pieces, FAIRSEQ, first_piece=3)
    first = len(vocabulary) if lineage == "m2m100" else len(pieces) + 1
    further = dict(enumerate(map(special, languages.tokens.values()), start=first))
    additional = config.additional() or []
    added = add_special_tokens(config, specials, additional, vocabulary, further)
    listed = _listed([*further.values(), *additional], specials)
    published = Published(CLASS_NAMES[lineage], listed, "sentencepiece.bpe.model", other_files)
    backend = SentencePieceBackend(
        model,
        added,
        place=place,
        text_options=TextOptions(split_special_tokens=not config.specials_in_text()),
        published=published,
        vocabulary=vocabulary,
        unk=specials.unk or "<unk>",
        sampling=sampling,
    )
    src_lang, tgt_lang = config.text("src_lang"), config.text("tgt_lang")
    return TranslationTokenizer(backend, specials, languages, src_lang=src_lang, tgt_lang=tgt_lang)


def read_pegasus(files: TokenizerFiles, config: TokenizerConfigFiles, name: str) -> Tokenizer:
    """The tokenizer of Pegasus: special tokens of the pretraining, then the pieces, `offset` higher than in the model.

    Raises:
        UserError: a broken file, or a special token that the vocabulary lacks.
    """
    model, place, specials = files.read(name), os.fspath(files.folder / name), config.specials(PEGASUS)
    sentence_mask, offset = config.text("mask_token_sent", "<mask_1>"), config.number("offset", 103, most=MAX_ID)
    pieces = SentencePieceBackend(model, {}, place=place).pieces
    vocabulary = {piece: number + offset for number, piece in enumerate(pieces)}
    masks = [] if sentence_mask is None else [sentence_mask, specials.mask]
    tokens = [specials.pad, specials.eos, *masks, *(f"<unk_{number}>" for number in range(2, offset))]
    further = {number: special(token) for number, token in enumerate(tokens) if token is not None}
    additional = config.additional() or []
    added = add_special_tokens(config, specials, additional, vocabulary, further, mask_lstrip=False)
    listed = _listed([*further.values(), *additional], specials)
    options = {"mask_token_sent": sentence_mask, "offset": offset, **listed}
    backend = SentencePieceBackend(
        model,
        added,
        place=place,
        text_options=TextOptions(split_special_tokens=not config.specials_in_text()),
        published=Published("PegasusTokenizer", options),
        vocabulary=vocabulary,
        unk=specials.unk or "<unk>",
        sampling=config.sampling(),
    )
    return ClosedTokenizer(backend, specials)


def read_marian(files: TokenizerFiles, config: TokenizerConfigFiles) -> Tokenizer:
    """The tokenizer of Marian: a model for sources, one for targets, and the ids of their pieces, mostly in common.

    Raises:
        UserError: a missing or broken file, or a special token that the vocabulary lacks.
    """
    specials, separate = config.specials(MARIAN), bool(config.flag("separate_vocabs", False))
    vocabularies = ["vocab.json", "target_vocab.json" if separate else "vocab.json"]
    contents = {name: files.read(name) for name in ("source.spm", "target.spm", *vocabularies)}
    options = {"separate_vocabs": separate, "source_lang": config.text("source_lang")}
    options |= {"target_lang": config.text("target_lang")}
    other_files = {name: content for name, content in contents.items() if name != "source.spm"}

    def backend(name: str, vocabulary: Mapping[str, int]) -> SentencePieceBackend:
        return SentencePieceBackend(
            contents[name],
            add_special_tokens(config, specials, config.additional() or [], vocabulary, {}, mask_lstrip=False),
            place=os.fspath(files.folder / name),
            text_options=TextOptions(target_code=True, split_special_tokens=not config.specials_in_text()),
            published=Published("MarianTokenizer", options, "source.spm", other_files),
            vocabulary=vocabulary,
            unk=specials.unk or "",
            sampling=config.sampling(),
        )

    source, target = (read_vocabulary(files, name, unk=specials.unk) for name in vocabularies)
    codes = () if separate else tuple(piece for piece in source if piece.startswith(">>") and piece.endswith("<<"))
    return MarianTokenizer(backend("source.spm", source), backend("target.spm", target), specials, codes)


def own_ids(pieces: Sequence[str], heads: Sequence[str], *, first_piece: int) -> dict[str, int]:
    """Ids by piece where `heads` come first, and then the pieces of a model from one of them on."""
    return {piece: number for number, piece in enumerate([*heads, *pieces[first_piece:]])}


def special(token: str) -> AddedToken:
    """A token that no normalizer changes and that decoding can leave out."""
    return AddedToken(token, special=True, normalized=False)


def _listed(tokens: Iterable[AddedToken], specials: SpecialTokens) -> dict[str, list[str]]:
    """The special tokens without a role, each once, as a tokenizer config lists them."""
    names = dict.fromkeys(token.content for token in tokens if token.content not in asdict(specials).values())
    return {"additional_special_tokens": list(names)}


def read_vocabulary(files: TokenizerFiles, name: str, *, unk: str | None) -> Mapping[str, int]:
    """Ids by piece.

    Raises:
        UserError: a broken file, or the unknown token is not in it.
    """
    vocabulary = files.json(name, max_bytes=64 * 2**20)
    for piece, number in vocabulary.items():
        if type(number) is not int or not 0 <= number <= MAX_ID:
            raise files.fault(name, f"{piece!r}: an id is expected, not {number!r}")
    if unk is None:
        raise files.fault(CONFIG_FILE, "this format needs its unk token")
    if unk not in vocabulary:
        raise files.fault(name, f"its unk token {unk!r} is not in it")
    return vocabulary
