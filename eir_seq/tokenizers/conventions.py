"""What each published format calls its special tokens, and which architectures use which format."""

from __future__ import annotations

from collections.abc import Mapping

from tokenizers import AddedToken

from eir_seq.errors import UserError
from eir_seq.tokenizers.files import TokenizerConfigFiles, TokenizerFiles
from eir_seq.tokenizers.tokenizer import ROLES, SpecialTokens

BERT = SpecialTokens(unk="[UNK]", sep="[SEP]", pad="[PAD]", cls="[CLS]", mask="[MASK]")
ROBERTA = SpecialTokens("<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>")
GPT2 = SpecialTokens(bos="<|endoftext|>", eos="<|endoftext|>", unk="<|endoftext|>")
T5 = SpecialTokens(eos="</s>", unk="<unk>", pad="<pad>")
ALBERT = SpecialTokens("[CLS]", "[SEP]", "<unk>", "[SEP]", "<pad>", "[CLS]", "[MASK]")
XLNET = SpecialTokens("<s>", "</s>", "<unk>", "<sep>", "<pad>", "<cls>", "<mask>")
M2M100 = SpecialTokens("<s>", "</s>", "<unk>", "</s>", "<pad>")
MBART50 = SpecialTokens(None, "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>")
PEGASUS = SpecialTokens(eos="</s>", unk="<unk>", pad="<pad>", mask="<mask_2>")
MARIAN = SpecialTokens(eos="</s>", unk="<unk>", pad="<pad>")

# Which format the architectures use whose files do not tell it themselves, by `TokenizerConfigFiles.lineage`.
_BERT_LIKE = (
    "bert distilbert electra mobilebert squeezebert convbert lxmert layoutlm megatronbert visualbert nezha rocbert"
)
_ROBERTA_LIKE = "roberta bart longformer led mvp robertaprelayernorm ibert data2vectext luke markuplm"
_T5_LIKE = "t5 mt5 umt5 longt5 switchtransformers"
WORDPIECE = dict.fromkeys(_BERT_LIKE.split(), BERT)
BYTE_BPE = dict.fromkeys(_ROBERTA_LIKE.split(), ROBERTA) | dict.fromkeys(["gpt2", "gptj", "gptneo"], GPT2)
WITH_LANGUAGES = {
    "m2m100": M2M100,
    "mbart": ROBERTA,
    "mbart50": MBART50,
    "nllb": ROBERTA,
    "nllbmoe": ROBERTA,
    "plbart": ROBERTA,
}
CLOSED = dict.fromkeys(["pegasus", "pegasusx", "bigbirdpegasus"], PEGASUS) | {"marian": MARIAN}
SENTENCEPIECE = dict.fromkeys(_T5_LIKE.split(), T5) | {"albert": ALBERT, "xlnet": XLNET} | WITH_LANGUAGES | CLOSED
DEFAULTS = WORDPIECE | BYTE_BPE | SENTENCEPIECE
MAX_ID = 2**31 - 1


def unknown_format(files: TokenizerFiles, name: str, lineage: str, known: dict[str, SpecialTokens]) -> UserError:
    """The error about a vocabulary file of an architecture whose way of using it is not known here."""
    return files.fault(
        name,
        f"how {lineage!r} uses this file is not known (known: {', '.join(sorted(known))}); "
        f"give the tokenizer.json of this tokenizer",
    )


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

    The latter have the ids of `vocabulary`; what it lacks gets those behind all others.
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
