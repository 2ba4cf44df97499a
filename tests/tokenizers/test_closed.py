"""Formats that only close a text: Pegasus and Marian; ids equal to the reference's."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from eir_seq.errors import UserError
from eir_seq.tokenizers import Tokenizer, load_tokenizer
from eir_seq.tokenizers.closed import MarianTokenizer
from tests.tokenizers.corpus import CONTROL, OWN, pairs

pytest.importorskip("transformers", reason="the reference implementation is not installed")

import transformers

from tests.tokenizers.published_folders import FAST_FILES, train_sentencepiece
from tests.tokenizers.test_documented_methods import A, B, assert_saved_vocabulary
from tests.tokenizers.translation_folders import pieces_of

SPECIALS_IN_TEXT = [
    "a <mask_2> b </s>c<mask_1>",
    "x</s>",
    "<unk> <unk_7>, <pad>",
    ">>deu<< hello",
    " >>deu<< hello",
    ">>xxx<<hello",
    ">> no code << and >>fra<<",
    "</s> >>fra<< x",
    ">>fra<<",
]
PEGASUS_IDS = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "normalization_rule_name": "nmt_nfkc"}


class Case(NamedTuple):
    kind: str
    raw: Path
    slow: Path
    fast: Path | None
    reference: Any
    fast_reference: Any


@pytest.fixture(scope="module", params=["pegasus", "pegasus-offset", "marian", "marian-separate"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    kind, folder = request.param, tmp_path_factory.mktemp(request.param)
    raw = folder / "raw"
    raw.mkdir()
    if kind.startswith("marian"):
        write_marian(raw, separate=kind == "marian-separate")
        slow = transformers.MarianTokenizer.from_pretrained(str(raw))
        slow.save_pretrained(folder / "slow")
        return Case(kind, raw, folder / "slow", None, slow, None)
    train_sentencepiece(raw / "spiece.model", **PEGASUS_IDS)
    config: dict[str, Any] = {"tokenizer_class": "PegasusTokenizer"}
    if kind == "pegasus-offset":  # as of the published bigbird_pegasus
        config |= {"offset": 0, "mask_token_sent": None, "mask_token": "[MASK]"}
    (raw / "tokenizer_config.json").write_text(json.dumps(config))
    slow = transformers.PegasusTokenizer.from_pretrained(str(raw))
    slow.save_pretrained(folder / "slow")
    if kind == "pegasus-offset":
        return Case(kind, raw, folder / "slow", None, slow, None)
    fast = transformers.PegasusTokenizerFast.from_pretrained(str(raw))
    fast.save_pretrained(folder / "both")
    (folder / "fast").mkdir()
    for file in FAST_FILES:
        shutil.copy(folder / "both" / file, folder / "fast" / file)
    return Case(kind, raw, folder / "slow", folder / "fast", slow, fast)


def write_marian(folder: Path, *, separate: bool) -> None:
    """The second model has fewer pieces, so that both sides differ on the same text."""
    for side, size in (("source", 1000), ("target", 400)):
        train_sentencepiece(folder / f"{side}.spm", vocab_size=size)
    pieces = {side: pieces_of(folder / f"{side}.spm")[3:] for side in ("source", "target")}
    if separate:
        lists = {"vocab.json": pieces["source"], "target_vocab.json": pieces["target"]}
    else:
        lists = {"vocab.json": [*dict.fromkeys(pieces["source"] + pieces["target"]), ">>deu<<", ">>fra<<"]}
    for name, listed in lists.items():
        vocabulary = {piece: number for number, piece in enumerate(["</s>", "<unk>", "<pad>", *listed])}
        (folder / name).write_text(json.dumps(vocabulary), encoding="utf-8")
    config = {
        "tokenizer_class": "MarianTokenizer",
        "source_lang": "en",
        "target_lang": "de",
        "separate_vocabs": separate,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def texts(limit: int | None = None) -> tuple[list[str], list[str]]:
    own = [*OWN, *CONTROL, *SPECIALS_IN_TEXT]
    return [*own, *(en for en, _ in pairs()[:limit])], [*own, *(de for _, de in pairs()[:limit])]


def assert_equal(ours: Tokenizer, reference: Any, *, limit: int | None = None) -> None:
    sources, targets = texts(limit)
    found, expected = ours(sources, text_target=targets), reference(sources, text_target=targets)
    for source, a, b in zip(sources, found["input_ids"], expected["input_ids"], strict=True):
        assert a == b, source
    for target, a, b in zip(targets, found["labels"], expected["labels"], strict=True):
        assert a == b, target
    for encoding, ids in zip(ours.encode_targets(targets), expected["labels"], strict=True):
        assert ours.add_target_specials(encoding.ids) == (ids, [0] * len(ids))
    for target, ids in zip(targets, expected["labels"], strict=True):
        text = reference.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert ours.decode(ids, skip_special_tokens=True) == text, target


def test_from_the_slow_files(case: Case) -> None:
    ours = load_tokenizer(case.raw)
    assert_equal(ours, case.reference)
    assert_equal(load_tokenizer(case.slow), case.reference, limit=60)
    assert ours.vocab_size == len(case.reference)


def test_from_the_fast_file_alone(case: Case) -> None:
    if case.fast is None:
        pytest.skip("there is no fast class")
    ours = load_tokenizer(case.fast)
    assert_equal(ours, case.fast_reference)
    assert ours.vocab_size == len(case.fast_reference)


def test_methods(case: Case, tmp_path: Path) -> None:
    for folder in filter(None, (case.raw, case.fast)):
        ours, reference = load_tokenizer(folder), case.reference
        unk, eos = ours.unk_id, ours.eos_id
        for arguments in ((A,), (A, B), ([],), (A, []), ([5, unk, eos],)):
            built = ours.build_inputs_with_special_tokens(*arguments)
            assert built == reference.build_inputs_with_special_tokens(*arguments)
            assert ours.get_special_tokens_mask(*arguments) == reference.get_special_tokens_mask(*arguments)
            assert ours.create_token_type_ids_from_sequences(*arguments) == [0] * len(built)
        ids = [5, unk, eos, ours.pad_id, 9]
        expected = reference.get_special_tokens_mask(ids, already_has_special_tokens=True)
        assert ours.get_special_tokens_mask(ids, already_has_special_tokens=True) == expected
        for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"):
            assert getattr(ours, f"{role}_id") == getattr(reference, f"{role}_token_id"), role
    assert_saved_vocabulary(load_tokenizer(case.raw), tmp_path / "a", case.raw)


@pytest.mark.parametrize("files", ["slow", "fast"])
def test_saved_is_loaded_and_the_reference_loads_it_too(case: Case, files: str, tmp_path: Path) -> None:
    folder = getattr(case, files)
    if folder is None:
        pytest.skip("there is no fast class")
    ours = load_tokenizer(folder)
    ours.save(tmp_path)
    again, copy = load_tokenizer(tmp_path), pickle.loads(pickle.dumps(ours))
    sources, targets = texts(60)
    for other in (again, copy):
        assert other.fingerprint() == ours.fingerprint()
        assert other(sources, text_target=targets) == ours(sources, text_target=targets)
    name = {"p": "PegasusTokenizer", "m": "MarianTokenizer"}[case.kind[0]] + ("Fast" if files == "fast" else "")
    assert_equal(again, getattr(transformers, name).from_pretrained(str(tmp_path)), limit=60)


def test_marian_has_two_sides(case: Case) -> None:
    if not case.kind.startswith("marian"):
        pytest.skip("of Marian")
    ours = load_tokenizer(case.raw, sp_model_kwargs={"enable_sampling": True})
    assert isinstance(ours, MarianTokenizer)
    text = ["Zwei Männer gehen auf eine große Straße."] * 3
    first = ours(text, text_target=text)
    assert first["input_ids"] != first["labels"]
    assert len(set(map(tuple, first["labels"]))) > 1
    ours.seed_sampling(0)
    assert ours(text, text_target=text) == first
    plain = load_tokenizer(case.raw)
    source = plain(text[0])["input_ids"]
    expected = case.reference.decode(source, skip_special_tokens=True, use_source_tokenizer=True)
    if case.kind == "marian":
        assert plain.decode(source, skip_special_tokens=True, use_source_tokenizer=True) == expected == text[0]
        assert plain.supported_language_codes == (">>deu<<", ">>fra<<")
        assert plain.target_vocab_size == plain.vocab_size
    else:
        assert plain.decode(source, skip_special_tokens=True, use_source_tokenizer=True) == text[0]
        assert plain.supported_language_codes == ()
        assert plain.target_vocab_size == len(json.loads((case.raw / "target_vocab.json").read_text()))


def test_files_that_are_missing_or_of_another(case: Case, tmp_path: Path) -> None:
    if case.kind != "marian":
        pytest.skip("of Marian")
    for name, message in (("target.spm", "target.spm: No such file"), ("vocab.json", "vocab.json: No such file")):
        folder = shutil.copytree(case.raw, tmp_path / name)
        (folder / name).unlink()
        with pytest.raises(UserError) as raised:
            load_tokenizer(folder)
        assert message in str(raised.value)
        assert len(str(raised.value).splitlines()) == 1
    with pytest.raises(UserError, match="'pegasus' does not use this file"):
        load_tokenizer(case.raw, tokenizer_class="PegasusTokenizer")
    (tmp_path / "other").mkdir()
    shutil.copy(case.raw / "source.spm", tmp_path / "other" / "spiece.model")
    with pytest.raises(UserError, match="Marian alone uses"):
        load_tokenizer(tmp_path / "other", tokenizer_class="MarianTokenizer")
    bare = shutil.copytree(case.raw, tmp_path / "bare")
    (bare / "tokenizer_config.json").unlink()
    assert load_tokenizer(bare)("A film.") == load_tokenizer(case.raw)("A film.")  # the files tell
