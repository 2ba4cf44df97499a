"""Published tokenizers: from the files of a folder or of a Hub repository to a `Tokenizer` with the published ids."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as RustTokenizer
from tokenizers import normalizers

from eir_seq.errors import Fault, UserError
from eir_seq.tokenizers.backend import ROLES, SpecialTokens
from eir_seq.tokenizers.byte_level import option_of, set_option
from eir_seq.tokenizers.calling import SIDES
from eir_seq.tokenizers.conventions import (
    ALBERT,
    BEGINS,
    BERT,
    BYTE_BPE,
    DEFAULTS,
    GPT2,
    PADDED_ON_THE_LEFT,
    PADDING_TYPE,
    ROBERTA,
    T5,
    TYPED,
    UNMASKED,
    WORD_BPE,
    WORDPIECE,
    XLNET,
    Format,
    expected_files,
    framing_of,
    with_begin,
)
from eir_seq.tokenizers.files import (
    CONFIG_FILES,
    PROPHETNET_FILE,
    SENTENCEPIECE_FILES,
    VOCABULARY_FILES,
    TokenizerConfigFiles,
    TokenizerFiles,
    read_chat_templates,
)
from eir_seq.tokenizers.framing import TYPE_PATTERNS, read_framing
from eir_seq.tokenizers.growth import check_growth
from eir_seq.tokenizers.hub import local_folder
from eir_seq.tokenizers.published_spm import read_sentencepiece
from eir_seq.tokenizers.published_subwords import (
    add_specials,
    post_processor,
    read_bpe,
    read_wordpiece,
    rust_tokenizer,
)
from eir_seq.tokenizers.rust import TOKENIZER_FILE, library_errors
from eir_seq.tokenizers.tokenizer import Tokenizer

MOST_IDS = 1 << 24
"""Token ids that a vocabulary may have; models have a row for each, used or not."""


def load_tokenizer(
    folder_or_hub_id: str | os.PathLike[str],
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    use_fast: bool = True,
    **options: Any,
) -> Tokenizer:
    """The tokenizer of a folder (published or written by `Tokenizer.save`) or of a repository on the Hub.

    Looked for in this order: tokenizer.json; vocab.txt (WordPiece, as of BERT); vocab.json with merges.txt (BPE of
    bytes, as of RoBERTa or GPT-2, or of words, as of CTRL); a sentencepiece model (as of T5, ALBERT or XLM-RoBERTa).
    Special and added tokens come from tokenizer_config.json, special_tokens_map.json and added_tokens.json, else from
    what is usual for the architecture that tokenizer_config.json or config.json names.

    Args:
        folder_or_hub_id: the folder or the repository.
        revision: of the repository.
        local_files_only: look into the Hub's cache only.
        use_fast: read tokenizer.json where it lies next to the files of the vocabulary; a sentencepiece model is what
            draws (`sp_model_kwargs`), and is read then in any case.
        options: what shall be in tokenizer_config.json instead, by the published names (`legacy=False`,
            `src_lang="en"`, `sp_model_kwargs={"enable_sampling": True, "nbest_size": -1, "alpha": 0.1}` ...).

    Raises:
        UserError: nothing there, out of reach, a broken file, a format that is not known, or an option that it lacks.

    Example:
        >>> from tempfile import mkdtemp
        >>> from eir_seq.tokenizers import load_tokenizer, train_tokenizer
        >>> folder = mkdtemp()
        >>> files = train_tokenizer("character", ["ACGT"]).save_pretrained(folder)
        >>> load_tokenizer(folder).tokenize("GATTACA")
        ['G', 'A', 'T', 'T', 'A', 'C', 'A']
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
    if tokenizer.vocab_size > MOST_IDS:
        raise files.fault(
            name, f"its largest token id is {tokenizer.vocab_size - 1:,}; at most {MOST_IDS - 1:,} is read"
        )
    tokenizer.chat_templates = read_chat_templates(files, config)
    _read_call_defaults(tokenizer, config)
    config.refuse_unread(name)
    return tokenizer


def _read_call_defaults(tokenizer: Tokenizer, config: TokenizerConfigFiles) -> None:
    """What calls and decoding do by default, and the type ids, as the files or the options say."""
    usual = "left" if config.lineage() in PADDED_ON_THE_LEFT else "right"
    tokenizer.padding_side = config.text("padding_side", usual, SIDES) or usual
    tokenizer.model_max_length = config.longest()
    lineage, names = config.lineage() or "", config.names("model_input_names")
    tokenizer.gives_type_ids = TYPED.get(lineage, tokenizer.gives_type_ids) and (
        names is None or "token_type_ids" in names
    )
    tokenizer.gives_mask = lineage not in UNMASKED if names is None else "attention_mask" in names
    tokenizer.pad_token_type_id = PADDING_TYPE.get(lineage, 0)
    tokenizer.clean_up_tokenization_spaces = bool(config.flag("clean_up_tokenization_spaces", False))
    if (pattern := config.text("token_type_ids_pattern", None, TYPE_PATTERNS)) is not None:
        tokenizer.set_type_ids(pattern)


