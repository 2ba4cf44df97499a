"""The code of the published pages of mT5, T5Gemma, MVP and M2M100, line by line on tiny folders of our own.

Only imports and the names of folders differ. What a tokenizer gives is compared with transformers.
"""

from __future__ import annotations

import doctest
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.models import create_model
from eir_seq.published import (
    AutoModel,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MT5EncoderModel,
    MT5ForConditionalGeneration,
    MT5Model,
    MvpForCausalLM,
    MvpForConditionalGeneration,
    MvpForQuestionAnswering,
    MvpForSequenceClassification,
    T5GemmaConfig,
    T5GemmaForSequenceClassification,
    T5GemmaForTokenClassification,
    T5GemmaModel,
)
from eir_seq.tokenizers import Tokenizer, batch, load_tokenizer
from eir_seq.tokenizers.languages import TranslationTokenizer

pytest.importorskip("transformers", reason="the reference implementation is not installed")

import transformers

from tests.tokenizers.architecture_folders import make
from tests.tokenizers.published_folders import ROBERTA_SPECIALS, train_byte_bpe
from tests.tokenizers.test_chat import GEMMA
from tests.tokenizers.translation_folders import make as make_translation

LIKE_BART = {
    "d_model": 16,
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 1),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 2),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 16),
}
STACK = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "head_dim": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def save_model(folder: Path, model_type: str, options: dict[str, Any]) -> Path:
    torch.manual_seed(0)
    vocab_size = load_tokenizer(folder).vocab_size
    create_model(model_type, {**options, "vocab_size": vocab_size}, task="seq2seq-lm").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def mt5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mt5")
    make("mt5", folder)
    return save_model(folder, "mt5", {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2})


@pytest.fixture(scope="module")
def t5gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t5gemma")
    make("t5gemma", folder)
    config = {"tokenizer_class": "GemmaTokenizer", "chat_template": GEMMA}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return save_model(folder, "t5gemma", {"encoder": STACK})


@pytest.fixture(scope="module")
def mvp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mvp")
    train_byte_bpe(folder, ROBERTA_SPECIALS)
    (folder / "config.json").write_text(json.dumps({"model_type": "mvp"}))
    return save_model(folder, "mvp", LIKE_BART)


