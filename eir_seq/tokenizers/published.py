"""Published tokenizers: from the files of a folder or of a Hub repository to a `Tokenizer` with the published ids."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from eir_seq.errors import Fault, UserError
from eir_seq.tokenizers.closed import ClosedTokenizer
from eir_seq.tokenizers.conventions import (
    ALBERT,
    BERT,
    BYTE_BPE,
    DEFAULTS,
    GPT2,
    MAX_ID,
    PEGASUS,
    ROBERTA,
    T5,
    WORDPIECE,
    XLNET,
    special_tokens,
    unknown_format,
)
from eir_seq.tokenizers.files import (
    CONFIG_FILES,
    SENTENCEPIECE_FILES,
    VOCABULARY_FILES,
    TokenizerConfigFiles,
    TokenizerFiles,
)
from eir_seq.tokenizers.framing import read_framing
from eir_seq.tokenizers.hub import local_folder
from eir_seq.tokenizers.languages import TranslationTokenizer, languages_of
from eir_seq.tokenizers.published_spm import read_sentencepiece
from eir_seq.tokenizers.published_translation import CLASS_NAMES
from eir_seq.tokenizers.rust import TOKENIZER_FILE, RustBackend, library_errors
from eir_seq.tokenizers.tokenizer import CONFIG_FILE, ROLES, SpecialTokens, Tokenizer


def load_tokenizer(
    folder_or_hub_id: str | os.PathLike[str],
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    use_fast: bool = True,
    **options: Any,
) -> Tokenizer:
    """The tokenizer of a folder (published or written by `Tokenizer.save`) or of a repository on the Hub.

    Looked for in this order: tokenizer.json; vocab.txt (BERT WordPiece); vocab.json with merges.txt (byte-level BPE, as
    of RoBERTa or GPT-2); a sentencepiece model (as of T5, ALBERT or XLNet). Special and added tokens come from
    tokenizer_config.json, special_tokens_map.json and added_tokens.json, else from what is usual for the architecture
    that tokenizer_config.json or config.json names.

    Args:
        folder_or_hub_id: the folder or the repository.
        revision: of the repository.
        local_files_only: look into the Hub's cache only.
        use_fast: read tokenizer.json where it lies beside a sentencepiece model; that model is what draws
            (`sp_model_kwargs`), and is read then in any case.
        options: what shall stand in tokenizer_config.json instead, by the published names (`legacy=False`,
            `src_lang="en"`, `sp_model_kwargs={"enable_sampling": True, "nbest_size": -1, "alpha": 0.1}` ...).

    Raises:
        UserError: nothing there, out of reach, a broken file, a format that is not known, or an option that it lacks.
    """
    patterns = [*VOCABULARY_FILES, *CONFIG_FILES]
    folder = local_folder(
        folder_or_hub_id, allow_patterns=patterns, revision=revision, local_files_only=local_files_only
    )
    files = TokenizerFiles(folder)
    config = TokenizerConfigFiles(files, options)
    reader, name = _reader(files, config, use_fast=use_fast)
    if reader is None:
        raise UserError(Fault(os.fspath(folder_or_hub_id), f"no tokenizer in it: {name} is expected"))
    tokenizer = reader(files, config)
    config.refuse_unread(name)
    return tokenizer


def _reader(
    files: TokenizerFiles, config: TokenizerConfigFiles, *, use_fast: bool
) -> tuple[Callable[[TokenizerFiles, TokenizerConfigFiles], Tokenizer] | None, str]:
    """What reads the vocabulary of the folder, and the name of its file."""
    models = [name for name in SENTENCEPIECE_FILES if files.has(name)]
    draws = "sp_model_kwargs" in config.options and config.sampling().active
    if draws and not models:
        raise files.fault(CONFIG_FILE, "sp_model_kwargs: only a sentencepiece model can draw, and there is none")
    if files.has(TOKENIZER_FILE) and not (models and (draws or not use_fast)):
        return _from_tokenizer_json, TOKENIZER_FILE
    if files.has("vocab.txt"):
        return _wordpiece, "vocab.txt"
    if files.has("vocab.json") and files.has("merges.txt"):
        return _byte_bpe, "vocab.json"
    if models:
        return partial(read_sentencepiece, name=models[0]), models[0]
    return None, "tokenizer.json, vocab.txt, vocab.json with merges.txt, or a sentencepiece model (spiece.model)"


# ----------------------------------------------------------------------------------------------- tokenizer.json


def _from_tokenizer_json(files: TokenizerFiles, config: TokenizerConfigFiles) -> Tokenizer:
    content = files.text(TOKENIZER_FILE)
    place = os.fspath(files.folder / TOKENIZER_FILE)
    with library_errors(place, "not a tokenizer that can be read"):
        rust = RustTokenizer.from_str(content)
        _apply_options(rust, config)
        present = {repr(token) for token in rust.get_added_tokens_decoder().values()}
        rust.add_tokens([token for token in config.added().values() if repr(token) not in present])
        specials = config.specials(SpecialTokens())
        stated = [role for role in ROLES if f"{role}_token" in config.options]
        usual = DEFAULTS.get(config.lineage() or "")
        if usual is None and "tokenizer_class" not in config.options:
            usual = _usual(rust)
        for role in ROLES:
            token = getattr(usual, role, None)
            if role not in stated and token is not None and rust.token_to_id(token) is not None:
                specials = replace(specials, **{role: token})
        _add_specials(rust, config, specials)
        framing = read_framing(rust.post_processor)
    largest = max((part.token for part in framing.single + framing.pair), default=0)
    if largest >= 1 + max(rust.get_vocab(with_added_tokens=True).values(), default=-1):
        raise UserError(Fault(place, f"its post_processor adds the token id {largest}, which the vocabulary lacks"))
    return _rust_tokenizer(rust, files, TOKENIZER_FILE, config, specials)


def _apply_options(rust: RustTokenizer, config: TokenizerConfigFiles) -> None:
    """Options that tokenizer_config.json states overrule what tokenizer.json was saved with."""
    if isinstance(rust.normalizer, normalizers.BertNormalizer):
        names = {"lowercase": "do_lower_case", "strip_accents": "strip_accents"}
        names["handle_chinese_chars"] = "tokenize_chinese_chars"
        for attribute, option in names.items():
            if option in config.options:
                setattr(rust.normalizer, attribute, config.flag(option, None))
    add_prefix_space = config.flag("add_prefix_space", None)
    if isinstance(rust.pre_tokenizer, pre_tokenizers.ByteLevel) and add_prefix_space is not None:
        rust.pre_tokenizer.add_prefix_space = add_prefix_space


def _usual(rust: RustTokenizer) -> SpecialTokens | None:
    """The convention whose tokens are all in the vocabulary, for files that say nothing about roles."""
    for convention in (BERT, ALBERT, XLNET, ROBERTA, T5, GPT2):
        tokens = [token for role in ROLES if (token := getattr(convention, role)) is not None]
        if all(rust.token_to_id(token) is not None for token in tokens):
            return convention
    return None


# ------------------------------------------------------------------------------- WordPiece, byte-level BPE


def _wordpiece(files: TokenizerFiles, config: TokenizerConfigFiles) -> Tokenizer:
    name = "vocab.txt"
    lineage = config.lineage()
    if lineage is not None and lineage not in WORDPIECE:
        raise unknown_format(files, name, lineage, WORDPIECE)
    if config.flag("do_basic_tokenize", True) is False:
        raise files.fault(CONFIG_FILE, "do_basic_tokenize: false is not supported")
    specials = config.specials(BERT)
    lines = files.text(name).replace("\r\n", "\n").split("\n")
    vocab = {line: number for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines)}
    for role in ("unk", "cls", "sep"):
        if getattr(specials, role) not in vocab:
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
    _add_published_tokens(rust, files, config, specials, mask_lstrip=False)
    rust.post_processor = processors.BertProcessing(_with_id(rust, specials.sep), _with_id(rust, specials.cls))
    return _rust_tokenizer(rust, files, name, config, specials)


def _byte_bpe(files: TokenizerFiles, config: TokenizerConfigFiles) -> Tokenizer:
    vocab = files.json("vocab.json", max_bytes=64 * 2**20)
    for token, number in vocab.items():
        if type(number) is not int or not 0 <= number <= MAX_ID:
            raise files.fault("vocab.json", f"{token!r}: an id is expected, not {number!r}")
        if token.endswith("</w>"):
            raise files.fault("vocab.json", f"not a byte-level vocabulary; give the {TOKENIZER_FILE} of this tokenizer")
    lineage = config.lineage()
    if lineage is not None and lineage not in BYTE_BPE:
        raise unknown_format(files, "vocab.json", lineage, BYTE_BPE)
    usual = BYTE_BPE[lineage] if lineage else ROBERTA if {"<s>", "</s>"} <= vocab.keys() else GPT2
    specials = config.specials(usual)
    with library_errors(os.fspath(files.folder / "merges.txt"), "does not fit to vocab.json"):
        rust = RustTokenizer(models.BPE(vocab, _merges(files)))
    config.text("errors", "replace", ["replace"])  # what the library does with bytes that are no UTF-8
    prefix_space = bool(config.flag("add_prefix_space", False))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    rust.decoder = decoders.ByteLevel()
    _add_published_tokens(rust, files, config, specials, mask_lstrip=usual is ROBERTA)
    if usual is ROBERTA:
        if specials.sep is None or specials.cls is None:
            raise files.fault(CONFIG_FILE, "this format needs a cls_token and a sep_token")
        sep, cls = _with_id(rust, specials.sep), _with_id(rust, specials.cls)
        trim = bool(config.flag("trim_offsets", True))
        rust.post_processor = processors.RobertaProcessing(sep, cls, trim_offsets=trim, add_prefix_space=prefix_space)
    elif config.flag("add_bos_token", False) and specials.bos:
        rust.post_processor = processors.TemplateProcessing(
            single=[specials.bos, "$A"],
            pair=[specials.bos, "$A", "$B:1"],
            special_tokens=[_with_id(rust, specials.bos)],
        )
    else:
        rust.post_processor = processors.ByteLevel(trim_offsets=False)
    return _rust_tokenizer(rust, files, "vocab.json", config, specials)


def _merges(files: TokenizerFiles) -> list[tuple[str, str]]:
    merges: list[tuple[str, str]] = []
    for number, line in enumerate(files.text("merges.txt").splitlines(), start=1):
        if line.startswith("#version") or not line.strip():
            continue
        parts = line.split()
        if len(parts) != 2:
            raise files.fault("merges.txt", f"line {number}: two tokens are expected, not {line[:80]!r}")
        merges.append((parts[0], parts[1]))
    return merges


def _with_id(rust: RustTokenizer, token: str | None) -> tuple[str, int]:
    assert token is not None
    number = rust.token_to_id(token)
    assert number is not None
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
    _add_specials(rust, config, specials, mask_lstrip=mask_lstrip)


def _add_specials(
    rust: RustTokenizer, config: TokenizerConfigFiles, specials: SpecialTokens, *, mask_lstrip: bool = False
) -> None:
    for token in special_tokens(config, specials, config.additional() or [], mask_lstrip=mask_lstrip):
        if token.content not in {present.content for present in rust.get_added_tokens_decoder().values()}:
            rust.add_tokens([token])


def _rust_tokenizer(
    rust: RustTokenizer, files: TokenizerFiles, name: str, config: TokenizerConfigFiles, specials: SpecialTokens
) -> Tokenizer:
    in_text = config.specials_in_text()
    lineage, place = config.lineage() or "", os.fspath(files.folder / name)

    def backend(**published: Any) -> RustBackend:
        return RustBackend(rust, place=place, specials_in_text=in_text, published=published)

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
