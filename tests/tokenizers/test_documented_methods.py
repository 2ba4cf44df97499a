"""The methods with published names: equal to the reference's on the formats of T5 and of RoBERTa, BART and MVP."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from eir_seq.errors import UserError
from eir_seq.tokenizers import Tokenizer, load_tokenizer
from eir_seq.tokenizers.backend import ROLES
from eir_seq.tokenizers.byte_level import ERRORS
from tests.tokenizers.corpus import CONTROL, OWN, pairs

pytest.importorskip("transformers", reason="the reference implementation is not installed")

import transformers

from tests.tokenizers.published_folders import ROBERTA_SPECIALS, T5_IDS, train_byte_bpe, train_sentencepiece

A, B = [5, 6, 7], [8, 9]


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder with both files, and the reference's slow tokenizer."""
    folder = tmp_path_factory.mktemp("t5")
    train_sentencepiece(folder / "spiece.model", **T5_IDS)
    slow = transformers.T5Tokenizer.from_pretrained(str(folder))
    transformers.T5TokenizerFast.from_pretrained(str(folder)).save_pretrained(folder)
    return folder, slow


@pytest.fixture(scope="module")
def bart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bart")
    train_byte_bpe(folder, ROBERTA_SPECIALS)
    return folder


def with_tokenizer_json(folder: Path, to: Path) -> Path:
    """The files of BART and a tokenizer.json beside them, as folders are published."""
    both = shutil.copytree(folder, to / "both", dirs_exist_ok=True)
    transformers.BartTokenizerFast.from_pretrained(str(folder)).save_pretrained(both)
    return both


def assert_methods(ours: Tokenizer, reference: Any, *, types: bool = True) -> None:
    for role in ROLES:
        for name in (f"{role}_token", f"{role}_token_id"):
            assert getattr(ours, name) == getattr(reference, name), name
            with pytest.raises(AttributeError, match=rf"{name} is read only; load_tokenizer\(..., {role}_token="):
                setattr(ours, name, getattr(reference, name))
    for arguments in ((A,), (A, B), ([],), (A, [])):
        built = ours.build_inputs_with_special_tokens(*arguments)
        assert built == reference.build_inputs_with_special_tokens(*arguments)
        mask = ours.get_special_tokens_mask(*arguments)
        assert mask == reference.get_special_tokens_mask(*arguments)
        assert len(mask) == len(built)
        if types:
            assert ours.create_token_type_ids_from_sequences(*arguments) == (
                reference.create_token_type_ids_from_sequences(*arguments)
            )
    ids = [*built, *reference.all_special_ids[:3], 11]
    expected = reference.get_special_tokens_mask(ids, already_has_special_tokens=True)
    assert ours.get_special_tokens_mask(ids, already_has_special_tokens=True) == expected


def assert_saved_vocabulary(ours: Tokenizer, folder: Path, kept: Path, *, prefix: str | None = None) -> None:
    """The files are those that were published, but for the layout of JSON."""
    folder.mkdir(exist_ok=True)
    paths = ours.save_vocabulary(folder, prefix)
    assert sorted(Path(path) for path in paths) == sorted(folder.iterdir())
    for path in map(Path, paths):
        original = kept / (path.name.removeprefix(f"{prefix}-") if prefix else path.name)
        if path.suffix == ".json":
            assert json.loads(path.read_text("utf-8")) == json.loads(original.read_text("utf-8"))
        elif path.suffix == ".txt":
            assert path.read_text("utf-8").splitlines()[1:] == original.read_text("utf-8").splitlines()[1:]
        else:
            assert path.read_bytes() == original.read_bytes()


