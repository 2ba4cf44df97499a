"""Tokenizers learned from the training texts. The same texts give the same vocabulary, on any machine, in any process.

All of them have the special tokens [PAD] [UNK] [CLS] [SEP] [MASK] as ids 0 to 4 and frame a text as `[CLS] a [SEP]`, a
pair as `[CLS] a [SEP] b [SEP]` with type ids 0 and 1. Special tokens are never read from a text: "[SEP]" written in one
is made of ordinary characters.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as RustTokenizer

from eir_seq.config.kinds import TokenizerConfig
from eir_seq.config.tokenizers import (
    ByteTokenizerConfig,
    CharacterTokenizerConfig,
    NormalizingTokenizerBase,
    TokenizerBase,
    TrainedTokenizerConfig,
    WordTokenizerConfig,
)
from eir_seq.config.vocab_file import read_vocab_file
from eir_seq.errors import Fault, UserError, nearest
from eir_seq.registry import TOKENIZERS, imported
from eir_seq.tokenizers.backend import SpecialTokens
from eir_seq.tokenizers.byte_level import byte_symbols
from eir_seq.tokenizers.framing import read_framing
from eir_seq.tokenizers.plain_words import PlainWords
from eir_seq.tokenizers.rust import RustBackend
from eir_seq.tokenizers.tokenizer import Tokenizer

SPECIALS = SpecialTokens(unk="[UNK]", sep="[SEP]", pad="[PAD]", cls="[CLS]", mask="[MASK]")
SPECIAL_LIST = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BYTE_ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
MAX_VOCAB = 2**31 - 1

# Cuts "[SEP]" in two, for vocabularies whose words may hold brackets.
_GUARD = pre_tokenizers.Split(Regex(rf"\[(?=(?:{'|'.join(token[1:-1] for token in SPECIAL_LIST)})\])"), "isolated")


def train_tokenizer(
    config: TokenizerBase | str, texts: Iterable[str], *, sentinels: int = 0, **options: Any
) -> Tokenizer:
    """Learn a tokenizer from texts.

    Args:
        config: the typed config of an experiment, or a type (`word`, `character`, `byte`, `bpe`, `wordpiece`,
            `unigram`) together with the keys of its config as `options`.
        texts: training texts, read once; more than memory holds for all types but `wordpiece` and `unigram`, whose
            distinct words must fit.
        sentinels: special tokens <extra_id_0>, <extra_id_1> ... that stand for gaps, after all others.
        options: e.g. `vocab_size=8000, lowercase=True`.

    Raises:
        UserError: unknown type or option, a vocabulary too small for its type, or texts without a single token.

    Example:
        >>> from eir_seq.tokenizers import train_tokenizer
        >>> tokenizer = train_tokenizer("word", ["a bird sings", "a bird flies"], lowercase=True)
        >>> tokenizer.tokenize("A bird swims")
        ['a', 'bird', '[UNK]']
        >>> tokenizer("A bird").input_ids
        [2, 5, 6, 3]
    """
    typed = _typed_config(config, options) if isinstance(config, str) else config
    assert isinstance(config, str) or not options, "options go with a type given by name"
    if typed.IMPLEMENTATION is None:
        raise UserError(Fault("type", "a published tokenizer is loaded, not trained"))
    rust: RustTokenizer = imported(typed.IMPLEMENTATION)(typed, texts)
    return _finished(rust, [f"<extra_id_{number}>" for number in range(sentinels)])


def _typed_config(kind: str, options: dict[str, Any]) -> TokenizerBase:
    types = [name for name in TOKENIZERS if TOKENIZERS[name].IMPLEMENTATION is not None]
    if kind not in types:
        raise UserError(Fault("type", f"{kind!r} is not one of {', '.join(types)}{nearest(kind, types)}"))
    adapter: TypeAdapter[TokenizerBase] = TypeAdapter(TokenizerConfig)
    try:
        return adapter.validate_python({"type": kind, **options})
    except ValidationError as error:
        faults = [
            Fault(".".join(map(str, item["loc"][1:])), item["msg"].removeprefix("Value error, "))
            for item in error.errors()
        ]
        raise UserError(*faults) from error


def _finished(rust: RustTokenizer, further: Sequence[str]) -> Tokenizer:
    specials = [*SPECIAL_LIST, *further]
    rust.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    assert [rust.token_to_id(token) for token in SPECIAL_LIST] == list(range(len(SPECIAL_LIST)))
    rust.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, SPECIAL_LIST.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    backend = RustBackend(rust, place="tokenizer", specials_in_text=False)
    return Tokenizer(backend, SPECIALS, read_framing(rust.post_processor))


def _normalizer(config: NormalizingTokenizerBase, *more: Any) -> Any:
    steps: list[Any] = (
        [{"nfc": normalizers.NFC, "nfkc": normalizers.NFKC}[config.normalization]()] if (config.normalization) else []
    )
    if config.lowercase:
        steps.append(normalizers.Lowercase())
    return normalizers.Sequence(steps + list(more))


def _encodable(texts: Iterable[str]) -> Iterator[str]:
    """The texts, lone surrogates replaced: one row of many must not stop the training."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        yield text