def check_folder(folder: Path, options: Mapping[str, Any]) -> None:
    """Raise `UserError` where a folder holds no vocabulary, without reading one."""
    files = TokenizerFiles(folder)
    reader, name = _reader(files, TokenizerConfigFiles(files, dict(options)), use_fast=True)
    if reader is None:
        raise UserError(Fault("", f"no tokenizer in {folder}: {name} is expected"))


def _reader(
    files: TokenizerFiles, config: TokenizerConfigFiles, *, use_fast: bool
) -> tuple[Callable[[TokenizerFiles, TokenizerConfigFiles], Tokenizer] | None, str]:
    """What reads the vocabulary of the folder, and the name of its file."""
    models = [name for name in SENTENCEPIECE_FILES if files.has(name)]
    draws = "sp_model_kwargs" in config.options and config.sampling().active
    if draws and not models:
        raise config.fault("sp_model_kwargs", "only a sentencepiece model can draw, and there is none")
    texts = files.has("vocab.txt") or (files.has("vocab.json") and files.has("merges.txt"))
    known = config.lineage() in (None, *WORDPIECE, *BYTE_BPE, *WORD_BPE)
    alternatives = models if draws else models or (texts and known)
    if files.has(TOKENIZER_FILE) and ((use_fast and not draws) or not alternatives):
        return _from_tokenizer_json, TOKENIZER_FILE
    if files.has("vocab.txt"):
        return read_wordpiece, "vocab.txt"
    if files.has("vocab.json") and files.has("merges.txt"):
        return read_bpe, "vocab.json"
    if files.has(PROPHETNET_FILE) and config.lineage() == "prophetnet":
        return partial(read_wordpiece, name=PROPHETNET_FILE), PROPHETNET_FILE
    if models:
        return partial(read_sentencepiece, name=models[0]), models[0]
    return None, expected_files(config.lineage())


# ----------------------------------------------------------------------------------------------- tokenizer.json


def _from_tokenizer_json(files: TokenizerFiles, config: TokenizerConfigFiles) -> Tokenizer:
    content = files.text(TOKENIZER_FILE)
    place = os.fspath(files.folder / TOKENIZER_FILE)
    with library_errors(place, "not a tokenizer that can be read"):
        rust = RustTokenizer.from_str(content)
        check_growth(rust, place)
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
        add_specials(rust, config, specials)
        lineage = config.lineage() or ""
        if lineage in BEGINS and config.options.get("tokenizer_class") != "PreTrainedTokenizerFast":
            known, _ = with_begin(config, Format(specials), BEGINS[lineage])
            rust.post_processor = post_processor(framing_of(known, specials, rust.token_to_id), rust)
        framing = read_framing(rust.post_processor)
    largest = max((part.token for part in framing.single + framing.pair), default=0)
    if largest >= 1 + max(rust.get_vocab(with_added_tokens=True).values(), default=-1):
        raise UserError(Fault(place, f"its post_processor adds the token id {largest}, which the vocabulary lacks"))
    return rust_tokenizer(rust, files, TOKENIZER_FILE, config, specials)


def _apply_options(rust: RustTokenizer, config: TokenizerConfigFiles) -> None:
    """Options that tokenizer_config.json states overrule what tokenizer.json was saved with."""
    if isinstance(rust.normalizer, normalizers.BertNormalizer):
        names = {"lowercase": "do_lower_case", "strip_accents": "strip_accents"}
        names["handle_chinese_chars"] = "tokenize_chinese_chars"
        for attribute, option in names.items():
            if option in config.options:
                setattr(rust.normalizer, attribute, config.flag(option, None))
    known = option_of(rust, "pre_tokenizer", "add_prefix_space")
    if known is not None and (wanted := config.flag("add_prefix_space", None)) not in (None, known):
        for component in ("pre_tokenizer", "post_processor"):
            set_option(rust, component, "add_prefix_space", bool(wanted))
    trims = option_of(rust, "post_processor", "trim_offsets")
    if trims is not None and (wanted := config.flag("trim_offsets", None)) not in (None, trims):
        set_option(rust, "post_processor", "trim_offsets", bool(wanted))


def _usual(rust: RustTokenizer) -> SpecialTokens | None:
    """The convention whose tokens are all in the vocabulary, for files that say nothing about roles."""
    for convention in (BERT, ALBERT, XLNET, ROBERTA, T5, GPT2):
        tokens = [token for role in ROLES if (token := getattr(convention, role)) is not None]
        if all(rust.token_to_id(token) is not None for token in tokens):
            return convention
    return None
