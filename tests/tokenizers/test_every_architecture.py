"""Each architecture's documented tokenizer, from its vocabulary files and the name of the architecture alone."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from eir_seq.errors import UserError
from eir_seq.models import list_models
from eir_seq.tokenizers import Tokenizer, load_tokenizer
from eir_seq.tokenizers.targets import target_end, target_frame
from tests.tokenizers.corpus import CONTROL, OWN, lines

pytest.importorskip("transformers", reason="the reference implementation is not installed")

from tests.tokenizers.architecture_folders import RECIPES, make, reference

SPECIALS_IN_TEXT = [
    "a [MASK] b [SEP]c[CLS]",
    "x <mask> y </s> <s>",
    "[X_SEP] . [unused1]",
    "<bos> a <eos><pad>",
    "__start__ Hi! It's\nnow, isn't it? __end__ don't'\nx 'quoted'!\n\n(so)",
    "<unk> <|endoftext|> <start_of_turn>user\nHi<end_of_turn>\n",
    "<madeupword1> <s>NOTUSED",
]
NOT_SERVED = {"roformer": "vocab.txt", "xlm": "merges.txt", "flaubert": "merges.txt", "biogpt": "merges.txt"}
NOT_SERVED |= {"gpt_neox_japanese": "vocab.txt"}
WITHOUT_TEXT = {"imagegpt", "sequence-default"}
ELSEWHERE = {  # with whole lines of two languages, or with inputs of their own beside the tokens
    "m2m_100": "test_languages",
    "mbart": "test_languages",
    "nllb-moe": "test_languages",
    "plbart": "test_languages",
    "luke": "roberta",
    "markuplm": "roberta",
    "roc_bert": "bert",
}
FIRST_OF_A_KIND = list({recipe: name for name, recipe in reversed(RECIPES.items())}.values())
# Those with a way of their own to cut a text; fewer lines for the others.
WITH_ALL_LINES = {"prophetnet", "xlm-prophetnet", "xlm-roberta", "blenderbot", "blenderbot-small", "ctrl", "openai-gpt"}
WITH_ALL_LINES |= {"qwen2", "llama", "gemma"}
# One text is lower-cased differently: only whole words have a final sigma.
DIFFERS = {"prophetnet": [text for text in OWN if "\u039f\u0394\u039f\u03a3" in text]}
# The classes do without types of pairs, as their models do; the reference's function still counts them, or forgets
# special tokens. Of Blenderbot's pairs one of its classes leaves out the second text and one the end.
OTHER_TYPES = {"bert-generation", "bigbird_pegasus", "blenderbot", "cohere", "gemma", "gpt_neox", "llama", "marian"}
OTHER_TYPES |= {"prophetnet", "reformer", "xlm-prophetnet", "qwen2"}


def test_every_architecture_has_its_line() -> None:
    assert set(list_models()) <= {*RECIPES, *NOT_SERVED, *WITHOUT_TEXT, *ELSEWHERE}


def texts(limit: int | None = None) -> list[str]:
    return [*OWN, *CONTROL, *SPECIALS_IN_TEXT, *lines()[:limit]]


def assert_equal(ours: Tokenizer, theirs: Any, chosen: list[str]) -> None:
    expected = theirs(chosen)["input_ids"]
    for text, found, ids in zip(chosen, ours(chosen)["input_ids"], expected, strict=True):
        assert found == ids, text
    if type(theirs).__name__ != "PreTrainedTokenizerFast":  # published files say what a class of no format gives
        assert set(ours("a b")) == set(theirs("a b")) == set(ours.model_input_names)


@pytest.mark.parametrize("model_type", FIRST_OF_A_KIND)
def test_a_text_that_is_written_ends_once(model_type: str, tmp_path: Path) -> None:
    """Whether or not a format closes a text by itself, a target has its end token exactly once."""
    make(model_type, tmp_path)
    ours = load_tokenizer(tmp_path)
    if ours.eos_id is None and ours.sep_id is None:
        with pytest.raises(UserError, match="has no token that ends a text"):
            target_frame(ours, "inputs.source.tokenizer")
        return
    before, behind = target_frame(ours, "inputs.source.tokenizer")
    assert behind.count(target_end(ours, "inputs.source.tokenizer")) == 1
    assert len(set(behind)) == len(behind)
    own = ours.add_target_specials([])[0]
    assert [*before, *behind][: len(own)] == own


@pytest.mark.parametrize("model_type", FIRST_OF_A_KIND)
def test_ids(model_type: str, tmp_path: Path) -> None:
    make(model_type, tmp_path)
    ours, theirs = load_tokenizer(tmp_path), reference(model_type, tmp_path)
    limit = None if model_type in WITH_ALL_LINES else 120
    chosen = [text for text in texts(limit) if text not in DIFFERS.get(model_type, [])]
    assert_equal(ours, theirs, chosen)
    assert ours.vocab_size == len(theirs)
    for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"):
        if (number := getattr(theirs, f"{role}_token_id")) is not None:
            assert getattr(ours, f"{role}_id") == number, role
    if model_type != "blenderbot":
        expected = theirs(chosen[:30], chosen[30:60], return_token_type_ids=True)
        rows = zip(ours.encode_batch(chosen[:30]), ours.encode_batch(chosen[30:60]), strict=True)
        framed = [ours.add_specials(first.ids, second.ids) for first, second in rows]
        assert [ids for ids, _ in framed] == expected["input_ids"]
        if model_type not in OTHER_TYPES:
            assert [types for _, types in framed] == expected["token_type_ids"]
    for text, encoding in zip(chosen, ours.encode_batch(chosen[:120], offsets=True), strict=False):
        assert encoding.offsets is not None
        assert len(encoding.offsets) == len(encoding.ids)
        assert all(0 <= first <= last <= len(text) for first, last in encoding.offsets)


@pytest.mark.parametrize("model_type", sorted(set(RECIPES) - set(FIRST_OF_A_KIND)))
def test_by_the_name_alone(model_type: str, tmp_path: Path) -> None:
    """Architectures that share a tokenizer: it is known by each name."""
    make(model_type, tmp_path)
    assert_equal(load_tokenizer(tmp_path), reference(model_type, tmp_path), texts(10))


@pytest.mark.parametrize("model_type", FIRST_OF_A_KIND)
def test_saved_copied_and_read_by_the_reference(model_type: str, tmp_path: Path) -> None:
    import transformers

    make(model_type, tmp_path / "a")
    ours = load_tokenizer(tmp_path / "a")
    ours.save(tmp_path / "b")
    chosen = [text for text in texts(10) if text not in DIFFERS.get(model_type, [])]
    for copy in (load_tokenizer(tmp_path / "b"), pickle.loads(pickle.dumps(ours))):
        assert copy.fingerprint() == ours.fingerprint()
        assert copy(chosen, chosen[::-1]) == ours(chosen, chosen[::-1])
    fast = (tmp_path / "b" / "tokenizer.json").exists()
    assert_equal(ours, transformers.AutoTokenizer.from_pretrained(str(tmp_path / "b"), use_fast=fast), chosen)


@pytest.mark.parametrize("model_type", ["ctrl", "blenderbot-small", "llama", "gemma", "xlm-prophetnet", "deberta"])
def test_texts_come_back(model_type: str, tmp_path: Path) -> None:
    make(model_type, tmp_path)
    ours, theirs = load_tokenizer(tmp_path), reference(model_type, tmp_path)
    for text in texts(200)[len(OWN) :]:
        if model_type == "llama" and "<unk>" in text:  # the reference's class takes off a space too many
            continue
        ids = theirs(text)["input_ids"]
        expected = theirs.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert ours.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == expected, text


@pytest.mark.parametrize("model_type", ["ctrl", "blenderbot-small"])
def test_offsets_of_words(model_type: str, tmp_path: Path) -> None:
    make(model_type, tmp_path)
    ours = load_tokenizer(tmp_path)
    for text in [*texts(50), "one\nTwo!\nthree'\n"]:
        text = text.replace("\u0130", "")  # one character of which lower case makes two
        (encoding,) = ours.encode_batch([text], offsets=True)
        assert encoding.offsets is not None
        for token, (first, last) in zip(ours.tokens(encoding.ids), encoding.offsets, strict=True):
            if token != ours.specials.unk and text[first:last] != "\n":
                part = token if token == text[first:last] else token.removesuffix("@@")
                assert part.casefold() == text[first:last].casefold(), text


@pytest.mark.parametrize(("model_type", "like"), [("luke", "roberta"), ("markuplm", "roberta"), ("roc_bert", "bert")])
def test_texts_of_those_with_inputs_beside_tokens(model_type: str, like: str, tmp_path: Path) -> None:
    make(like, tmp_path)
    theirs = reference(like, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    ours = load_tokenizer(tmp_path)
    assert_equal(ours, theirs, texts(30))
    if model_type == "markuplm":
        import transformers

        files = [str(tmp_path / name) for name in ("vocab.json", "merges.txt")]
        theirs = transformers.MarkupLMTokenizer(*files, tags_dict={"a": 0})
    for arguments in (([5, 6],), ([5, 6], [7])):
        built = ours.build_inputs_with_special_tokens(*arguments)
        assert built == theirs.build_inputs_with_special_tokens(*arguments)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("fast", [True, False])
def test_llama_between_special_tokens(legacy: bool, fast: bool, tmp_path: Path) -> None:
    make("llama", tmp_path)
    flags = {"legacy": legacy, "add_bos_token": False, "add_eos_token": True}
    ours, theirs = load_tokenizer(tmp_path, **flags), reference("llama", tmp_path, **flags)
    assert_equal(ours, theirs, [*texts(20), "Hello <s>. </s>x", "<s> x"])
    if fast:
        reference("llama", tmp_path, fast=True, **flags).save_pretrained(tmp_path)
        flags.pop("legacy")
        for options in (flags, {"add_bos_token": True, "add_eos_token": False}):
            ours = load_tokenizer(tmp_path, **options)
            assert_equal(ours, reference("llama", tmp_path, fast=True, **options), texts(20))


def test_a_plain_json_keeps_its_own_framing(tmp_path: Path) -> None:
    """Where the files say that no class of an architecture is meant, tokenizer.json has the last word."""
    make("llama", tmp_path)
    reference("llama", tmp_path, fast=True, add_bos_token=False, add_eos_token=True).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    assert load_tokenizer(tmp_path)("x")["input_ids"][-1] == 2
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "add_eos_token": False}))
    assert load_tokenizer(tmp_path)("x")["input_ids"][-1] != 2


@pytest.mark.parametrize("model_type", NOT_SERVED)
def test_what_is_not_served_says_why(model_type: str, tmp_path: Path) -> None:
    make("bert" if NOT_SERVED[model_type] == "vocab.txt" else "openai-gpt", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(UserError) as raised:
        load_tokenizer(tmp_path)
    message = str(raised.value)
    assert "(its w" in message
    assert message.endswith("give the tokenizer.json of this tokenizer")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("model_type", "file", "content", "message"),
    [
        (
            "splinter",
            "vocab.txt",
            b"[UNK]\n[CLS]\n[SEP]\n.\n",
            "vocab.txt: this format needs its [QUESTION]",
        ),
        ("ctrl", "vocab.json", b'{"a": 0}', "vocab.json: its unk token '<unk>' is not in it"),
        ("ctrl", "merges.txt", b"a b c\n", "merges.txt: line 1: two tokens are expected"),
        ("openai-gpt", "merges.txt", b"zz qq\n", "merges.txt: does not fit vocab.json"),
        ("xlm-roberta", "sentencepiece.bpe.model", b"no", "not a sentencepiece model, or a broken one"),
        ("deberta-v2", "tokenizer_config.json", b'{"split_by_punct": true}', "split_by_punct: true is not supported"),
        ("gemma", "tokenizer_config.json", b'{"bos_token": null}', "this format needs its bos_token"),
    ],
)
def test_broken_files(model_type: str, file: str, content: bytes, message: str, tmp_path: Path) -> None:
    make(model_type, tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError) as raised:
        load_tokenizer(tmp_path)
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
