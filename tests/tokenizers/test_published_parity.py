"""Published formats: ids, type ids and special tokens equal to the reference's tokenizers."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from eir_seq.tokenizers import Tokenizer, load_tokenizer
from tests.tokenizers.corpus import CONTROL, GENERATED, OWN, lines, more_lines

pytest.importorskip("transformers", reason="the reference implementation is not installed")

from tests.tokenizers.published_folders import KINDS, make

SPECIALS_IN_TEXT = [
    "a [MASK] b [SEP]c[CLS]",
    "x <mask> y </s> <s>",
    "Hello <extra_id_0>. <extra_id_1> <extra_id_2>now",
    " <extra_id_3> x",
    "<|endoftext|> hi",
    "<sep>q<cls> <unk>",
]
# In these texts the reference's slow class differs from its fast class, which is the one that is used by default.
# BertTokenizer composes accents (NFC) where they are kept; RobertaTokenizer sets no space before control characters.
SLOW_DIFFERS = {
    "bert-cased": [text for text in OWN if "e\u0301" in text],
    "roberta-prefix-space": [text for text in CONTROL if text.startswith("\x85")],
}
SLOW_WITH_OTHER_FRAMING = {"gpt2-bos"}  # gives fewer type ids than ids; sets a second bos between a pair


class Case(NamedTuple):
    kind: str
    slow: Any
    fast: Any
    folder: Path


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    return Case(request.param, *make(request.param, folder), folder)


WITH_ALL_LINES = ("bert", "roberta", "gpt2", "t5", "albert")  # one kind of each class; fewer lines for the variants


def texts(kind: str = "bert") -> list[str]:
    every = [*OWN, *CONTROL, *SPECIALS_IN_TEXT, *GENERATED, *lines()]
    return every if kind in WITH_ALL_LINES else every[:150] + every[-50:]


def assert_equal(ours: Tokenizer, reference: Any, chosen: list[str], *, framing: bool = True) -> None:
    encoded = ours.encode_batch(chosen)
    if not framing:
        assert [encoding.ids for encoding in encoded] == reference(chosen, add_special_tokens=False)["input_ids"]
        return
    expected = reference(chosen, return_token_type_ids=True)
    rows = zip(chosen, encoded, expected["input_ids"], expected["token_type_ids"], strict=True)
    for text, encoding, ids, type_ids in rows:
        assert ours.add_specials(encoding.ids) == (ids, type_ids), text
    firsts = range(0, len(chosen) - 1, 3)
    pairs = [(chosen[first], chosen[first + 1]) for first in firsts]
    expected = reference(pairs, return_token_type_ids=True)
    for first, ids, type_ids in zip(firsts, expected["input_ids"], expected["token_type_ids"], strict=True):
        framed = ours.add_specials(encoded[first].ids, encoded[first + 1].ids)
        assert framed == (ids, type_ids), chosen[first : first + 2]


def test_from_the_slow_files(case: Case) -> None:
    ours = load_tokenizer(case.folder / "slow")
    sentencepiece = (case.folder / "slow" / "spiece.model").exists()
    if not sentencepiece:
        assert_equal(ours, case.fast, texts(case.kind))
    skipped = SLOW_DIFFERS.get(case.kind, [])
    assert len(skipped) <= 1
    chosen = [text for text in texts(case.kind) if text not in skipped]
    assert_equal(ours, case.slow, chosen, framing=case.kind not in SLOW_WITH_OTHER_FRAMING)
    assert ours.vocab_size == len(case.slow)


def test_from_the_vocabulary_alone(case: Case) -> None:
    """No JSON file but config.json beside the vocabulary."""
    name, options = case.kind.split("-")[0], KINDS[case.kind][1]
    if options:
        pytest.skip("its options stand in tokenizer_config.json")
    bare = case.folder / "bare"
    shutil.copytree(case.folder / "raw", bare, dirs_exist_ok=True)
    guessed = load_tokenizer(bare)
    (bare / "config.json").write_text(json.dumps({"model_type": name}))
    told = load_tokenizer(bare)
    full = load_tokenizer(case.folder / "slow")
    assert guessed.fingerprint() == told.fingerprint()
    assert (told.specials, told.framing) == (full.specials, full.framing)
    assert told.encode_batch(texts(case.kind)) == full.encode_batch(texts(case.kind))


def test_from_the_fast_file_alone(case: Case) -> None:
    ours = load_tokenizer(case.folder / "fast")
    assert_equal(ours, case.fast, texts(case.kind))
    assert ours.vocab_size == len(case.fast)


def test_enough_lines_are_compared() -> None:
    assert len(texts()) >= 1200


@pytest.mark.slow
def test_on_more_texts(case: Case) -> None:
    chosen = more_lines()
    for files, reference in (("slow", case.slow), ("fast", case.fast)):
        assert_equal(
            load_tokenizer(case.folder / files), reference, chosen, framing=case.kind not in SLOW_WITH_OTHER_FRAMING
        )


@pytest.mark.parametrize("files", ["slow", "fast"])
def test_roles_decoding_and_offsets(case: Case, files: str) -> None:
    ours, reference = load_tokenizer(case.folder / files), getattr(case, files)
    for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"):
        assert getattr(ours, f"{role}_id") == getattr(reference, f"{role}_token_id"), role
    chosen = texts()[:150]
    for text, encoding in zip(chosen, ours.encode_batch(chosen, offsets=True), strict=True):
        assert encoding.offsets is not None
        assert len(encoding.offsets) == len(encoding.ids)
        assert all(0 <= first <= last <= len(text) for first, last in encoding.offsets)
        ids, _ = ours.add_specials(encoding.ids)
        expected = reference.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert ours.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == expected
        assert ours.tokens(ids) == reference.convert_ids_to_tokens(ids)
        if not (case.folder / files / "spiece.model").exists():
            spans = case.fast(text, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
            assert encoding.offsets == spans


def test_offsets_of_sentencepiece_stand_for_the_words(case: Case) -> None:
    if not (case.folder / "slow" / "spiece.model").exists():
        pytest.skip("no sentencepiece model")
    ours = load_tokenizer(case.folder / "slow")
    text = "  The film,\tdidn't ``like'' 2,500 <extra_id_0>  caf\u00e9 MUSIC\u0301 "
    plain, located = ours.encode_batch([text])[0], ours.encode_batch([text], offsets=True)[0]
    assert plain.ids == located.ids
    assert located.offsets is not None
    for word in ("film", "2,500", "MUSIC"):
        start = text.index(word)
        inside = [span for span in located.offsets if span[1] > start and span[0] < start + len(word)]
        assert "".join(text[first:last] for first, last in inside).strip().startswith(word)


@pytest.mark.parametrize("files", ["slow", "fast"])
def test_saved_is_loaded_and_the_reference_loads_it_too(case: Case, files: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ours = load_tokenizer(case.folder / files)
    ours.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert again.fingerprint() == ours.fingerprint()
    assert (again.specials, again.framing, again.vocab_size) == (ours.specials, ours.framing, ours.vocab_size)
    chosen = texts()[:150]
    assert again.encode_batch(chosen, offsets=True) == ours.encode_batch(chosen, offsets=True)
    copy = pickle.loads(pickle.dumps(ours))
    assert copy.fingerprint() == ours.fingerprint()
    assert copy.encode_batch(chosen) == ours.encode_batch(chosen)
    fast = not (tmp_path / "spiece.model").exists()
    reference = transformers.AutoTokenizer.from_pretrained(str(tmp_path), use_fast=fast)
    assert_equal(again, reference, chosen)