class TestT5:
    def test_methods(self, t5: tuple[Path, Any], tmp_path: Path) -> None:
        folder, slow = t5
        for use_fast in (False, True):
            ours = load_tokenizer(folder, use_fast=use_fast)
            assert_methods(ours, slow)
            eos = ours.eos_id
            assert ours.build_inputs_with_special_tokens([5, eos]) == slow.build_inputs_with_special_tokens([5, eos])
            both = ([5, eos], [6, eos])
            assert ours.build_inputs_with_special_tokens(*both) == [5, eos, 6, eos]
            assert set(ours.get_sentinel_tokens()) == set(slow.get_sentinel_tokens())
            assert set(ours.get_sentinel_token_ids()) == set(slow.get_sentinel_token_ids())
            assert ours.get_sentinel_token_ids()[:2] == [len(slow) - 1, len(slow) - 2]
        assert_saved_vocabulary(load_tokenizer(folder, use_fast=False), tmp_path / "a", folder, prefix="mine")

    @pytest.mark.parametrize("legacy", [True, False])
    def test_the_legacy_switch(self, t5: tuple[Path, Any], legacy: bool) -> None:
        folder, _ = t5
        slow = transformers.T5Tokenizer.from_pretrained(str(folder), legacy=legacy)
        ours = load_tokenizer(folder, use_fast=False, legacy=legacy)
        texts = [*OWN, *CONTROL, "Hello <extra_id_0>fox. <extra_id_1>.", "<extra_id_3>fox", "ends with </s>", "</s>"]
        assert ours(texts)["input_ids"] == slow(texts)["input_ids"]
        for text in texts:
            known = slow.convert_ids_to_tokens(slow.convert_tokens_to_ids(slow.tokenize(text)))
            assert ours.tokenize(text) == known, text

    def test_the_call(self, t5: tuple[Path, Any]) -> None:
        folder, slow = t5
        ours = load_tokenizer(folder, use_fast=False)
        sources, targets = [*OWN, *(en for en, _ in pairs())], [*OWN, *(de for _, de in pairs())]
        assert ours(sources, text_target=targets) == dict(slow(sources, text_target=targets))
        given = {"padding": True, "truncation": True, "max_length": 12}
        assert ours(sources, text_target=targets, **given) == dict(slow(sources, text_target=targets, **given))
        assert ours("One text.", text_target="Und noch einer.") == dict(
            slow("One text.", text_target="Und noch einer.")
        )
        tensors = ours(sources[:9], padding=True, return_tensors="pt")
        expected = slow(sources[:9], padding=True, return_tensors="pt")
        assert {name: value.tolist() for name, value in tensors.items()} == {
            name: value.tolist() for name, value in expected.items()
        }
        ids = [row for row in ours(sources)["input_ids"] if row]
        assert ours.batch_decode(ids, skip_special_tokens=True) == slow.batch_decode(ids, skip_special_tokens=True)

    @pytest.mark.parametrize(
        "given",
        [
            {"padding": True, "padding_side": "left"},
            {"padding": "longest", "pad_to_multiple_of": 8},
            {"padding": "max_length", "max_length": 12, "truncation": True},
            {"padding": "max_length", "max_length": 12, "truncation": True, "pad_to_multiple_of": 6},
            {"padding": "do_not_pad", "max_length": 12, "truncation": True},
        ],
        ids=str,
    )
    def test_padding(self, t5: tuple[Path, Any], given: dict[str, Any]) -> None:
        folder, slow = t5
        ours = load_tokenizer(folder, use_fast=False)
        sources, targets = (list(texts)[:9] for texts in zip(*pairs(), strict=True))
        assert ours(sources, text_target=targets, **given) == dict(slow(sources, text_target=targets, **given))

    def test_types_are_given_or_left_out(self, t5: tuple[Path, Any]) -> None:
        folder, slow = t5
        ours = load_tokenizer(folder, use_fast=False)
        assert "token_type_ids" not in ours("a", "b")
        given = {"return_token_type_ids": True}
        assert ours("a", "b", **given) == dict(slow("a", "b", **given))

    def test_single_steps(self, t5: tuple[Path, Any]) -> None:
        folder, slow = t5
        ours = load_tokenizer(folder, use_fast=False)
        for text in ("The film is long.", "Hello <extra_id_0> film"):
            tokens = ours.tokenize(text)
            assert ours.convert_tokens_to_ids(tokens) == slow.convert_tokens_to_ids(tokens)
        assert ours.convert_tokens_to_ids("no entry") == slow.convert_tokens_to_ids("no entry") == ours.unk_id
        tokens = slow.tokenize("The film is long.")
        assert ours.convert_tokens_to_string(tokens) == slow.convert_tokens_to_string(tokens) == "The film is long."

    def test_pairs_are_cut_as_the_reference_cuts_them(self, t5: tuple[Path, Any]) -> None:
        folder, slow = t5
        ours = load_tokenizer(folder, use_fast=False)
        first, second = [*OWN, "short"], [*OWN[::-1], "the quick brown fox jumps over the lazy dog" * 2]
        for most in (4, 9, 10, 25):
            given = {"truncation": True, "max_length": most}
            assert ours(first, second, **given)["input_ids"] == slow(first, second, **given)["input_ids"]

    def test_special_tokens_as_characters(self, t5: tuple[Path, Any], tmp_path: Path) -> None:
        folder, _ = t5
        texts = [*OWN, "Hello <extra_id_0>. </s> <unk>", "</s>"]
        for legacy in (True, False):
            slow = transformers.T5Tokenizer.from_pretrained(str(folder), split_special_tokens=True, legacy=legacy)
            ours = load_tokenizer(folder, use_fast=False, split_special_tokens=True, legacy=legacy)
            assert ours(texts)["input_ids"] == slow(texts)["input_ids"]
            ours.save(tmp_path)
            assert load_tokenizer(tmp_path)(texts) == ours(texts)
        assert ours(texts) != load_tokenizer(folder, use_fast=False, legacy=legacy)(texts)

    def test_options_that_are_not_there(self, t5: tuple[Path, Any]) -> None:
        folder, _ = t5
        for options, message in (
            (
                {"legcy": False, "use_fast": False},
                "legcy: not an option of a tokenizer from spiece.model; did you mean",
            ),
            ({"legacy": False}, "legacy: not an option of a tokenizer from tokenizer.json"),
            ({"legacy": "no", "use_fast": False}, "legacy: true or false is expected, not 'no'"),
            ({"extra_ids": 7, "use_fast": False}, "extra_ids: 7, but additional_special_tokens lists 100 of them"),
            ({"sp_model_kwargs": {"nbest": 3}}, "sp_model_kwargs.nbest: not one of enable_sampling"),
            ({"sp_model_kwargs": {"nbest_size": 513}}, "sp_model_kwargs.nbest_size: 513 cannot be"),
        ):
            with pytest.raises(UserError) as raised:
                load_tokenizer(folder, **options)
            assert message in str(raised.value)
            assert len(str(raised.value).splitlines()) == 1


