"""What each published format calls its special tokens and sets around a text, and which architectures use which."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from tokenizers import AddedToken

from eir_seq.errors import UserError
from eir_seq.tokenizers.backend import ROLES, SpecialTokens
from eir_seq.tokenizers.files import PROPHETNET_FILE, TokenizerConfigFiles, TokenizerFiles
from eir_seq.tokenizers.framing import FIRST, SECOND, Framing, Part


@dataclass(frozen=True)
class Format:
    """The special tokens of a format, and where they are around a text and a pair.

    `single` and `pair` list roles, `a` and `b` for the texts, and other tokens as they are; what follows `|` has
    the type 1. `mask_lstrip`: the mask takes the space before it. `further` are special tokens without a role.
    """

    specials: SpecialTokens
    single: str = "a"
    pair: str = "a | b"
    mask_lstrip: bool = False
    further: tuple[str, ...] = ()


@dataclass(frozen=True)
class PieceFormat(Format):
    """The format of a sentencepiece model: the class that reads it and the file it is published as.

    `heads` have the ids from 0, then follow the pieces from number `first_piece` on; without heads the ids are the
    numbers.
    """

    class_name: str = ""
    file: str = "spiece.model"
    heads: tuple[str, ...] = ()
    first_piece: int = 0


F = TypeVar("F", bound=Format)

BERT = SpecialTokens(unk="[UNK]", sep="[SEP]", pad="[PAD]", cls="[CLS]", mask="[MASK]")
ROBERTA = SpecialTokens("<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>")
GPT2 = SpecialTokens(bos="<|endoftext|>", eos="<|endoftext|>", unk="<|endoftext|>")
QWEN2 = SpecialTokens(eos="<|endoftext|>", unk="<|endoftext|>", pad="<|endoftext|>")
T5 = SpecialTokens(eos="</s>", unk="<unk>", pad="<pad>")
ALBERT = SpecialTokens("[CLS]", "[SEP]", "<unk>", "[SEP]", "<pad>", "[CLS]", "[MASK]")
FNET = SpecialTokens(unk="<unk>", sep="[SEP]", pad="<pad>", cls="[CLS]", mask="[MASK]")
BIG_BIRD = SpecialTokens("<s>", "</s>", "<unk>", "[SEP]", "<pad>", "[CLS]", "[MASK]")
XLNET = SpecialTokens("<s>", "</s>", "<unk>", "<sep>", "<pad>", "<cls>", "<mask>")
M2M100 = SpecialTokens("<s>", "</s>", "<unk>", "</s>", "<pad>")
MBART50 = SpecialTokens(None, "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>")
PEGASUS = SpecialTokens(eos="</s>", unk="<unk>", pad="<pad>", mask="<mask_2>")
MARIAN = SpecialTokens(eos="</s>", unk="<unk>", pad="<pad>")
GEMMA = SpecialTokens("<bos>", "<eos>", "<unk>", pad="<pad>")
LLAMA = SpecialTokens("<s>", "</s>", "<unk>")
DEBERTA = SpecialTokens("[CLS]", "[SEP]", "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]")
OPENAI_GPT = SpecialTokens(unk="<unk>")
BLENDERBOT_SMALL = SpecialTokens("__start__", "__end__", "__unk__", pad="__null__")

FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3

# Which format the architectures use, by `TokenizerConfigFiles.lineage`.
_BERT_LIKE = (
    "bert distilbert electra mobilebert squeezebert convbert lxmert layoutlm megatronbert visualbert nezha rocbert "
    "ernie git"
)
_ROBERTA_LIKE = "roberta bart longformer led mvp robertaprelayernorm ibert data2vectext luke mra mega"
_GPT2_LIKE = "gpt2 gptj gptneo opt gptbigcode starcoder2 codegen phi"
_T5_LIKE = "t5 mt5 umt5 longt5 switchtransformers"
_AS_BERT = ("cls a sep", "cls a sep | b sep")
_AS_ROBERTA = ("cls a sep", "cls a sep sep b sep")
WORDPIECE = dict.fromkeys(_BERT_LIKE.split(), Format(BERT, *_AS_BERT)) | {
    "mpnet": Format(SpecialTokens("<s>", "</s>", "[UNK]", "</s>", "<pad>", "<s>", "<mask>"), *_AS_ROBERTA, True),
    "splinter": Format(BERT, "cls a sep", "cls a [QUESTION] . sep | b sep", further=("[QUESTION]",)),
    "prophetnet": Format(SpecialTokens(unk="[UNK]", sep="[SEP]", pad="[PAD]", mask="[MASK]"), "a sep", "a sep b sep"),
}
BYTE_BPE = (
    dict.fromkeys(_ROBERTA_LIKE.split(), Format(ROBERTA, *_AS_ROBERTA, True))
    | dict.fromkeys(_GPT2_LIKE.split(), Format(GPT2))
    | {
        "qwen2": Format(QWEN2, pair="a b"),
        "deberta": Format(DEBERTA, *_AS_BERT, True),
        "markuplm": Format(ROBERTA, "cls a sep", "cls a sep b sep", True),
        "blenderbot": Format(ROBERTA, "a eos", "a b eos", True),
    }
)
WORD_BPE = {
    "openaigpt": Format(OPENAI_GPT),
    "ctrl": Format(SpecialTokens(unk="<unk>")),
    "blenderbotsmall": Format(BLENDERBOT_SMALL),
}
TYPED = {"ctrl": True, "distilbert": False, "bigbird": False}
"""Formats whose calls give `token_type_ids` though a pair has none, or do not though it has."""
UNMASKED = ("fnet",)
"""Formats whose calls give no `attention_mask` unasked."""
PADDING_TYPE = {"xlnet": 3}
"""The type of padding where it is not 0."""
WITH_LANGUAGES = {
    "m2m100": M2M100,
    "mbart": ROBERTA,
    "mbart50": MBART50,
    "nllb": ROBERTA,
    "nllbmoe": ROBERTA,
    "plbart": ROBERTA,
}
CLOSED = dict.fromkeys(["pegasus", "pegasusx", "bigbirdpegasus"], PEGASUS) | {"marian": MARIAN}
_XLM_ROBERTA = PieceFormat(
    ROBERTA,
    *_AS_ROBERTA,
    mask_lstrip=True,
    class_name="XLMRobertaTokenizer",
    file="sentencepiece.bpe.model",
    heads=FAIRSEQ,
    first_piece=3,
)
_XLM_PROPHETNET = PieceFormat(
    SpecialTokens("[SEP]", "[SEP]", "[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"),
    "a sep",
    "a sep b sep",
    class_name="XLMProphetNetTokenizer",
    file="prophetnet.tokenizer",
    heads=("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", *(f"[unused{number}]" for number in range(10))),
    first_piece=3,
)
_CAMEMBERT = PieceFormat(
    ROBERTA,
    *_AS_ROBERTA,
    mask_lstrip=True,
    class_name="CamembertTokenizer",
    file="sentencepiece.bpe.model",
    heads=("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"),
    further=("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"),
    first_piece=1,
)
_XGLM = PieceFormat(
    SpecialTokens("<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>"),
    "sep a",
    "sep a sep sep b",
    class_name="XGLMTokenizer",
    file="sentencepiece.bpe.model",
    heads=FAIRSEQ,
    first_piece=3,
    further=tuple(f"<madeupword{number}>" for number in range(7)),
)
_LLAMA = PieceFormat(LLAMA, class_name="LlamaTokenizer", file="tokenizer.model")
_GEMMA = PieceFormat(GEMMA, class_name="GemmaTokenizer", file="tokenizer.model")
PIECES = {
    "xlmroberta": _XLM_ROBERTA,
    "xlmrobertaxl": _XLM_ROBERTA,
    "xlmprophetnet": _XLM_PROPHETNET,
    "camembert": _CAMEMBERT,
    "xglm": _XGLM,
    "bertgeneration": PieceFormat(
        SpecialTokens("<s>", "</s>", "<unk>", "<::::>", "<pad>"), pair="a b", class_name="BertGenerationTokenizer"
    ),
    "bigbird": PieceFormat(
        SpecialTokens("<s>", "</s>", "<unk>", "[SEP]", "<pad>", "[CLS]", "[MASK]"),
        *_AS_BERT,
        True,
        class_name="BigBirdTokenizer",
    ),
    "rembert": PieceFormat(DEBERTA, *_AS_BERT, True, class_name="RemBertTokenizer", file="sentencepiece.model"),
    "reformer": PieceFormat(SpecialTokens(eos="</s>", unk="<unk>"), pair="a b", class_name="ReformerTokenizer"),
    "debertav2": PieceFormat(DEBERTA, *_AS_BERT, class_name="DebertaV2Tokenizer", file="spm.model"),
}
WITH_BEGIN = dict.fromkeys(["llama", "mixtral", "persimmon"], _LLAMA) | dict.fromkeys(["gemma", "t5gemma"], _GEMMA)
# Of these there is a tokenizer.json alone.
_GPT_NEOX = Format(GPT2)
JSON_ONLY = dict.fromkeys(["gptneox", "mamba", "mpt", "rwkv", "stablelm"], _GPT_NEOX) | {
    "bloom": Format(SpecialTokens("<s>", "</s>", "<unk>", pad="<pad>")),
    "cohere": Format(SpecialTokens("<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", "<UNK>", pad="<PAD>")),
}
# Whether a text begins with the bos token where `add_bos_token` does not say.
BEGINS = dict.fromkeys([*WITH_BEGIN, "cohere"], True) | dict.fromkeys(
    [name for name, known in JSON_ONLY.items() if known is _GPT_NEOX], False
)
PADDED_ON_THE_LEFT = {*WITH_BEGIN, "cohere", "xlnet"}
NORMALIZED = dict.fromkeys(["albert", "nystromformer", "yoso"], ALBERT) | {"fnet": FNET, "xlnet": XLNET}
SENTENCEPIECE = (
    dict.fromkeys(_T5_LIKE.split(), T5)
    | NORMALIZED
    | WITH_LANGUAGES
    | CLOSED
    | {name: known.specials for name, known in (PIECES | WITH_BEGIN).items()}
)
_IN_TEXT_FILES = WORDPIECE | BYTE_BPE | WORD_BPE | JSON_ONLY
DEFAULTS = {name: known.specials for name, known in _IN_TEXT_FILES.items()} | SENTENCEPIECE
NOT_SERVED = {
    "roformer": "its words are cut by a dictionary of Chinese (jieba), which is not read here",
    "xlm": "its words are cut by the rules of Moses for each language, which are not known here",
    "flaubert": "its words are cut by the rules of Moses for French, which are not known here",
    "biogpt": "its words are cut by the rules of Moses for English, which are not known here",
    "gptneoxjapanese": "its way to cut Japanese by emoji.json is not known here",
}
MAX_ID = 2**31 - 1


def expected_files(lineage: str | None) -> str:
    """What a folder must hold, for an error: the files of the format, of any format where it is not known."""
    usual = "vocab.txt, vocab.json with merges.txt, or a sentencepiece model (spiece.model)"
    if lineage in WORDPIECE:
        usual = PROPHETNET_FILE if lineage == "prophetnet" else "vocab.txt"
    elif lineage in BYTE_BPE or lineage in WORD_BPE:
        usual = "vocab.json with merges.txt"
    elif lineage in PIECES or lineage in WITH_BEGIN:
        usual = (PIECES | WITH_BEGIN)[lineage].file
    elif lineage == "marian":
        usual = "source.spm, target.spm and vocab.json"
    elif lineage in WITH_LANGUAGES:
        usual = "sentencepiece.bpe.model" + " and vocab.json" * (lineage == "m2m100")
    elif lineage in SENTENCEPIECE:
        usual = "spiece.model"
    return f"tokenizer.json, or {usual}"


def unknown_format(files: TokenizerFiles, name: str, lineage: str, known: Iterable[str]) -> UserError:
    """The error about a vocabulary file of an architecture whose way of using it is not known here."""
    why = NOT_SERVED.get(lineage) or f"known: {', '.join(sorted(known))}"
    message = f"how {lineage!r} uses this file is not known ({why}); give the tokenizer.json of this tokenizer"
    return files.fault(name, message)


def framing_of(known: Format, specials: SpecialTokens, id_of: Callable[[str], int | None]) -> Framing:
    """Where the special tokens of a format are, by their ids.

    Raises:
        KeyError: with the role or the token that is missing.
    """

    def parts(template: str) -> tuple[Part, ...]:
        found, type_id = [], 0
        for name in template.split():
            if name == "|":
                type_id = 1
                continue
            token = getattr(specials, name) if name in ROLES else name
            number = {"a": FIRST, "b": SECOND}.get(name) or (None if token is None else id_of(token))
            if number is None:
                raise KeyError(f"{name}_token" if name in ROLES else name)
            found.append(Part(number, type_id))
        return tuple(found)

    return Framing(parts(known.single), parts(known.pair))


def with_begin(config: TokenizerConfigFiles, known: F, default: bool) -> tuple[F, dict[str, bool]]:
    """A format with the tokens around each text that `add_bos_token` and `add_eos_token` want, and these options."""
    options = {"add_bos_token": default, "add_eos_token": False}
    options = {name: bool(config.flag(name, usual)) for name, usual in options.items()}
    begin, end = "bos " * options["add_bos_token"], " eos" * options["add_eos_token"]
    text = f"{begin}a{end}"
    return replace(known, single=text, pair=f"{text} {text.replace('a', 'b')}"), options


def special_tokens(
    config: TokenizerConfigFiles, specials: SpecialTokens, additional: list[AddedToken], *, mask_lstrip: bool
) -> list[AddedToken]:
    """Special tokens in the order in which those that the vocabulary lacks get their ids."""
    roles = [(role, content) for role in ROLES if (content := getattr(specials, role)) is not None]
    tokens = [config.role_token(role, content, lstrip=mask_lstrip and role == "mask") for role, content in roles]
    return tokens + additional


def add_special_tokens(
    config: TokenizerConfigFiles,
    specials: SpecialTokens,
    additional: list[AddedToken],
    vocabulary: Mapping[str, int],
    further: Mapping[int, AddedToken],
    *,
    mask_lstrip: bool = True,
) -> dict[int, AddedToken]:
    """All added tokens by id: those that the files number, `further` special ones with theirs, and those of the roles.

    The latter have the ids of `vocabulary`; what it lacks gets those after all others.
    """
    added = dict(config.added())
    taken = {token.content for token in added.values()}
    for number, token in further.items():
        if token.content not in taken:
            added[number] = token
            taken.add(token.content)
    free = 1 + max([*vocabulary.values(), *added], default=-1)
    for token in special_tokens(config, specials, additional, mask_lstrip=mask_lstrip):
        if token.content not in taken:
            known = vocabulary.get(token.content)
            added[free if known is None else known] = token
            free += known is None
            taken.add(token.content)
    return added