def _refuse_empty(rust: RustTokenizer) -> RustTokenizer:
    if rust.get_vocab_size(with_added_tokens=False) <= len(SPECIAL_LIST):
        raise UserError(Fault("", "no token of the training texts is frequent enough"))
    return rust


# -------------------------------------------------------------------------------------- words, characters, bytes


def train_words(config: WordTokenizerConfig | CharacterTokenizerConfig, texts: Iterable[str]) -> RustTokenizer:
    """A vocabulary of whole words, or of characters: the most frequent first, equally frequent ones by the alphabet.

    Or that of a file, which knows no other tokens.
    """
    rust = RustTokenizer(models.WordLevel({}, unk_token="[UNK]"))
    rust.normalizer = _normalizer(config)
    if isinstance(config, CharacterTokenizerConfig):
        rust.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        rust.decoder = decoders.Fuse()
    elif config.split_on is None:
        rust.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]"), "removed", invert=True)
    else:
        rust.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(config.split_on, "removed"), _GUARD])
    if config.vocab_file is not None:
        tokens = [token for token in read_vocab_file(config.vocab_file) if token not in SPECIAL_LIST]
        if isinstance(config, CharacterTokenizerConfig) and (long := [token for token in tokens if len(token) > 1]):
            raise UserError(Fault(config.vocab_file, f"{long[0]!r} is no single character"))
        vocabulary = {token: number for number, token in enumerate([*SPECIAL_LIST, *tokens])}
        rust.model = models.WordLevel(vocabulary, unk_token="[UNK]")
        return _refuse_empty(rust)
    size = MAX_VOCAB if config.max_vocab_size is None else config.max_vocab_size + len(SPECIAL_LIST)
    words = PlainWords.of(rust)
    if words is not None:
        counts = words.count(_encodable(texts))
        frequent = [word for word, count in counts.items() if count >= config.min_freq]
        tokens = [*SPECIAL_LIST, *sorted(frequent, key=lambda word: (-counts[word], word))][:size]
        rust.model = models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token="[UNK]")
        return _refuse_empty(rust)
    trainer = trainers.WordLevelTrainer(
        vocab_size=size, min_frequency=config.min_freq, special_tokens=SPECIAL_LIST, show_progress=False
    )
    rust.train_from_iterator(_encodable(texts), trainer)
    return _refuse_empty(rust)


def byte_tokenizer(_config: ByteTokenizerConfig, _texts: Iterable[str]) -> RustTokenizer:
    """Byte b has id b + 5."""
    symbols = byte_symbols()
    vocab = {token: number for number, token in enumerate([*SPECIAL_LIST, *symbols])}
    rust = RustTokenizer(models.BPE(vocab, []))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    rust.decoder = decoders.ByteLevel()
    return rust


# --------------------------------------------------------------------------------------------------- subwords


def train_subwords(config: TrainedTokenizerConfig, texts: Iterable[str]) -> RustTokenizer:
    """A vocabulary of subwords, by one of three methods."""
    return {"bpe": _bpe, "wordpiece": _wordpiece, "unigram": _unigram}[config.type](config, texts)


