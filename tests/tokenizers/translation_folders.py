"""Small folders of formats whose pieces have ids of their own, written by the reference."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import sentencepiece
import transformers
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES as M2M100_CODES
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES as NLLB_CODES

from tests.tokenizers.published_folders import FAST_FILES, train_sentencepiece

FAIRSEQ_IDS = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1, "normalization_rule_name": "nmt_nfkc"}


class Folder(NamedTuple):
    """The files as published, one folder written by the slow class and one with the fast file alone."""

    raw: Path
    slow: Path
    fast: Path | None
    reference: Any
    fast_reference: Any


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "m2m100": ("M2M100", {"src_lang": "en", "tgt_lang": "de"}),
    "wmt21": ("M2M100", {"src_lang": "de", "tgt_lang": "en", "language_codes": "wmt21"}),
    "mbart": ("MBart", {"src_lang": "en_XX", "tgt_lang": "de_DE"}),
    "mbart50": ("MBart50", {"src_lang": "en_XX", "tgt_lang": "de_DE"}),
    "nllb": ("Nllb", {"src_lang": "eng_Latn", "tgt_lang": "deu_Latn"}),
    "plbart": ("PLBart", {"src_lang": "python", "tgt_lang": "en_XX"}),
    "plbart-none": ("PLBart", {}),
    "plbart-multi": ("PLBart", {"tgt_lang": "go", "language_codes": "multi"}),
    "nllb-legacy": ("Nllb", {"src_lang": "eng_Latn", "tgt_lang": "deu_Latn", "legacy_behaviour": True}),
}


@cache
def _model(folder: Path) -> Path:
    path = folder / "fairseq.model"
    if not path.exists():
        train_sentencepiece(path, **FAIRSEQ_IDS)
    return path


def pieces_of(path: Path) -> list[str]:
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [model.id_to_piece(number) for number in range(model.get_piece_size())]


def make(kind: str, folder: Path, shared: Path) -> Folder:
    """Build the folders of a kind; `shared` keeps the sentencepiece model, which all kinds have in common."""
    name, options = KINDS[kind]
    raw = folder / "raw"
    raw.mkdir(parents=True)
    shutil.copy(_model(shared), raw / "sentencepiece.bpe.model")
    config: dict[str, Any] = {"tokenizer_class": f"{name}Tokenizer", **options}
    pieces = pieces_of(raw / "sentencepiece.bpe.model")[3:]
    if name == "M2M100":
        vocabulary = {piece: number for number, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *pieces])}
        (raw / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        codes = M2M100_CODES[kind]  # the published map lists them; the reference relies on that
        config["additional_special_tokens"] = [f"__{code}__" for code in codes]
    if name == "Nllb":
        # As published: the mask behind the languages. Without these ids this reference sets it in front of them.
        behind = [*NLLB_CODES, "<mask>"]
        config["added_tokens_decoder"] = {
            str(4 + len(pieces) + number): {"content": token, "special": True, "lstrip": token == "<mask>"}
            for number, token in enumerate(behind)
        } | {
            str(number): {"content": token, "special": True}
            for number, token in enumerate(["<s>", "<pad>", "</s>", "<unk>"])
        }
    (raw / "tokenizer_config.json").write_text(json.dumps(config))
    slow = getattr(transformers, f"{name}Tokenizer").from_pretrained(str(raw))
    slow.save_pretrained(folder / "slow")
    if name in ("M2M100", "PLBart"):
        return Folder(raw, folder / "slow", None, slow, None)
    fast = getattr(transformers, f"{name}TokenizerFast").from_pretrained(str(raw))
    fast.save_pretrained(folder / "both")
    (folder / "fast").mkdir()
    for file in FAST_FILES:
        if (folder / "both" / file).exists():
            shutil.copy(folder / "both" / file, folder / "fast" / file)
    return Folder(raw, folder / "slow", folder / "fast", slow, fast)