class TestSampling:
    def test_drawn_by_seed_and_call(self, t5: tuple[Path, Any]) -> None:
        folder, slow = t5
        kwargs = {"enable_sampling": True, "nbest_size": -1, "alpha": 0.1}
        ours = load_tokenizer(folder, sp_model_kwargs=kwargs)
        texts = ["The quick brown fox jumps over the lazy dog.", "Zwei Männer gehen auf eine große Straße."] * 4
        first, second = ours(texts)["input_ids"], ours(texts)["input_ids"]
        assert first != second
        assert len({tuple(row) for row in first}) > 2
        ours.seed_sampling(0)
        assert [ours(texts)["input_ids"], ours(texts)["input_ids"]] == [first, second]
        ours.seed_sampling(1)
        assert ours(texts)["input_ids"] != first
        decoded = [{read.decode(row, skip_special_tokens=True) for row in first} for read in (ours, slow)]
        assert decoded[0] == decoded[1]
        located = ours.encode_batch(texts, offsets=True)
        for text, encoding in zip(texts, located, strict=True):
            assert encoding.offsets is not None
            assert "".join(text[a:b] for a, b in encoding.offsets) == text

    @pytest.mark.parametrize("kwargs", [{"nbest_size": 1}, {"nbest_size": 0}, {"enable_sampling": False}])
    def test_nothing_is_drawn(self, t5: tuple[Path, Any], kwargs: dict[str, Any]) -> None:
        folder, slow = t5
        ours = load_tokenizer(folder, use_fast=False, sp_model_kwargs={"enable_sampling": True, **kwargs})
        assert ours(OWN)["input_ids"] == slow(OWN)["input_ids"]

    def test_as_often_as_the_reference_draws_them(self, t5: tuple[Path, Any]) -> None:
        folder, _ = t5
        kwargs = {"enable_sampling": True, "nbest_size": 3, "alpha": 0.5}
        reference = transformers.T5Tokenizer.from_pretrained(str(folder), sp_model_kwargs=kwargs)
        text, draws = "jumping", 1500
        expected = Counter(tuple(reference(text)["input_ids"]) for _ in range(draws))
        found = Counter(map(tuple, load_tokenizer(folder, sp_model_kwargs=kwargs)([text] * draws)["input_ids"]))
        assert set(found) == set(expected)
        assert len(found) == 3
        for cut, count in expected.items():  # five standard deviations of the difference of two counts
            assert abs(found[cut] - count) < 5 * (2 * draws * 0.25) ** 0.5

    def test_corrected_t5_draws_behind_its_guard(self, t5: tuple[Path, Any]) -> None:
        folder, _ = t5
        ours = load_tokenizer(folder, legacy=False, sp_model_kwargs={"enable_sampling": True})
        texts = ["the lazy dog"] * 50
        rows = ours(texts)["input_ids"]
        assert len(set(map(tuple, rows))) > 3
        assert set(ours.batch_decode(rows, skip_special_tokens=True)) == {"the lazy dog"}

    def test_saved_with_the_tokenizer(self, t5: tuple[Path, Any], tmp_path: Path) -> None:
        folder, _ = t5
        ours = load_tokenizer(folder, sp_model_kwargs={"enable_sampling": True, "alpha": 0.2})
        ours.save(tmp_path)
        again = load_tokenizer(tmp_path)
        assert again.fingerprint() == ours.fingerprint() != load_tokenizer(folder, use_fast=False).fingerprint()
        assert again(OWN) == ours(OWN)

    def test_no_model_to_draw_with(self, bart: Path) -> None:
        with pytest.raises(UserError, match="only a sentencepiece model can draw"):
            load_tokenizer(bart, sp_model_kwargs={"enable_sampling": True})


