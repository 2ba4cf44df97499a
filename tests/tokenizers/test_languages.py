"""Formats with a token for the language: M2M100, mBART, mBART-50, NLLB; ids equal to the reference's."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest

from eir_seq.errors import UserError
from eir_seq.tokenizers import Tokenizer, load_tokenizer
from eir_seq.tokenizers.languages import TranslationTokenizer
from eir_seq.tokenizers.targets import target_frame
from tests.tokenizers.corpus import CONTROL, OWN, pairs

pytest.importorskip("transformers", reason="the reference implementation is not installed")

import transformers

from tests.tokenizers.test_documented_methods import A, B, assert_saved_vocabulary
from tests.tokenizers.translation_folders import KINDS, Folder, make

SPECIALS_IN_TEXT = [
    "a <mask> b </s>c<s>",
    "x</s>",
    "<unk> __de__ and de_DE or deu_Latn, __fr__.",
    "en_XX",
    " <pad><pad> </s> eng_Latn",
    ">>fr<< x",
]


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Folder]:
    shared = tmp_path_factory.getbasetemp() / "shared"
    shared.mkdir(exist_ok=True)
    return request.param, make(request.param, tmp_path_factory.mktemp(request.param), shared)


def load(folder: Path, **options: object) -> TranslationTokenizer:
    tokenizer = load_tokenizer(folder, **options)
    assert isinstance(tokenizer, TranslationTokenizer)
    return tokenizer


def texts(limit: int | None = None) -> tuple[list[str], list[str]]:
    own = [*OWN, *CONTROL, *SPECIALS_IN_TEXT]
    return [*own, *(en for en, _ in pairs()[:limit])], [*own, *(de for _, de in pairs()[:limit])]


WITH_ALL_LINES = ("m2m100", "mbart", "nllb")  # one kind of each class; fewer lines for the variants


def assert_equal(ours: Tokenizer, reference: object, *, limit: int | None = 60) -> None:
    sources, targets = texts(limit)
    found, expected = ours(sources, text_target=targets), dict(reference(sources, text_target=targets))
    for source, a, b in zip(sources, found["input_ids"], expected["input_ids"], strict=True):
        assert a == b, source
    assert found["labels"] == expected["labels"]
    # the way of experiments: encode once, cut, frame
    for encoding, ids in zip(ours.encode_batch(sources), expected["input_ids"], strict=True):
        assert ours.add_specials(encoding.ids) == (ids, [0] * len(ids))
    for encoding, ids in zip(ours.encode_targets(targets), expected["labels"], strict=True):
        assert ours.add_target_specials(encoding.ids) == (ids, [0] * len(ids))
    for row, text in zip(expected["input_ids"], sources, strict=True):
        assert ours.decode(row, skip_special_tokens=True) == reference.decode(
            row, skip_special_tokens=True, clean_up_tokenization_spaces=False
        ), text


def test_from_the_slow_files(case: tuple[str, Folder]) -> None:
    ours = load(case[1].raw)
    assert_equal(ours, case[1].reference, limit=None if case[0] in WITH_ALL_LINES else 60)
    assert_equal(load(case[1].slow), case[1].reference)
    assert ours.vocab_size == len(case[1].reference)


def test_from_the_fast_file_alone(case: tuple[str, Folder]) -> None:
    if case[1].fast is None:
        pytest.skip("there is no fast class")
    ours = load(case[1].fast)
    assert_equal(ours, case[1].fast_reference, limit=None if case[0] in WITH_ALL_LINES else 60)
    assert ours.vocab_size == len(case[1].fast_reference)


def test_methods(case: tuple[str, Folder], tmp_path: Path) -> None:
    kind, folder = case
    ours, reference = load(folder.slow), folder.reference
    for arguments in ((A,), (A, B), ([],), (A, [])):
        built = ours.build_inputs_with_special_tokens(*arguments)
        assert built == reference.build_inputs_with_special_tokens(*arguments)
        assert ours.get_special_tokens_mask(*arguments) == reference.get_special_tokens_mask(*arguments)
        assert ours.create_token_type_ids_from_sequences(*arguments) == [0] * len(built)
    ids = [*built, *reference.all_special_ids[:9], 11]
    expected = reference.get_special_tokens_mask(ids, already_has_special_tokens=True)
    assert ours.get_special_tokens_mask(ids, already_has_special_tokens=True) == expected
    for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"):
        assert getattr(ours, f"{role}_id") == getattr(reference, f"{role}_token_id"), role
    for code in ours.languages:
        token = f"__{code}__" if kind.startswith("plbart") else code
        token_id = (
            reference.get_lang_id(code) if kind in ("m2m100", "wmt21") else reference.convert_tokens_to_ids(token)
        )
        assert ours.get_lang_id(code) == token_id
    if ours.tgt_lang is not None:
        assert ours.target_language_id == ours.get_lang_id(ours.tgt_lang)
    assert_saved_vocabulary(ours, tmp_path / "a", folder.raw, prefix="mine")


def test_the_languages_can_be_changed(case: tuple[str, Folder]) -> None:
    _, folder = case
    ours = load(folder.raw)
    text = "The film is long."
    target = ours.tgt_lang
    if target is None:
        pytest.skip("without languages")
    changed = load(folder.raw, src_lang=target, tgt_lang=ours.src_lang)
    ours.src_lang, ours.tgt_lang = changed.src_lang, changed.tgt_lang
    folder.reference.src_lang, before = target, folder.reference.src_lang
    try:
        assert ours(text)["input_ids"] == changed(text)["input_ids"] == folder.reference(text)["input_ids"]
    finally:
        folder.reference.src_lang = before
    assert changed(text, text_target=text)["labels"] == folder.reference(text)["input_ids"]
    assert ours.fingerprint() == changed.fingerprint() != load(folder.raw).fingerprint()


def test_faults(case: tuple[str, Folder], tmp_path: Path) -> None:
    kind, folder = case
    ours = load(folder.raw)
    wrong = f"{ours.languages[0]}x"
    for attempt in (
        lambda: load(folder.raw, src_lang=wrong),
        lambda: load(folder.raw, tgt_lang=wrong),
        lambda: ours.get_lang_id(wrong),
        lambda: setattr(ours, "src_lang", wrong),
    ):
        with pytest.raises(UserError) as raised:
            attempt()
        message = str(raised.value)
        assert len(message.splitlines()) == 1
        assert f"{wrong!r} is not one of {ours.languages[0]}, {ours.languages[1]}" in message
        assert message.endswith(f"did you mean {ours.languages[0]!r}?")
    for attempt in (lambda: load(folder.raw, src_lang=5), lambda: load(folder.raw, sorce_lang="x")):
        with pytest.raises(UserError, match="src_lang"):
            attempt()
    config = json.loads((folder.raw / "tokenizer_config.json").read_text())
    for name in ("src_lang", "tgt_lang"):
        config.pop(name, None)
    shutil.copytree(folder.raw, tmp_path / "bare")
    (tmp_path / "bare" / "tokenizer_config.json").write_text(json.dumps(config))
    bare = load(tmp_path / "bare")
    assert (bare.tgt_lang, bare.target_language_id) == (None, None)
    if kind.startswith("plbart"):
        assert bare.src_lang == ("en_XX" if kind == "plbart-multi" else None)
        assert bare("a", text_target="b")["labels"][-1] == bare.eos_id
        return
    assert bare.src_lang in ("en", "en_XX", "eng_Latn")
    with pytest.raises(UserError, match="tgt_lang: not set, but this format needs it"):
        bare("a", text_target="b")
    with pytest.raises(UserError, match=r"^inputs\.source\.tokenizer\.options\.tgt_lang: not set"):
        target_frame(bare, "inputs.source.tokenizer")


@pytest.mark.parametrize("files", ["slow", "fast"])
def test_saved_is_loaded_and_the_reference_loads_it_too(case: tuple[str, Folder], files: str, tmp_path: Path) -> None:
    folder = getattr(case[1], files)
    if folder is None:
        pytest.skip("there is no fast class")
    ours = load(folder)
    ours.save(tmp_path)
    again, copy = load(tmp_path), pickle.loads(pickle.dumps(ours))
    sources, targets = texts(60)
    for other in (again, copy):
        assert other.fingerprint() == ours.fingerprint()
        assert other(sources, text_target=targets) == ours(sources, text_target=targets)
    reference = transformers.AutoTokenizer.from_pretrained(str(tmp_path), use_fast=files == "fast")
    assert_equal(again, reference)


def test_offsets(case: tuple[str, Folder]) -> None:
    ours = load(case[1].raw)
    text = "A film,  with </s> two dogs \U0001f600 and caf\u00e9"
    row = ours(text, return_offsets_mapping=True)
    assert row["input_ids"] == ours(text)["input_ids"]
    found = [text[first:last].strip() for first, last in row["offset_mapping"]]
    assert "".join(found) == text.replace(" ", "")
    assert "</s>" in found


def test_from_the_vocabulary_alone(case: tuple[str, Folder], tmp_path: Path) -> None:
    kind, folder = case
    bare = shutil.copytree(folder.raw, tmp_path / "bare")
    (bare / "tokenizer_config.json").unlink()
    if kind not in ("m2m100", "mbart"):
        pytest.skip("its options stand in tokenizer_config.json")
    options = dict(KINDS[kind][1])
    expected = load(folder.raw)
    if kind == "m2m100":
        assert load(bare, **options).fingerprint() == expected.fingerprint()  # the files tell
    else:
        with pytest.raises(UserError, match="its architecture is unknown"):
            load(bare)
    model_type = {"m2m100": "m2m_100", "mbart": "mbart"}[kind]
    (bare / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert load(bare, **options).fingerprint() == expected.fingerprint()


def test_the_published_order_of_nllb(tmp_path: Path, case: tuple[str, Folder]) -> None:
    """Languages first, then the mask: eng_Latn is 256047 and the mask 256203 with the 256,000 published pieces."""
    if case[0] != "nllb":
        pytest.skip("of NLLB")
    bare = shutil.copytree(case[1].raw, tmp_path / "bare")
    (bare / "tokenizer_config.json").unlink()
    (bare / "config.json").write_text(json.dumps({"model_type": "nllb-moe"}))
    ours, pieces = load(bare), len(case[1].reference) - 204
    assert ours.get_lang_id("eng_Latn") - pieces == 256047 - 256000
    assert ours.mask_id is not None
    assert ours.mask_id - pieces == 256203 - 256000


def test_broken_files(tmp_path: Path, case: tuple[str, Folder]) -> None:
    if case[0] != "m2m100":
        pytest.skip("of M2M100")
    for content, message in (
        (b'{"a": 0}', "vocab.json: its unk token '<unk>' is not in it"),
        (b'{"<unk>": -1}', "vocab.json: '<unk>': an id is expected, not -1"),
        (b"[]", "vocab.json: a JSON object is expected, not list"),
    ):
        folder = shutil.copytree(case[1].raw, tmp_path / "broken", dirs_exist_ok=True)
        (folder / "vocab.json").write_bytes(content)
        with pytest.raises(UserError) as raised:
            load(folder)
        assert message in str(raised.value)
    with pytest.raises(UserError) as raised:
        load(case[1].raw, src_lang="eng", tgt_lang="dee")
    assert [fault.place for fault in raised.value.faults] == ["src_lang", "tgt_lang"]
    for fault, code in zip(raised.value.faults, ("en", "de"), strict=True):
        assert fault.message.endswith(f"; did you mean '{code}'?")
    folder = shutil.copytree(case[1].raw, tmp_path / "half")
    (folder / "sentencepiece.bpe.model").unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json, or sentencepiece\.bpe\.model and vocab\.json is expected"):
        load(folder)
    shutil.copy(case[1].raw / "sentencepiece.bpe.model", folder)
    (folder / "vocab.json").unlink()
    with pytest.raises(UserError, match=r"half/vocab\.json: No such file or directory$"):
        load(folder)
    with pytest.raises(UserError, match=r"^language_codes: 'wmt20' is not one of m2m100, wmt21"):
        load(case[1].raw, language_codes="wmt20")


def test_the_call_passed_whole_to_a_model(case: tuple[str, Folder]) -> None:
    """A pair of texts gives a loss; a translation begins with the token of its language."""
    if case[0] != "m2m100":
        pytest.skip("of M2M100")
    from eir_seq.models import create_model

    ours = load(case[1].raw, src_lang="en", tgt_lang="fr")
    tiny = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    tiny |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": ours.vocab_size + 8}
    model = create_model("m2m_100", tiny, task="seq2seq-lm").eval()
    batch = ours(
        ["Life is like a box of chocolates.", "Two dogs."],
        text_target=["La vie est comme une bo\u00eete de chocolat.", "Deux chiens."],
        padding=True,
        return_tensors="pt",
    )
    assert set(batch["input_ids"][:, 0].tolist()) == {ours.get_lang_id("en")}
    assert set(batch["labels"][:, 0].tolist()) == {ours.get_lang_id("fr")}
    loss = model(**batch).loss
    assert loss.shape == ()
    assert loss.isfinite()
    source = ours("Two dogs.", return_tensors="pt")
    written = model.generate(**source, max_new_tokens=5, forced_bos_token_id=ours.get_lang_id("fr"))
    assert written[0, :2].tolist() == [2, ours.target_language_id]
    assert not ours.batch_decode([written[0, :2].tolist()], skip_special_tokens=True)[0]
