"""Published vocabularies of subwords in text files: WordPiece, byte-level BPE, and BPE of words."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as RustTokenizer

from eir_seq.tokenizers.backend import SpecialTokens
from eir_seq.tokenizers.byte_level import ERRORS, is_byte_level
from eir_seq.tokenizers.closed import ClosedTokenizer
from eir_seq.tokenizers.conventions import (
    BYTE_BPE,
    DEFAULTS,
    GPT2,
    MAX_ID,
    PEGASUS,
    QWEN2,
    T5,
    WORD_BPE,
    WORDPIECE,
    Format,
    add_special_tokens,
    framing_of,
    special_tokens,
    unknown_format,
)
from eir_seq.tokenizers.core import CONFIG_FILE
from eir_seq.tokenizers.files import TokenizerConfigFiles, TokenizerFiles
from eir_seq.tokenizers.framing import FIRST, SECOND, Framing, Part, read_framing
from eir_seq.tokenizers.languages import TranslationTokenizer, languages_of
from eir_seq.tokenizers.published_translation import CLASS_NAMES
from eir_seq.tokenizers.rust import TOKENIZER_FILE, RustBackend, library_errors
from eir_seq.tokenizers.tokenizer import Tokenizer
from eir_seq.tokenizers.words import WordBackend

# How a text falls into words before bytes are merged: as of GPT-2, but digits are separate and line breaks end a word.
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def read_wordpiece(files: TokenizerFiles, config: TokenizerConfigFiles, name: str = "vocab.txt") -> Tokenizer:
    """The WordPiece tokenizer of BERT, MPNet, Splinter or ProphetNet.

    Raises:
        UserError: a broken file, or a format that is not known.
    """
    lineage = config.lineage()
    if lineage is not None and lineage not in WORDPIECE:
        raise unknown_format(files, name, lineage, WORDPIECE)
    if config.flag("do_basic_tokenize", True) is False:
        raise config.fault("do_basic_tokenize", "false is not supported")
    known = WORDPIECE[lineage or "bert"]
    specials = config.specials(known.specials)
    lines = files.text(name).replace("\r\n", "\n").split("\n")
    vocab = {line: number for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines)}
    for role in ("unk", "cls", "sep"):
        if role in ("unk", *known.single.split()) and getattr(specials, role) not in vocab:
            raise files.fault(name, f"its {role} token {getattr(specials, role)!r} is not a line of it")
    rust = RustTokenizer(models.WordPiece(vocab, unk_token=specials.unk or "[UNK]"))
    rust.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=bool(config.flag("tokenize_chinese_chars", True)),
        strip_accents=config.flag("strip_accents", None),
        lowercase=bool(config.flag("do_lower_case", True)),
    )
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.decoder = decoders.WordPiece(cleanup=False)
    _add_published_tokens(rust, files, config, specials, mask_lstrip=known.mask_lstrip)
    rust.add_special_tokens([token for token in known.further if token in vocab])
    rust.post_processor = post_processor(_framing(files, name, known, specials, rust), rust)
    return rust_tokenizer(rust, files, name, config, specials)


def read_bpe(files: TokenizerFiles, config: TokenizerConfigFiles) -> Tokenizer:
    """The tokenizer of vocab.json and merges.txt: of bytes, as of RoBERTa or GPT-2, or of characters, as of CTRL.

    Raises:
        UserError: a broken file, or a format that is not known.
    """
    vocab = files.json("vocab.json", max_bytes=64 * 2**20)
    for token, number in vocab.items():
        if type(number) is not int or not 0 <= number <= MAX_ID:
            raise files.fault("vocab.json", f"{token!r}: an id is expected, not {number!r}")
    lineage = config.lineage()
    if lineage in WORD_BPE:
        return _word_bpe(files, config, vocab, lineage)
    if lineage is not None and lineage not in BYTE_BPE:
        raise unknown_format(files, "vocab.json", lineage, BYTE_BPE | WORD_BPE)
    if any(token.endswith("</w>") for token in vocab):
        raise files.fault("vocab.json", f"not a byte-level vocabulary; give the {TOKENIZER_FILE} of this tokenizer")
    return _byte_bpe(files, config, vocab, lineage)


def _byte_bpe(
    files: TokenizerFiles, config: TokenizerConfigFiles, vocab: dict[str, int], lineage: str | None
) -> Tokenizer:
    known = BYTE_BPE[lineage or ("roberta" if {"<s>", "</s>"} <= vocab.keys() else "gpt2")]
    specials = config.specials(known.specials)
    with library_errors(os.fspath(files.folder / "merges.txt"), "does not fit vocab.json"):
        rust = RustTokenizer(models.BPE(vocab, read_merges(files)))
    prefix_space = bool(config.flag("add_prefix_space", False))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    if known.specials is QWEN2:
        rust.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(Regex(_QWEN2_WORDS), behavior="isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, use_regex=False)
        rust.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    rust.decoder = decoders.ByteLevel()
    _add_published_tokens(rust, files, config, specials, mask_lstrip=known.mask_lstrip)
    if known == BYTE_BPE["roberta"]:
        framing = _framing(files, "vocab.json", known, specials, rust)
        cls, sep = (_with_token(rust, framing.single[index].token) for index in (0, -1))
        trim = bool(config.flag("trim_offsets", True))
        rust.post_processor = processors.RobertaProcessing(sep, cls, trim_offsets=trim, add_prefix_space=prefix_space)
    elif known.specials is GPT2 and config.flag("add_bos_token", False) and specials.bos:
        with_begin = replace(known, single="bos a", pair="bos a | b")
        rust.post_processor = post_processor(_framing(files, "vocab.json", with_begin, specials, rust), rust)
    elif known.single == "a":
        rust.post_processor = processors.ByteLevel(trim_offsets=False)
    else:
        rust.post_processor = post_processor(_framing(files, "vocab.json", known, specials, rust), rust)
    return rust_tokenizer(rust, files, "vocab.json", config, specials)


def _word_bpe(files: TokenizerFiles, config: TokenizerConfigFiles, vocab: dict[str, int], lineage: str) -> Tokenizer:
    known = WORD_BPE[lineage]
    specials = config.specials(known.specials)
    if specials.unk not in vocab:
        raise files.fault("vocab.json", f"its unk token {specials.unk!r} is not in it")
    if lineage == "openaigpt":
        with library_errors(os.fspath(files.folder / "merges.txt"), "does not fit vocab.json"):
            merges = read_merges(files)
            rust = RustTokenizer(models.BPE(vocab, merges, unk_token=specials.unk, end_of_word_suffix="</w>"))
        rust.normalizer = normalizers.BertNormalizer(lowercase=True)
        rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        rust.decoder = decoders.BPEDecoder(suffix="</w>")
        _add_published_tokens(rust, files, config, specials, mask_lstrip=False)
        return rust_tokenizer(rust, files, "vocab.json", config, specials)
    added = add_special_tokens(config, specials, config.additional() or [], vocab, {})
    class_name = {"ctrl": "CTRLTokenizer", "blenderbotsmall": "BlenderbotSmallTokenizer"}[lineage]
    backend = WordBackend(
        {name: files.read(name) for name in ("vocab.json", "merges.txt")},
        vocab,
        read_merges(files),
        added,
        unk=specials.unk,
        class_name=class_name,
        conversational=lineage == "blenderbotsmall",
        specials_in_text=config.specials_in_text(),
    )
    return Tokenizer(backend, specials, framing_of(known, specials, backend.token_to_id))


def read_merges(files: TokenizerFiles) -> list[tuple[str, str]]:
    """The pairs of merges.txt, in order.

    Raises:
        UserError: a broken file.
    """
    merges: list[tuple[str, str]] = []
    for number, line in enumerate(files.text("merges.txt").splitlines(), start=1):
        if line.startswith("#version") or not line.strip():
            continue
        parts = line.split()
        if len(parts) != 2:
            raise files.fault("merges.txt", f"line {number}: two tokens are expected, not {line[:80]!r}")
        merges.append((parts[0], parts[1]))
    return merges


def _framing(files: TokenizerFiles, name: str, known: Format, specials: SpecialTokens, rust: RustTokenizer) -> Framing:
    try:
        return framing_of(known, specials, rust.token_to_id)
    except KeyError as error:
        raise files.fault(name, f"this format needs its {error.args[0]}") from error


def post_processor(framing: Framing, rust: RustTokenizer) -> Any:
    """What sets the special tokens of a framing around a text, as tokenizer.json keeps it."""

    def template(parts: Sequence[Part]) -> list[str]:
        names = {FIRST: "$A", SECOND: "$B"}
        return [f"{names.get(token) or rust.id_to_token(token)}:{type_id}" for token, type_id in parts]

    numbers = {part.token for part in framing.single + framing.pair if part.token >= 0}
    return processors.TemplateProcessing(
        single=template(framing.single),
        pair=template(framing.pair),
        special_tokens=[_with_token(rust, number) for number in sorted(numbers)],
    )


def _with_token(rust: RustTokenizer, number: int) -> tuple[str, int]:
    token = rust.id_to_token(number)
    assert token is not None
    return token, number


def _add_published_tokens(
    rust: RustTokenizer,
    files: TokenizerFiles,
    config: TokenizerConfigFiles,
    specials: SpecialTokens,
    *,
    mask_lstrip: bool,
) -> None:
    for number, token in config.added().items():
        rust.add_tokens([token])
        if rust.token_to_id(token.content) != number:
            given = rust.token_to_id(token.content)
            raise files.fault(CONFIG_FILE, f"added token {token.content!r} has id {number}, but would get {given}")
    add_specials(rust, config, specials, mask_lstrip=mask_lstrip)


def add_specials(
    rust: RustTokenizer, config: TokenizerConfigFiles, specials: SpecialTokens, *, mask_lstrip: bool = False
) -> None:
    """Add the tokens of the roles, and the additional ones, that the vocabulary does not mark as special."""
    for token in special_tokens(config, specials, config.additional() or [], mask_lstrip=mask_lstrip):
        if token.content not in {present.content for present in rust.get_added_tokens_decoder().values()}:
            rust.add_tokens([token])


def rust_tokenizer(
    rust: RustTokenizer, files: TokenizerFiles, name: str, config: TokenizerConfigFiles, specials: SpecialTokens
) -> Tokenizer:
    """The tokenizer of what the library has read, with the class that its lineage needs."""
    in_text = config.specials_in_text()
    lineage, place = config.lineage() or "", os.fspath(files.folder / name)

    errors = config.text("errors", "replace", ERRORS) or "replace" if is_byte_level(rust) else "replace"

    def backend(**published: Any) -> RustBackend:
        return RustBackend(rust, place=place, specials_in_text=in_text, errors=errors, published=published)

    if (languages := languages_of(config, lineage)) is not None:
        there = {code: token for code, token in languages.tokens.items() if rust.token_to_id(token) is not None}
        return TranslationTokenizer(
            backend(tokenizer_class=f"{CLASS_NAMES[lineage]}Fast"),
            specials,
            replace(languages, tokens=there),
            src_lang=config.text("src_lang"),
            tgt_lang=config.text("tgt_lang"),
        )
    added = [token.content for token in rust.get_added_tokens_decoder().values() if token.special]
    further = [content for content in added if content not in asdict(specials).values()]
    if DEFAULTS.get(lineage) is PEGASUS:
        options: dict[str, Any] = {"mask_token_sent": config.text("mask_token_sent", "<mask_1>")}
        options |= {"offset": config.number("offset", 103, most=MAX_ID), "additional_special_tokens": further}
        return ClosedTokenizer(backend(tokenizer_class="PegasusTokenizerFast", **options), specials)
    framing = read_framing(rust.post_processor)
    if DEFAULTS.get(lineage) is not T5:
        return Tokenizer(backend(), specials, framing)
    count = sum("<extra_id_" in content for content in further)
    t5 = backend(tokenizer_class="T5TokenizerFast", extra_ids=count, additional_special_tokens=further)
    return Tokenizer(t5, specials, replace(framing, once=True))