def _bpe(config: TrainedTokenizerConfig, texts: Iterable[str]) -> RustTokenizer:
    """Byte-level byte-pair encoding (Sennrich et al. 2016, Radford et al. 2019): no text is unknown."""
    rust = RustTokenizer(models.BPE())
    rust.normalizer = _normalizer(config)
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_freq,
        special_tokens=SPECIAL_LIST,
        initial_alphabet=BYTE_ALPHABET,
        show_progress=False,
    )
    rust.train_from_iterator(_encodable(texts), trainer)
    return rust


def _count_words(rust: RustTokenizer, texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs, words as the normalizer and pre-tokenizer of `rust` make them."""
    words = PlainWords.of(rust)
    assert words is not None
    counts = words.count(_encodable(texts))
    if not counts:
        raise UserError(Fault("", "no token of the training texts is frequent enough"))
    return counts


def _alphabet(counts: Counter[str], limit: int) -> list[str]:
    """The most frequent characters of the words, at most `limit`, in the order of the alphabet."""
    characters: Counter[str] = Counter()
    for word, count in counts.items():
        for character in word:
            characters[character] += count
    ranked = sorted(characters, key=lambda character: (-characters[character], character))
    return sorted(ranked[:limit])


def _wordpiece(config: TrainedTokenizerConfig, texts: Iterable[str]) -> RustTokenizer:
    """WordPiece as BERT uses it (Devlin et al. 2019); words with characters outside of its alphabet are unknown.

    The alphabet takes at most the half of the vocabulary's room, as each character may need two entries.
    """
    rust = RustTokenizer(models.WordPiece(unk_token="[UNK]"))
    rust.normalizer = _normalizer(
        config,
        normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False),
    )
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.decoder = decoders.WordPiece(cleanup=False)
    counts = _count_words(rust, texts)
    alphabet = set(_alphabet(counts, (config.vocab_size - len(SPECIAL_LIST)) // 2))
    firsts = sorted(alphabet & {word[0] for word in counts})
    inner = sorted(alphabet & {character for word in counts for character in word[1:]})
    # The trainer numbers characters in the random order of a hash table, unless they are given as "special".
    base = [*SPECIAL_LIST, *firsts, *(f"##{character}" for character in inner)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.vocab_size, min_frequency=config.min_freq, special_tokens=base, show_progress=False
    )
    learner = RustTokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    learner.train_from_iterator(_repeated(counts, alphabet, end=" "), trainer)
    rust.model = models.WordPiece(learner.get_vocab(with_added_tokens=True), unk_token="[UNK]")
    return rust


def _repeated(counts: Counter[str], alphabet: set[str], end: str = "") -> Iterator[str]:
    """Each word of the alphabet as often as it occurs, in lines of bounded length."""
    for word, count in sorted(counts.items()):
        if alphabet.issuperset(word):
            for start in range(0, count, 256):
                yield f"{word}{end}" * min(256, count - start)


def _unigram(config: TrainedTokenizerConfig, texts: Iterable[str]) -> RustTokenizer:
    """The unigram language model over subwords (Kudo 2018), learned by sentencepiece.

    The trainer of `tokenizers` sums in the order of its threads and hash tables, so its result differs from run to run.
    """
    import sentencepiece

    rust = RustTokenizer(models.Unigram())
    rust.normalizer = _normalizer(
        config, normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(left=True, right=True)
    )
    rust.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), _GUARD])
    rust.decoder = decoders.Metaspace()
    counts = _count_words(rust, texts)
    room = config.vocab_size - len(SPECIAL_LIST)
    alphabet = set(_alphabet(counts, room // 2))
    spaced = Counter({word: count for word, count in counts.items() if word.startswith("▁")})  # where words begin
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_repeated(spaced, alphabet),
        model_writer=model,
        model_type="unigram",
        vocab_size=room + 1,  # and its own unknown piece
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        max_sentence_length=2**30,
        num_threads=4,  # the result depends on it (sums of floats), so it is a constant
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        minloglevel=2,
    )
    learned = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    # Six decimals are what single precision has, and short enough that JSON brings them back exactly.
    pieces = [(learned.id_to_piece(i), round(learned.get_score(i), 6)) for i in range(1, learned.get_piece_size())]
    vocab = [(token, 0.0) for token in SPECIAL_LIST] + [piece for piece in pieces if piece[0] not in SPECIAL_LIST]
    rust.model = models.Unigram(vocab, unk_id=SPECIAL_LIST.index("[UNK]"), byte_fallback=False)
    return rust