class TestByteLevel:
    @pytest.mark.parametrize("name", ["Roberta", "Bart", "Mvp"])
    @pytest.mark.parametrize("prefix_space", [False, True])
    def test_from_vocabulary_and_merges(self, bart: Path, name: str, prefix_space: bool) -> None:
        fast = getattr(transformers, f"{name}TokenizerFast").from_pretrained(str(bart), add_prefix_space=prefix_space)
        ours = load_tokenizer(bart, tokenizer_class=f"{name}Tokenizer", add_prefix_space=prefix_space)
        sources = [*OWN, *CONTROL, "a <mask> b </s>c<s>", *(text for pair in pairs() for text in pair)]
        expected = fast(sources, return_offsets_mapping=True)
        assert ours(sources, return_offsets_mapping=True) == {name: expected[name] for name in expected}
        assert ours(sources[:30], sources[30:60])["input_ids"] == fast(sources[:30], sources[30:60])["input_ids"]
        assert_methods(ours, getattr(transformers, f"{name}Tokenizer").from_pretrained(str(bart)))

    def test_offsets_untrimmed(self, bart: Path) -> None:
        fast = transformers.BartTokenizerFast.from_pretrained(str(bart), trim_offsets=False)
        ours = load_tokenizer(bart, trim_offsets=False)
        texts = [*OWN, *CONTROL]
        expected = fast(texts, return_offsets_mapping=True)["offset_mapping"]
        assert ours(texts, return_offsets_mapping=True)["offset_mapping"] == expected

    def test_words(self, bart: Path) -> None:
        fast = transformers.MvpTokenizerFast.from_pretrained(str(bart), add_prefix_space=True)
        ours = load_tokenizer(bart, tokenizer_class="MvpTokenizer", add_prefix_space=True)
        words = ["The", "film", "didn't", "caf\u00e9", "\U0001f600"]
        assert ours(words, is_split_into_words=True) == dict(fast(words, is_split_into_words=True))
        assert ours([words, words[:2]], is_split_into_words=True) == dict(
            fast([words, words[:2]], is_split_into_words=True)
        )
        with pytest.raises(UserError, match="words need a vocabulary with add_prefix_space: true"):
            load_tokenizer(bart)(words, is_split_into_words=True)

    def test_bytes_that_are_no_text(self, bart: Path, tmp_path: Path) -> None:
        ids = [*load_tokenizer(bart)("a \U0001f600 caf\u00e9 <mask>")["input_ids"], 9]
        broken = [*ids[:3], *ids[4:]]
        slow = {errors: transformers.BartTokenizer.from_pretrained(str(bart), errors=errors) for errors in ERRORS}
        for folder in (bart, with_tokenizer_json(bart, tmp_path)):
            for errors in ("replace", "ignore"):
                ours = load_tokenizer(folder, errors=errors)
                for row in (ids, broken):
                    for skip in (True, False):
                        assert ours.decode(row, skip) == slow[errors].decode(row, skip)
                ours.save(tmp_path / errors)
                assert load_tokenizer(tmp_path / errors).decode(broken) == ours.decode(broken)
            strict = load_tokenizer(folder, errors="strict")
            assert strict.decode(ids) == slow["strict"].decode(ids)
            with pytest.raises(UnicodeDecodeError):
                strict.decode(broken)
            with pytest.raises(UserError, match="errors: 'strikt' is not one of replace, ignore, strict; did you mean"):
                load_tokenizer(folder, errors="strikt")

    def test_options_beside_a_tokenizer_json(self, bart: Path, tmp_path: Path) -> None:
        folder = with_tokenizer_json(bart, tmp_path)
        for given in ({}, {"add_prefix_space": True}, {"trim_offsets": False}, {"use_fast": False}):
            fast = transformers.BartTokenizerFast.from_pretrained(
                str(folder), **{key: x for key, x in given.items() if key != "use_fast"}
            )
            ours = load_tokenizer(folder, **given)
            expected = dict(fast([*OWN, *CONTROL], return_offsets_mapping=True))
            assert ours([*OWN, *CONTROL], return_offsets_mapping=True) == expected, given
            assert ours.add_prefix_space == given.get("add_prefix_space", False)
            ours.save(tmp_path / "copy")
            assert load_tokenizer(tmp_path / "copy").fingerprint() == ours.fingerprint()

    def test_saved_vocabulary(self, bart: Path, tmp_path: Path) -> None:
        assert_saved_vocabulary(load_tokenizer(bart), tmp_path / "a", bart)


