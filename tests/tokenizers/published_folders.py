"""Small folders in the published formats, written by the reference: the slow files alone and the fast file alone."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece
import transformers
from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer

from tests.tokenizers.corpus import GENERATED, OWN, lines

FAST_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def training_texts() -> list[str]:
    return [*OWN, *GENERATED, *lines()]


def train_wordpiece(folder: Path, *, lowercase: bool) -> None:
    trainer = BertWordPieceTokenizer(lowercase=lowercase)
    trainer.train_from_iterator(training_texts(), vocab_size=1500, show_progress=False)
    trainer.save_model(str(folder))


def train_byte_bpe(folder: Path, specials: list[str]) -> None:
    trainer = ByteLevelBPETokenizer()
    trainer.train_from_iterator(training_texts(), vocab_size=1500, special_tokens=specials, show_progress=False)
    trainer.save_model(str(folder))


def train_sentencepiece(path: Path, *, vocab_size: int = 1000, **options: Any) -> None:
    sentences = [line for text in training_texts() for line in text.splitlines() if line.strip() and len(line) < 4000]
    with path.open("wb") as handle:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=handle,
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            character_coverage=0.999,
            minloglevel=2,
            num_threads=1,
            **options,
        )


ROBERTA_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
T5_IDS = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "normalization_rule_name": "nmt_nfkc"}
ALBERT_IDS = {
    "pad_id": 0,
    "unk_id": 1,
    "bos_id": -1,
    "eos_id": -1,
    "control_symbols": ["[CLS]", "[SEP]", "[MASK]"],
    "pad_piece": "<pad>",
}
XLNET_IDS = {
    "unk_id": 0,
    "bos_id": 1,
    "eos_id": 2,
    "pad_id": -1,
    "control_symbols": ["<cls>", "<sep>", "<pad>", "<mask>", "<eod>"],
    "user_defined_symbols": ["<eop>"],
}


def _reference(name: str, folder: Path, **options: Any) -> Any:
    """The reference's class on the vocabulary files of a folder."""
    return getattr(transformers, name).from_pretrained(str(folder), **options)


@cache
def _vocabulary(name: str, lowercase: bool) -> dict[str, bytes]:
    """The vocabulary files that a class needs, learnt once."""
    with tempfile.TemporaryDirectory() as temporary:
        raw = Path(temporary)
        if name == "Bert":
            train_wordpiece(raw, lowercase=lowercase)
        elif name in ("Roberta", "Longformer"):
            train_byte_bpe(raw, ROBERTA_SPECIALS)
        elif name == "GPT2":
            train_byte_bpe(raw, ["<|endoftext|>"])
        else:
            train_sentencepiece(raw / "spiece.model", **{"T5": T5_IDS, "Albert": ALBERT_IDS, "XLNet": XLNET_IDS}[name])
        return {path.name: path.read_bytes() for path in raw.iterdir()}


def make(kind: str, folder: Path) -> tuple[Any, Any]:
    """Write `folder`/slow and `folder`/fast; the reference's slow and fast tokenizers."""
    raw = folder / "raw"
    name, options = KINDS[kind]
    raw.mkdir(parents=True)
    for file, content in _vocabulary(name.removeprefix("Distil"), options.get("do_lower_case", True)).items():
        (raw / file).write_bytes(content)
    slow = _reference(f"{name}Tokenizer", raw, **options)
    fast = _reference(f"{name}TokenizerFast", raw, **options)
    slow.save_pretrained(folder / "slow")
    fast.save_pretrained(folder / "both")
    (folder / "fast").mkdir()
    for file in FAST_FILES:
        if (folder / "both" / file).exists():
            shutil.copy(folder / "both" / file, folder / "fast" / file)
    return slow, fast


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {}),
    "bert-cased": ("Bert", {"do_lower_case": False}),
    "bert-accents": ("Bert", {"strip_accents": False, "tokenize_chinese_chars": False}),
    "distilbert": ("DistilBert", {}),
    "roberta": ("Roberta", {}),
    "roberta-prefix-space": ("Roberta", {"add_prefix_space": True}),
    "longformer": ("Longformer", {}),
    "gpt2": ("GPT2", {}),
    "gpt2-bos": ("GPT2", {"add_bos_token": True}),
    "t5": ("T5", {}),
    "t5-few-sentinels": ("T5", {"extra_ids": 7}),
    "t5-corrected": ("T5", {"legacy": False}),
    "albert": ("Albert", {}),
    "xlnet": ("XLNet", {}),
}
