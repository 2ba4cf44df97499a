"""A small folder of each documented tokenizer: vocabulary files beside a config.json, and the reference's class."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from tests.tokenizers.published_folders import (
    ALBERT_IDS,
    ROBERTA_SPECIALS,
    T5_IDS,
    XLNET_IDS,
    train_byte_bpe,
    train_sentencepiece,
    train_wordpiece,
    training_texts,
)
from tests.tokenizers.test_closed import PEGASUS_IDS, write_marian
from tests.tokenizers.translation_folders import FAIRSEQ_IDS

BRACKETS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
BYTES = {
    "model_type": "bpe",
    "byte_fallback": True,
    "split_digits": True,
    "add_dummy_prefix": False,
    "remove_extra_whitespaces": False,
    "normalization_rule_name": "identity",
}


def _sentencepiece(name: str, **options: Any) -> Any:
    return lambda folder: train_sentencepiece(folder / name, **options)


def _wordpiece(*specials: str) -> Any:
    def write(folder: Path) -> None:
        train_wordpiece(folder, lowercase=True)
        lines = (folder / "vocab.txt").read_text("utf-8")
        (folder / "vocab.txt").write_text(lines + "".join(f"{token}\n" for token in specials), "utf-8")

    return write


def _prophetnet(folder: Path) -> None:
    train_wordpiece(folder, lowercase=True)
    (folder / "vocab.txt").rename(folder / "prophetnet.tokenizer")


def _json_only(*specials: str) -> Any:
    def write(folder: Path) -> None:
        train_byte_bpe(folder, list(specials))
        slow = transformers.GPT2TokenizerFast.from_pretrained(str(folder))
        slow.backend_tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "vocab.json").unlink()
        (folder / "merges.txt").unlink()

    return write


def _words(*, marked: bool, unk: str, specials: tuple[str, ...] = ()) -> Any:
    """BPE of words, its pieces written as `ab@@ c` or as `ab c</w>`."""

    def write(folder: Path) -> None:
        rust = Tokenizer(models.BPE(unk_token=unk, end_of_word_suffix="</w>"))
        if marked:
            rust.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        else:
            rust.normalizer = normalizers.BertNormalizer(lowercase=True)
            rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.BpeTrainer(vocab_size=900, end_of_word_suffix="</w>", show_progress=False)
        rust.train_from_iterator([text.lower() for text in training_texts()], trainer)
        merges = json.loads(rust.to_str())["model"]["merges"]
        pieces = sorted(rust.get_vocab(), key=lambda piece: rust.get_vocab()[piece])
        if marked:
            pieces = [piece.removesuffix("</w>") if piece.endswith("</w>") else f"{piece}@@" for piece in pieces]
        vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys([*specials, unk, *pieces]))}
        (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
        lines = "\n".join(" ".join(pair) for pair in merges)
        (folder / "merges.txt").write_text(f"#version: 0.2\n{lines}\n", "utf-8")

    return write


LLAMA_IDS = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1, **BYTES, "add_dummy_prefix": True}
GEMMA_IDS = {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "eos_piece": "<eos>", "bos_piece": "<bos>", **BYTES}
GEMMA_IDS |= {"user_defined_symbols": ["<start_of_turn>", "<end_of_turn>", "\n", "\t"]}
BIG_BIRD_IDS = {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "control_symbols": ["[MASK]", "[CLS]", "[SEP]"]}
DEBERTA_IDS = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
DEBERTA_IDS |= {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"}
FILES = {
    "wordpiece": _wordpiece(),
    "mpnet": _wordpiece("<s>", "</s>", "<pad>", "<mask>"),
    "splinter": _wordpiece("[QUESTION]"),
    "prophetnet": _prophetnet,
    "roberta": lambda folder: train_byte_bpe(folder, ROBERTA_SPECIALS),
    "gpt2": lambda folder: train_byte_bpe(folder, ["<|endoftext|>"]),
    "deberta": lambda folder: train_byte_bpe(folder, BRACKETS),
    "t5": _sentencepiece("spiece.model", **T5_IDS),
    "albert": _sentencepiece("spiece.model", **ALBERT_IDS),
    "xlnet": _sentencepiece("spiece.model", **XLNET_IDS),
    "pegasus": _sentencepiece("spiece.model", **PEGASUS_IDS),
    "fairseq": _sentencepiece("sentencepiece.bpe.model", **FAIRSEQ_IDS),
    "xlm-prophetnet": _sentencepiece("prophetnet.tokenizer", **FAIRSEQ_IDS),
    "bert-generation": _sentencepiece("spiece.model", **FAIRSEQ_IDS, control_symbols=["<::::>"]),
    "big_bird": _sentencepiece("spiece.model", **BIG_BIRD_IDS),
    "rembert": _sentencepiece("sentencepiece.model", **DEBERTA_IDS, control_symbols=["[MASK]"]),
    "deberta-v2": _sentencepiece("spm.model", **DEBERTA_IDS),
    "llama": _sentencepiece("tokenizer.model", **LLAMA_IDS),
    "gemma": _sentencepiece("tokenizer.model", **GEMMA_IDS),
    "ctrl": _words(marked=True, unk="<unk>"),
    "blenderbot-small": _words(marked=True, unk="__unk__", specials=("__null__", "__start__", "__end__")),
    "openai-gpt": _words(marked=False, unk="<unk>"),
    "gpt_neox": _json_only("<|endoftext|>", "<|padding|>"),
    "bloom": _json_only("<unk>", "<s>", "</s>", "<pad>"),
    "falcon": _json_only("<|endoftext|>", ">>TITLE<<"),
    "cohere": _json_only("<BOS_TOKEN>", "<EOS_TOKEN>", "<UNK>", "<PAD>", "<|END_OF_TURN_TOKEN|>"),
    "marian": lambda folder: write_marian(folder, separate=False),
}

_LIKE = {
    ("wordpiece", "Bert"): "bert ernie git megatron-bert nezha visual_bert",
    ("wordpiece", "DistilBert"): "distilbert",
    ("wordpiece", "Electra"): "electra",
    ("wordpiece", "LayoutLM"): "layoutlm",
    ("wordpiece", "MobileBert"): "mobilebert",
    ("wordpiece", "SqueezeBert"): "squeezebert",
    ("mpnet", "MPNet"): "mpnet",
    ("splinter", "Splinter"): "splinter",
    ("prophetnet", "ProphetNet"): "prophetnet",
    ("roberta", "Roberta"): "data2vec-text ibert mega mra roberta roberta-prelayernorm",
    ("roberta", "Bart"): "bart",
    ("roberta", "Blenderbot"): "blenderbot",
    ("roberta", "LED"): "led",
    ("roberta", "Longformer"): "longformer",
    ("roberta", "Mvp"): "mvp",
    ("gpt2", "GPT2"): "gpt2 gpt_bigcode gptj opt starcoder2",
    ("gpt2", "CodeGen"): "codegen phi",
    ("gpt2", "Qwen2"): "qwen2",
    ("deberta", "Deberta"): "deberta",
    ("t5", "T5"): "longt5 switch_transformers t5",
    ("t5", "MT5"): "mt5",
    ("t5", "Reformer"): "reformer",
    ("albert", "Albert"): "albert nystromformer yoso",
    ("albert", "FNet"): "fnet",
    ("xlnet", "XLNet"): "xlnet",
    ("pegasus", "Pegasus"): "bigbird_pegasus pegasus pegasus_x",
    ("marian", "Marian"): "marian",
    ("fairseq", "XLMRoberta"): "xlm-roberta xlm-roberta-xl",
    ("fairseq", "Camembert"): "camembert",
    ("fairseq", "XGLM"): "xglm",
    ("xlm-prophetnet", "XLMProphetNet"): "xlm-prophetnet",
    ("bert-generation", "BertGeneration"): "bert-generation",
    ("big_bird", "BigBird"): "big_bird",
    ("rembert", "RemBert"): "rembert",
    ("deberta-v2", "DebertaV2"): "deberta-v2",
    ("llama", "Llama"): "llama mixtral persimmon",
    ("gemma", "Gemma"): "gemma t5gemma",
    ("ctrl", "CTRL"): "ctrl",
    ("blenderbot-small", "BlenderbotSmall"): "blenderbot-small",
    ("openai-gpt", "OpenAIGPT"): "openai-gpt",
    ("gpt_neox", "GPTNeoX"): "gpt_neox mamba mpt rwkv stablelm",
    ("bloom", "Bloom"): "bloom",
    ("falcon", "PreTrained"): "falcon",
    ("cohere", "Cohere"): "cohere",
}
RECIPES = {name: recipe for recipe, names in _LIKE.items() for name in names.split()}


@cache
def _written(files: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as temporary:
        FILES[files](Path(temporary))
        return {path.name: path.read_bytes() for path in Path(temporary).iterdir()}


def make(model_type: str, folder: Path) -> None:
    """The vocabulary files of an architecture and a config.json with nothing but its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _written(RECIPES[model_type][0]).items():
        if name != "tokenizer_config.json":
            (folder / name).write_bytes(content)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))


def reference(model_type: str, folder: Path, *, fast: bool = False, **options: Any) -> Any:
    """The reference's documented class on that folder, the slow one where there is one."""
    name = f"{RECIPES[model_type][1]}Tokenizer"
    slow = getattr(transformers, name, None)
    kind = (
        slow
        if slow is not None and not fast and name != "PreTrainedTokenizer"
        else getattr(transformers, f"{name}Fast")
    )
    return kind.from_pretrained(str(folder), **options)
