"""What each published format calls its special tokens, and which architectures use which format."""

from __future__ import annotations

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

# Which format the architectures use whose files do not tell it themselves, by `TokenizerConfigFiles.lineage`.
_BERT_LIKE = (
    "bert distilbert electra mobilebert squeezebert convbert lxmert layoutlm megatronbert visualbert nezha rocbert"
)
_ROBERTA_LIKE = "roberta bart longformer led mvp robertaprelayernorm ibert data2vectext luke markuplm"
_T5_LIKE = "t5 mt5 umt5 longt5 switchtransformers"
WORDPIECE = dict.fromkeys(_BERT_LIKE.split(), BERT)
BYTE_BPE = dict.fromkeys(_ROBERTA_LIKE.split(), ROBERTA) | dict.fromkeys(["gpt2", "gptj", "gptneo"], GPT2)
SENTENCEPIECE = dict.fromkeys(_T5_LIKE.split(), T5) | {"albert": ALBERT, "xlnet": XLNET}
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
