"""What a tokenizer gives, passed to the model of the same folder as it stands: values equal to the reference's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from eir_seq.models import from_pretrained
from eir_seq.tokenizers import Tokenizer, load_tokenizer

pytest.importorskip("transformers", reason="the reference implementation is not installed")

import transformers

from tests.tokenizers.architecture_folders import make
from tests.tokenizers.test_chat import GEMMA, HELLO


class Case(NamedTuple):
    folder: Path
    tokenizer: Tokenizer
    reference: Any


@pytest.fixture(scope="module")
def mt5(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("mt5")
    make("mt5", folder)
    torch.manual_seed(0)
    config = transformers.MT5Config(
        vocab_size=1128, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, dropout_rate=0.0
    )
    transformers.MT5ForConditionalGeneration(config).eval().save_pretrained(folder)
    return Case(folder, load_tokenizer(folder), transformers.T5Tokenizer.from_pretrained(str(folder)))


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("t5gemma")
    make("t5gemma", folder)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GemmaTokenizer", "chat_template": GEMMA})
    )
    torch.manual_seed(0)
    stack = {
        "vocab_size": 1000, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 8,
        "num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": 256,
    }  # fmt: skip
    config = transformers.T5GemmaConfig(encoder=stack, decoder=dict(stack), vocab_size=1000)
    config._attn_implementation = "eager"
    transformers.T5GemmaForConditionalGeneration(config).eval().save_pretrained(folder)
    return Case(folder, load_tokenizer(folder), transformers.GemmaTokenizer.from_pretrained(str(folder)))


def reference_model(name: str, case: Case) -> Any:
    return getattr(transformers, name).from_pretrained(str(case.folder), attn_implementation="eager").eval()


def test_mt5_source_and_target(mt5: Case) -> None:
    source = "UN Offizier sagt, dass weiter verhandelt werden muss in Syrien."
    target = "Weiter Verhandlung in Syrien."
    ours = mt5.tokenizer(source, return_tensors="pt")
    labels = mt5.tokenizer(text=target, return_tensors="pt")["input_ids"]
    states = (
        from_pretrained(mt5.folder, task="base")
        .eval()(input_ids=ours["input_ids"], decoder_input_ids=labels)
        .last_hidden_state
    )
    theirs = mt5.reference(source, return_tensors="pt")
    expected = reference_model("MT5Model", mt5)(
        input_ids=theirs["input_ids"],
        decoder_input_ids=mt5.reference(text_target=target, return_tensors="pt")["input_ids"],
    ).last_hidden_state
    assert states.shape == (1, labels.shape[1], 16)
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=0)


def test_mt5_article_and_summary(mt5: Case) -> None:
    article = "UN Offizier sagt, dass weiter verhandelt werden muss in Syrien."
    summary = "Weiter Verhandlung in Syrien."
    ours, theirs = (read(article, text_target=summary, return_tensors="pt") for read in (mt5.tokenizer, mt5.reference))
    loss = from_pretrained(mt5.folder, task="seq2seq-lm").eval()(**ours).loss
    assert loss.shape == ()
    torch.testing.assert_close(loss, reference_model("MT5ForConditionalGeneration", mt5)(**theirs).loss)


def test_mt5_span_corruption(mt5: Case) -> None:
    text = "The <extra_id_0> walks in <extra_id_1> park"
    gaps = "<extra_id_0> cute dog <extra_id_1> the <extra_id_2>"
    batch = mt5.tokenizer(text, text_target=gaps, return_tensors="pt")
    found = [number for number in batch["labels"][0].tolist() if number in mt5.tokenizer.get_sentinel_token_ids()]
    assert found == mt5.tokenizer.get_sentinel_token_ids()[:3]
    output = from_pretrained(mt5.folder, task="seq2seq-lm").eval()(**batch)
    assert output.logits.shape == (1, batch["labels"].shape[1], 1128)
    theirs = mt5.reference(text, text_target=gaps, return_tensors="pt")
    torch.testing.assert_close(output.loss, reference_model("MT5ForConditionalGeneration", mt5)(**theirs).loss)


def test_t5gemma_answers_a_conversation(gemma: Case) -> None:
    options = {"add_generation_prompt": True, "tokenize": False}
    text = gemma.tokenizer.apply_chat_template(HELLO, **options)
    assert text == gemma.reference.apply_chat_template(HELLO, **options)
    assert text.rstrip().endswith("<start_of_turn>model")
    batch = gemma.tokenizer(text, add_special_tokens=False, return_tensors="pt")
    model = from_pretrained(gemma.folder, task="seq2seq-lm").to(torch.bfloat16).eval()
    written = model.generate(**batch, max_new_tokens=32)
    assert 2 <= written.shape[1] <= 33
    assert all(isinstance(answer, str) for answer in gemma.tokenizer.batch_decode(written, skip_special_tokens=True))
    greedy = {"max_new_tokens": 32, "do_sample": False}
    expected = reference_model("T5GemmaForConditionalGeneration", gemma).generate(**batch, **greedy)
    exact = from_pretrained(gemma.folder, task="seq2seq-lm").eval().generate(**batch, **greedy)
    assert exact.tolist() == expected.tolist()


def test_t5gemma_tags_tokens(gemma: Case) -> None:
    text = "HuggingFace is a company based in Paris and New York"
    batch = gemma.tokenizer(text, add_special_tokens=False, return_tensors="pt")
    assert batch["input_ids"].tolist() == [gemma.reference(text, add_special_tokens=False)["input_ids"]]
    model = from_pretrained(gemma.folder, task="token-classification", num_labels=3).eval()
    predicted = model(**batch).logits.argmax(-1)
    assert predicted.shape == batch["input_ids"].shape
    assert predicted.shape[1] > len(text.split())
    loss = model(**batch, labels=predicted).loss
    assert loss.shape == ()
    assert loss.isfinite()