@pytest.fixture(scope="module")
def m2m100(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shared = tmp_path_factory.getbasetemp() / "shared"
    shared.mkdir(exist_ok=True)
    folder = make_translation("m2m100", tmp_path_factory.mktemp("m2m100"), shared).raw
    config = json.loads((folder / "tokenizer_config.json").read_text())
    unset = {name: x for name, x in config.items() if name not in ("src_lang", "tgt_lang")}
    (folder / "tokenizer_config.json").write_text(json.dumps(unset))
    return save_model(folder, "m2m_100", LIKE_BART)


def assert_same(ours: Any, theirs: Any) -> None:
    """The same entries with the same values, by key and by attribute."""
    assert set(ours) == set(theirs)
    for name in theirs:
        assert np.array_equal(np.asarray(ours[name]), np.asarray(theirs[name])), name
        assert getattr(ours, name) is ours[name]


class TestMT5:
    article = "UN Offizier sagt, dass weiter verhandelt werden muss in Syrien."
    summary = "Weiter Verhandlung in Syrien."

    def test_states(self, mt5: Path) -> None:
        model = MT5Model.from_pretrained(mt5)
        tokenizer = AutoTokenizer.from_pretrained(mt5)
        reference = transformers.T5Tokenizer.from_pretrained(str(mt5))
        inputs = tokenizer(self.article, return_tensors="pt")
        labels = tokenizer(text_target=self.summary, return_tensors="pt")
        assert_same(inputs, reference(self.article, return_tensors="pt"))
        assert_same(labels, reference(text_target=self.summary, return_tensors="pt"))
        outputs = model(input_ids=inputs["input_ids"], decoder_input_ids=labels["input_ids"])
        assert outputs.last_hidden_state.shape == (*labels.input_ids.shape, 16)
        decoder_input_ids = tokenizer(text_target=self.summary, return_tensors="np").input_ids
        assert isinstance(decoder_input_ids, np.ndarray)
        assert decoder_input_ids.tolist() == labels.input_ids.tolist()

    def test_loss(self, mt5: Path) -> None:
        model = MT5ForConditionalGeneration.from_pretrained(mt5)
        tokenizer = AutoTokenizer.from_pretrained(mt5)
        inputs = tokenizer(self.article, text_target=self.summary, return_tensors="pt")
        reference = transformers.T5Tokenizer.from_pretrained(str(mt5))
        assert_same(inputs, reference(self.article, text_target=self.summary, return_tensors="pt"))
        outputs = model(**inputs)
        assert outputs.loss.isfinite()

    def test_gaps_and_writing(self, mt5: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(mt5)
        model = MT5ForConditionalGeneration.from_pretrained(mt5)
        input_ids = tokenizer("The <extra_id_0> walks in <extra_id_1> park", return_tensors="pt").input_ids
        labels = tokenizer("<extra_id_0> cute dog <extra_id_1> the <extra_id_2>", return_tensors="pt").input_ids
        outputs = model(input_ids=input_ids, labels=labels)
        assert outputs.logits.shape[:2] == labels.shape
        input_ids = tokenizer(
            "summarize: studies have shown that owning a dog is good for you", return_tensors="pt"
        ).input_ids  # Batch size 1
        outputs = model.generate(input_ids, max_new_tokens=9)
        reference = transformers.T5Tokenizer.from_pretrained(str(mt5))
        for skip in (True, False):
            expected = reference.decode(outputs[0], skip_special_tokens=skip)
            assert tokenizer.decode(outputs[0], skip_special_tokens=skip) == expected

    def test_encoder(self, mt5: Path) -> None:
        model = MT5EncoderModel.from_pretrained(mt5)
        tokenizer = AutoTokenizer.from_pretrained(mt5)
        input_ids = tokenizer(self.article, return_tensors="pt").input_ids
        outputs = model(input_ids)
        hidden_state = outputs.last_hidden_state
        assert hidden_state.shape[:2] == input_ids.shape


class TestT5Gemma:
    def test_conversation(self, t5gemma: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(t5gemma)
        model = AutoModelForSeq2SeqLM.from_pretrained(t5gemma, device_map="cpu", dtype=torch.bfloat16)
        messages = [{"role": "user", "content": "Tell me an unknown interesting biology fact about the brain."}]
        options: dict[str, Any] = {"return_tensors": "pt", "return_dict": True, "add_generation_prompt": True}
        input_ids = tokenizer.apply_chat_template(messages, **options).to(model.device)
        reference = transformers.GemmaTokenizer.from_pretrained(str(t5gemma))
        assert_same(input_ids, reference.apply_chat_template(messages, **options))
        outputs = model.generate(**input_ids, max_new_tokens=8)
        assert tokenizer.decode(outputs[0]) == reference.decode(outputs[0])
        assert tokenizer.decode(outputs[0]).startswith("<bos>")

    def test_classes(self, t5gemma: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(t5gemma)
        inputs = tokenizer("Hello, my dog is cute", return_tensors="pt")
        model = T5GemmaForSequenceClassification.from_pretrained(t5gemma, num_labels=2)
        with torch.no_grad():
            logits = model(**inputs).logits
        assert logits.argmax().item() in (0, 1)
        inputs = tokenizer(
            "HuggingFace is a company based in Paris and New York", add_special_tokens=False, return_tensors="pt"
        )
        model = T5GemmaForTokenClassification.from_pretrained(t5gemma, num_labels=3)
        with torch.no_grad():
            logits = model(**inputs).logits
        assert logits.argmax(-1).shape == inputs.input_ids.shape

    def test_options(self, t5gemma: Path) -> None:
        t5gemma_config = T5GemmaConfig.from_pretrained(t5gemma)
        model = T5GemmaModel(t5gemma_config)
        loaded = AutoModel.from_pretrained(t5gemma)
        assert {name: x.shape for name, x in model.named_parameters()} == {
            name: x.shape for name, x in loaded.named_parameters()
        }
        assert model.config == loaded.config

    def test_padding_side(self, t5gemma: Path) -> None:
        """As the fast class, which is the default one there, pads."""
        texts = ["Hello, my dog is cute", "Hello"]
        reference = transformers.GemmaTokenizerFast.from_pretrained(str(t5gemma))
        tokenizer = AutoTokenizer.from_pretrained(t5gemma)
        assert tokenizer.padding_side == reference.padding_side == "left"
        assert_same(tokenizer(texts, padding=True), reference(texts, padding=True))
        tokenizer.padding_side = reference.padding_side = "right"
        assert_same(tokenizer(texts, padding=True), reference(texts, padding=True))


class TestMVP:
    def test_summary(self, mvp: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(mvp)
        model = MvpForConditionalGeneration.from_pretrained(mvp)
        inputs = tokenizer(
            "Summarize: You may want to stick it to your boss and leave your job, but don't do it if these are your "
            "reasons.",
            return_tensors="pt",
        )
        labels = tokenizer("Bad Reasons To Quit Your Job", return_tensors="pt")["input_ids"]
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        with torch.no_grad():
            generated_ids = model.generate(**inputs, max_new_tokens=9)
        reference = transformers.MvpTokenizerFast.from_pretrained(str(mvp))
        generated_text = tokenizer.batch_decode(generated_ids, skip_special_tokens=True)
        assert generated_text == reference.batch_decode(generated_ids, skip_special_tokens=True)
        assert tokenizer.batch_decode(generated_ids) == reference.batch_decode(generated_ids)
        assert tokenizer("Hello world")["input_ids"] == reference("Hello world")["input_ids"]
        assert tokenizer(" Hello world")["input_ids"] == reference(" Hello world")["input_ids"]

    def test_answer(self, mvp: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(mvp)
        model = MvpForQuestionAnswering.from_pretrained(mvp)
        inputs = tokenizer(
            "Answer the following question: Who was Jim Henson? [SEP] Jim Henson was a nice puppet",
            return_tensors="pt",
        )
        target_start_index = torch.tensor([18])
        target_end_index = torch.tensor([19])
        loss = model(**inputs, start_positions=target_start_index, end_positions=target_end_index).loss
        loss.backward()
        predict_answer_tokens = inputs.input_ids[0, 18 : 19 + 1]
        predict_answer = tokenizer.decode(predict_answer_tokens)
        reference = transformers.MvpTokenizerFast.from_pretrained(str(mvp))
        assert predict_answer == reference.decode(predict_answer_tokens)

    def test_one_label_for_a_text(self, mvp: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(mvp)
        model = MvpForSequenceClassification.from_pretrained(mvp, num_labels=2)
        inputs = tokenizer("Classify: Hello, my dog is cute", return_tensors="pt")
        labels = torch.tensor(1)  # the real label for inputs
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        with torch.no_grad():
            logits = model(**inputs).logits
        assert logits.argmax() in (0, 1)

    def test_decoder(self, mvp: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(mvp)
        model = MvpForCausalLM.from_pretrained(mvp, add_cross_attention=False)
        inputs = tokenizer("Hello, my dog is cute", return_tensors="pt")
        outputs = model(**inputs)
        logits = outputs.logits
        assert list(logits.shape) == [*inputs.input_ids.shape, len(tokenizer)]


class TestM2M100:
    def test_to_another_language(self, m2m100: Path) -> None:
        model = M2M100ForConditionalGeneration.from_pretrained(m2m100)
        tokenizer = AutoTokenizer.from_pretrained(m2m100)
        reference = transformers.M2M100Tokenizer.from_pretrained(str(m2m100))
        text_to_translate = "Life is like a box of chocolates"
        model_inputs = tokenizer(text_to_translate, return_tensors="pt")
        assert_same(model_inputs, reference(text_to_translate, return_tensors="pt"))
        # translate to French
        gen_tokens = model.generate(**model_inputs, forced_bos_token_id=tokenizer.get_lang_id("fr"), max_new_tokens=9)
        assert gen_tokens[0, :2].tolist() == [2, reference.get_lang_id("fr")]
        for skip in (True, False):
            expected = reference.batch_decode(gen_tokens, skip_special_tokens=skip)
            assert tokenizer.batch_decode(gen_tokens, skip_special_tokens=skip) == expected
            assert tokenizer.decode(gen_tokens[0], skip_special_tokens=skip) == expected[0]

    def test_the_language_changes(self, m2m100: Path) -> None:
        tokenizer = M2M100Tokenizer.from_pretrained(m2m100)
        reference = transformers.M2M100Tokenizer.from_pretrained(str(m2m100))
        hi_text = "जीवन एक चॉकलेट बॉक्स की तरह है।"
        for language in ("hi", "zh"):
            tokenizer.src_lang = reference.src_lang = language
            assert_same(tokenizer(hi_text, return_tensors="pt"), reference(hi_text, return_tensors="pt"))

    def test_training(self, m2m100: Path) -> None:
        model = M2M100ForConditionalGeneration.from_pretrained(m2m100)
        languages = {"src_lang": "en", "tgt_lang": "ro"}
        tokenizer = M2M100Tokenizer.from_pretrained(m2m100, **languages)
        src_text = " UN Chief Says There Is No Military Solution in Syria"
        tgt_text = "Şeful ONU declară că nu există o soluţie militară în Siria"
        model_inputs = tokenizer(src_text, text_target=tgt_text, return_tensors="pt")
        reference = transformers.M2M100Tokenizer.from_pretrained(str(m2m100), **languages)
        assert_same(model_inputs, reference(src_text, text_target=tgt_text, return_tensors="pt"))
        assert_same(tokenizer(text_target=tgt_text), reference(text_target=tgt_text))
        outputs = model(**model_inputs)  # should work
        assert outputs.loss.isfinite()

    def test_types_of_a_pair(self, m2m100: Path, tmp_path: Path) -> None:
        plain: Any = Tokenizer.from_pretrained(m2m100)
        assert plain.create_token_type_ids_from_sequences([5, 6], [7]) == [0] * 5
        typed: Any = Tokenizer.from_pretrained(m2m100, token_type_ids_pattern="bert_style")
        assert typed.create_token_type_ids_from_sequences([5, 6], [7]) == [0, 0, 0, 1, 1]
        typed.src_lang = "hi"
        assert typed.create_token_type_ids_from_sequences([5, 6], [7]) == [0, 0, 0, 1, 1]
        assert "token_type_ids" not in typed("a", "b"), "this model takes none"
        typed.save(tmp_path)
        assert load_tokenizer(tmp_path).fingerprint() == typed.fingerprint() != plain.fingerprint()
        with pytest.raises(UserError, match="token_type_ids_pattern: 'bert' is not one of all_zeros, bert_style"):
            Tokenizer.from_pretrained(m2m100, token_type_ids_pattern="bert")


def test_types_of_a_pair_where_the_model_takes_them(tmp_path: Path) -> None:
    make("bert", tmp_path)
    batch = load_tokenizer(tmp_path, token_type_ids_pattern="all_zeros")("a film", "the film")
    assert batch.token_type_ids == [0] * len(batch.input_ids)
    assert load_tokenizer(tmp_path, token_type_ids_pattern="bert_style")("a", "b") == load_tokenizer(tmp_path)("a", "b")


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "ctrl", "mt5", "marian", "xlm-roberta"])
def test_ids_in_whatever_holds_them(model_type: str, tmp_path: Path) -> None:
    make(model_type, tmp_path)
    assert_any_container(load_tokenizer(tmp_path))


def test_ids_of_m2m100_in_whatever_holds_them(m2m100: Path) -> None:
    assert_any_container(load_tokenizer(m2m100))


def assert_any_container(tokenizer: Tokenizer) -> None:
    ids = tokenizer("The film is long.")["input_ids"]
    text, tokens = tokenizer.decode(ids), tokenizer.convert_ids_to_tokens(ids)
    assert "film" in text.lower()
    assert tokens == [tokenizer.convert_ids_to_tokens(number) for number in ids]
    for given in (
        tuple(ids),
        np.array(ids),
        torch.tensor(ids),
        torch.tensor(ids, dtype=torch.int32),
        list(map(np.int64, ids)),
    ):
        assert tokenizer.decode(given) == text
        assert tokenizer.batch_decode([given, given]) == [text, text]
        assert tokenizer.convert_ids_to_tokens(given) == tokens
        assert tokenizer.tokens(given) == tokens
    assert tokenizer.batch_decode(torch.tensor([ids, ids])) == [text, text]
    assert tokenizer.batch_decode(np.array([ids, ids])) == [text, text]
    assert tokenizer.decode(ids[1]) == tokenizer.decode(torch.tensor(ids[1])) == tokenizer.decode(ids[1:2])
    assert tokenizer.convert_ids_to_tokens(torch.tensor(ids[1])) == tokens[1]
    framed = tokenizer.build_inputs_with_special_tokens(ids, ids[:2])
    mask = tokenizer.get_special_tokens_mask(ids, already_has_special_tokens=True)
    for given in (np.array, torch.tensor):
        assert tokenizer.build_inputs_with_special_tokens(given(ids), given(ids[:2])) == framed
        assert tokenizer.get_special_tokens_mask(given(ids), already_has_special_tokens=True) == mask
    for several in (torch.tensor([ids]), [ids], ["1"], torch.tensor([0.5])):
        with pytest.raises(ValueError, match="token ids of one text are integers"):
            tokenizer.decode(several)


def test_what_calls_do_by_default_is_read_and_kept(mvp: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(mvp, tmp_path / "folder")
    config = {
        "tokenizer_class": "MvpTokenizer",
        "padding_side": "left",
        "model_max_length": 6,
        "clean_up_tokenization_spaces": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    reference = transformers.MvpTokenizerFast.from_pretrained(str(folder))
    texts = ["it is n't here , is it ?", "a film"]
    load_tokenizer(folder).save(tmp_path / "copy")
    for place in (folder, tmp_path / "copy"):
        ours = load_tokenizer(place)
        assert ours(texts, padding=True, truncation=True) == dict(reference(texts, padding=True, truncation=True))
        ids = ours(texts[0])["input_ids"]
        for clean in (None, True, False):
            given = {"skip_special_tokens": True, "clean_up_tokenization_spaces": clean}
            assert ours.decode(ids, **given) == reference.decode(ids, **given)
        assert ours.decode(ids) == "<s>it isn't here, is it?</s>"
    without_limit = {**config, "model_max_length": 10**30}
    (folder / "tokenizer_config.json").write_text(json.dumps(without_limit))
    with pytest.raises(UserError, match="max_length: truncation needs it"):
        load_tokenizer(folder)(texts, truncation=True)
    with pytest.raises(UserError, match="padding_side: 'both' is not one of right, left"):
        load_tokenizer(folder, padding_side="both")
    with pytest.raises(UserError, match="model_max_length: a number of tokens is expected, not '9'"):
        load_tokenizer(folder, model_max_length="9")


def test_a_batch_moves_and_names_what_it_lacks(mvp: Path) -> None:
    batch = Tokenizer.from_pretrained(mvp)("a film", return_tensors="pt")
    moved = batch.to("meta")
    assert moved is batch
    assert all(x.device.type == "meta" for x in batch.values())
    with pytest.raises(AttributeError, match="there is no 'labels' in this batch: input_ids, attention_mask"):
        _ = batch.labels
    assert Tokenizer.from_pretrained(mvp)("a film").to("meta").input_ids[0] == 0
    with pytest.raises(UserError, match="holds a Tokenizer, not a TranslationTokenizer"):
        TranslationTokenizer.from_pretrained(mvp)


@pytest.mark.parametrize("truncation", ["longest_first", "only_first", "only_second", "do_not_truncate"])
def test_which_text_of_a_pair_is_cut(mvp: Path, truncation: str) -> None:
    pair = ("The film is long and slow.", "It was fun.")
    tokenizer = Tokenizer.from_pretrained(mvp)
    given = {"truncation": truncation, "max_length": len(tokenizer(*pair).input_ids) - 2}
    reference = transformers.MvpTokenizerFast.from_pretrained(str(mvp))
    assert tokenizer(*pair, **given) == dict(reference(*pair, **given))


def test_the_examples_of_docstrings() -> None:
    found = doctest.testmod(batch)
    assert found.attempted >= 4
    assert not found.failed