def test_encode_and_save_pretrained(t5: tuple[Path, Any], tmp_path: Path) -> None:
    folder, slow = t5
    load_tokenizer(folder).save_pretrained(tmp_path)
    ours = load_tokenizer(tmp_path)
    for given in ((("a film",), {}), (("a film", "the film"), {}), (("a film",), {"add_special_tokens": False})):
        assert ours.encode(*given[0], **given[1]) == slow.encode(*given[0], **given[1])
    assert ours.encode("a film", return_tensors="pt").tolist() == slow.encode("a film", return_tensors="pt").tolist()


def test_the_calls_faults(bart: Path, tmp_path: Path) -> None:
    ours = load_tokenizer(bart)
    for arguments, message in (
        ({"truncation": True}, "max_length: truncation needs it"),
        ({"return_tensors": "tf"}, "return_tensors: 'tf' is not one of pt, np, None"),
        ({"text": None}, "text: give a text, or a target text as text_target"),
        ({"text_target": "one"}, "text_target: give one text for one source, or a list for a list"),
        ({"truncation": "longest", "max_length": 3}, "truncation: 'longest' is not one of True, False, longest_first"),
        (
            {"text_pair": ["b", "c d e"], "truncation": "only_first", "max_length": 5},
            "truncation: 'only_first' leaves nothing of that text in max_length; cut both",
        ),
        ({"return_tensors": "pt"}, "rows of input_ids differ in length; give padding=True"),
        ({"text_target": ["one"]}, "text_target: 1 texts for 2 sources"),
        ({"padding": "longst"}, "padding: 'longst' is not one of True, False, longest, max_length, do_not_pad"),
        ({"padding": "max_length"}, "max_length: padding='max_length' needs it"),
        ({"padding": True, "padding_side": "both"}, "padding_side: 'both' is not one of right, left"),
        ({"padding": True, "pad_to_multiple_of": 0}, "pad_to_multiple_of: 0 is not an integer from 1 on"),
    ):
        with pytest.raises(UserError) as raised:
            ours(**{"text": ["a", "the film is long"], **arguments})
        assert message in str(raised.value)
    with pytest.raises(UserError, match="no such folder"):
        ours.save_vocabulary(tmp_path / "absent")
