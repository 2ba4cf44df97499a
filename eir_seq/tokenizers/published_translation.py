"""Published vocabularies of models that write texts: sentencepiece models whose pieces have ids of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict

from tokenizers import AddedToken

from eir_seq.tokenizers.conventions import MAX_ID, SENTENCEPIECE, add_special_tokens
from eir_seq.tokenizers.files import TokenizerConfigFiles, TokenizerFiles
from eir_seq.tokenizers.languages import TranslationTokenizer, languages_of
from eir_seq.tokenizers.spm import Published, SentencePieceBackend
from eir_seq.tokenizers.tokenizer import CONFIG_FILE, Tokenizer

CLASS_NAMES = {
    "m2m100": "M2M100Tokenizer",
    "mbart": "MBartTokenizer",
    "mbart50": "MBart50Tokenizer",
    "nllb": "NllbTokenizer",
}


def read_with_languages(files: TokenizerFiles, config: TokenizerConfigFiles, name: str, lineage: str) -> Tokenizer:
    """The tokenizer of M2M100 (whose pieces have their ids from vocab.json), mBART, mBART-50 or NLLB.

    Raises:
        UserError: a broken file, or a special token that the vocabulary lacks.
    """
    languages, specials = languages_of(config, lineage), config.specials(SENTENCEPIECE[lineage])
    assert languages is not None
    model, place, sampling = files.read(name), os.fspath(files.folder / name), config.sampling()
    pieces = SentencePieceBackend(model, {}, place=place).pieces
    beside: dict[str, bytes] = {}
    if lineage == "m2m100":
        vocabulary = read_vocabulary(files, "vocab.json", unk=specials.unk)
        beside["vocab.json"] = files.read("vocab.json")
    else:
        # The four special tokens of fairseq, then the pieces of the model, whose own specials make up one less.
        vocabulary = {piece: number for number, piece in enumerate(pieces, start=1) if number > 1}
        vocabulary |= {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    first = len(vocabulary) if lineage == "m2m100" else len(pieces) + 1
    tokens = [AddedToken(token, special=True, normalized=False) for token in languages.tokens.values()]
    further = dict(enumerate(tokens, start=first))
    added = add_special_tokens(config, specials, config.additional() or [], vocabulary, further)
    special = [token.content for token in added.values() if token.special]
    options = {"additional_special_tokens": [text for text in special if text not in asdict(specials).values()]}
    published = Published(CLASS_NAMES[lineage], options, "sentencepiece.bpe.model", beside)
    backend = SentencePieceBackend(
        model,
        added,
        place=place,
        published=published,
        vocabulary=vocabulary,
        unk=specials.unk or "<unk>",
        sampling=sampling,
    )
    src_lang, tgt_lang = config.text("src_lang"), config.text("tgt_lang")
    return TranslationTokenizer(backend, specials, languages, src_lang=src_lang, tgt_lang=tgt_lang)


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
        raise files.fault(CONFIG_FILE, "this format cannot do without its unk token")
    if unk not in vocabulary:
        raise files.fault(name, f"its unk token {unk!r} is not in it")
    return vocabulary
