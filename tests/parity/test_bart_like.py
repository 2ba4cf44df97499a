"""What bart and its variants do besides what every architecture does: texts moved by one, tables left out of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from eir_seq.errors import UserError
from eir_seq.models import create_model, from_pretrained
from eir_seq.models.heads.sequence_classification import shifted_right
from tests.parity.cases import CASES, Case
from tests.parity.cases.bart_like import BART, MARIAN, SCALED, true_waves
from tests.parity.harness import Pair, difference, inputs_of, pair, real_places, transformers

BY_NAME = {case.name: case for case in CASES}
SHIFTING = ("bart", "mbart", "mvp", "plbart")
GIVEN = ("blenderbot", "blenderbot-small", "marian", "pegasus")
DECODER = ("decoder_input_ids", "decoder_attention_mask")


def without(inputs: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: x for name, x in inputs.items() if name not in names}


def close(ours: Any, theirs: Any, *names: str) -> None:
    assert names
    for name in names:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [*SHIFTING, *GIVEN])
def test_labels_alone(name: str, tmp_path: Path) -> None:
    """Decoder tokens are the labels moved by one: behind a start token, or behind their own last token."""
    both = pair(BY_NAME[name], "seq2seq-lm", tmp_path)
    inputs = inputs_of(BY_NAME[name], both.reference.config)
    labels = inputs["decoder_input_ids"].masked_fill(inputs["decoder_attention_mask"] == 0, -100)
    labels[1, 3] = -100
    given = without(inputs, *DECODER)
    close(both.ours(**given, labels=labels), both.reference(**given, labels=labels), "loss", "logits")


def test_a_text_begins_with_its_own_last_token() -> None:
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, -100, -100], [1, 1, 1, 1]])
    assert shifted_right(ids, None, 1).tolist() == [[8, 5, 6, 7], [6, 5, 6, 1], [1, 1, 1, 1]]
    assert shifted_right(ids, 2, 1).tolist() == [[2, 5, 6, 7], [2, 5, 6, 1], [2, 1, 1, 1]]


@pytest.mark.parametrize("task", ["base", "seq2seq-lm"])
@pytest.mark.parametrize("name", [*SHIFTING, *GIVEN])
def test_no_decoder_tokens(name: str, task: str, tmp_path: Path) -> None:
    """Some read the source itself then, moved by one; others must be given some."""
    both = pair(BY_NAME[name], task, tmp_path)
    given = without(inputs_of(BY_NAME[name], both.reference.config), *DECODER)
    if name in GIVEN:
        with pytest.raises(ValueError, match="exactly one of decoder_input_ids and decoder_inputs_embeds"):
            both.ours(**given)
        return
    ours, theirs = both.ours(**given), both.reference(**given)
    output = "last_hidden_state" if task == "base" else "logits"
    both.ours.pack = False
    assert difference(ours[output], theirs[output], given["attention_mask"].bool()) < 1e-5
    start = None if name in ("mbart", "plbart") else both.ours.config.decoder_start_token_id
    by_hand = shifted_right(given["input_ids"], start, both.ours.config.pad_token_id)
    close(both.ours(**given, decoder_input_ids=by_hand), both.ours(**given), output)
    with pytest.raises(ValueError, match="exactly one of decoder_input_ids"):
        both.ours(inputs_embeds=torch.zeros(3, 24, 32), attention_mask=given["attention_mask"])


MASKS = {
    "head_mask": torch.tensor([[1.0, 0.0, 0.5, 1.0], [0.0, 1.0, 1.0, 0.25]]),
    "decoder_head_mask": torch.tensor([[0.5, 1.0, 1.0, 0.0], [1.0, 0.0, 0.75, 1.0]]),
    "cross_attn_head_mask": torch.tensor([[0.0, 1.0, 0.25, 1.0], [1.0, 1.0, 0.0, 0.5]]),
}


@pytest.mark.parametrize("name", [*SHIFTING, *GIVEN])
def test_every_head_mask(name: str, tmp_path: Path) -> None:
    both = pair(BY_NAME[name], "base", tmp_path)
    inputs = inputs_of(BY_NAME[name], both.reference.config)
    for masks in (*({one: mask} for one, mask in MASKS.items()), MASKS):
        ours, theirs = both.ours(**inputs, **masks), both.reference(**inputs, **masks)
        assert difference(ours.last_hidden_state, theirs.last_hidden_state, real_places(inputs)) < 1e-5


@pytest.mark.parametrize("name", ["bart@scaled", "pegasus@scaled", "marian@two_tables", "blenderbot-small@scaled"])
def test_vectors_for_the_decoder(name: str, tmp_path: Path) -> None:
    """Some scale vectors that they are given, some do not."""
    both = pair(BY_NAME[name], "base", tmp_path)
    inputs = inputs_of(BY_NAME[name], both.reference.config)
    places = real_places(inputs)
    given = without(inputs, "decoder_input_ids", "input_ids")
    generator = torch.Generator().manual_seed(8)
    given |= {
        "inputs_embeds": torch.randn(*inputs["input_ids"].shape, 32, generator=generator),
        "decoder_inputs_embeds": torch.randn(*places.shape, 32, generator=generator),
    }
    assert difference(both.ours(**given).last_hidden_state, both.reference(**given).last_hidden_state, places) < 1e-5


def test_states_of_an_encoder_that_has_run(tmp_path: Path) -> None:
    """As an output, a tuple or a list; all that they hold is in the output again, in the documented order."""
    both = pair(BY_NAME["bart"], "seq2seq-lm", tmp_path)
    inputs = inputs_of(BY_NAME["bart"], both.reference.config)
    wanted = {"output_hidden_states": True, "output_attentions": True}
    encoded = both.ours.body.encoder(inputs["input_ids"], inputs["attention_mask"], **wanted)
    whole = both.ours(**inputs, **wanted, use_cache=True)
    assert list(whole) == list(both.reference(**inputs, **wanted))
    parts = (encoded.last_hidden_state, encoded.hidden_states, encoded.attentions)
    for outputs in (encoded, parts, list(parts)):
        again = both.ours(**without(inputs, "input_ids"), encoder_outputs=outputs, **wanted, use_cache=True)
        assert list(again) == list(whole)
        close(again, whole, "logits", "encoder_last_hidden_state")
        assert all(map(torch.equal, again.encoder_attentions, whole.encoder_attentions))
        assert all(map(torch.equal, again.encoder_hidden_states, whole.encoder_hidden_states))
    with pytest.raises(ValueError, match="exactly one of decoder_input_ids"):
        both.ours(encoder_outputs=parts)


# ------------------------------------------------------------------------------------------------------------ files


def rewrite(folder: Path, change: Any) -> None:
    """The weights of a folder, changed."""
    tensors = change(load_file(folder / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["bart", "pegasus"])
def test_one_name_of_the_token_table_is_enough(name: str, tmp_path: Path) -> None:
    """Each side, and both, from files that know the table by any of its names."""
    both = pair(BY_NAME[name], "seq2seq-lm", tmp_path)
    table = both.reference.get_input_embeddings().weight
    names = ("shared", "encoder.embed_tokens", "decoder.embed_tokens")
    for kept in names:

        def rename(tensors: dict[str, Any], kept: str = kept) -> dict[str, Any]:
            held = {
                name: x for name, x in tensors.items() if not name.endswith(("embed_tokens.weight", "shared.weight"))
            }
            return {**without(held, "lm_head.weight"), f"model.{kept}.weight": table.detach().clone()}

        rewrite(tmp_path, rename)
        for task in ("base", "seq2seq-lm", "encoder", "causal-lm"):
            if (kept.partition(".")[0], task) in (("encoder", "causal-lm"), ("decoder", "encoder")):
                continue
            model: Any = from_pretrained(tmp_path, task=task)
            assert model.load_report.initialised == (), (kept, task)
            assert torch.equal(model.body.embeddings.tokens.weight, table)


def test_parts_of_a_whole_file(tmp_path: Path) -> None:
    """Encoder and decoder by themselves give what they give in the whole."""
    both = pair(BY_NAME["mbart"], "seq2seq-lm", tmp_path)
    inputs = inputs_of(BY_NAME["mbart"], both.reference.config)
    whole = both.reference(**inputs)
    encoder: Any = from_pretrained(tmp_path, task="encoder")
    found = encoder(inputs["input_ids"], inputs["attention_mask"]).last_hidden_state
    assert difference(found, whole.encoder_last_hidden_state, inputs["attention_mask"].bool()) < 1e-5
    assert all(
        name.startswith(("model.decoder.", "lm_head", "final_logits_bias")) for name in encoder.load_report.unused
    )
    decoder: Any = from_pretrained(tmp_path, task="causal-lm")
    logits = decoder(
        inputs["decoder_input_ids"], inputs["decoder_attention_mask"],
        encoder_hidden_states=whole.encoder_last_hidden_state, encoder_attention_mask=inputs["attention_mask"],
    ).logits  # fmt: skip
    assert difference(logits, whole.logits, real_places(inputs)) < 1e-5


@pytest.mark.parametrize("name", ["marian", "pegasus"])
def test_files_without_what_can_be_computed(name: str, tmp_path: Path) -> None:
    """Tables of sinusoids and the bias of the scores, which is zero then."""
    both = pair(BY_NAME[name], "seq2seq-lm", tmp_path)
    true_waves(both.reference)
    rewrite(tmp_path, lambda tensors: {
        name: x for name, x in tensors.items() if "embed_positions" not in name and name != "final_logits_bias"
    })  # fmt: skip
    model: Any = from_pretrained(tmp_path)
    assert model.load_report.initialised == ()
    inputs = inputs_of(BY_NAME[name], both.reference.config)
    assert difference(model(**inputs).logits, both.reference(**inputs).logits, real_places(inputs)) < 1e-5
    assert not any(p.requires_grad for name, p in model.named_parameters() if "positions" in name)


@pytest.mark.parametrize(("name", "task"), [("marian", "base"), ("pegasus", "seq2seq-lm"), ("pegasus", "causal-lm")])
def test_fresh_tables_of_waves(name: str, task: str, tmp_path: Path) -> None:
    """As in the reference implementation, and as in a file that leaves them out: a model stays the same when saved."""
    model = create_model(name, BY_NAME[name].options, task=task)
    model.save_pretrained(tmp_path)
    rewrite(tmp_path, lambda tensors: {name: x for name, x in tensors.items() if "embed_positions" not in name})
    reference = getattr(transformers, model.declared.published).from_pretrained(tmp_path)
    expected = [x for name, x in reference.named_parameters() if "embed_positions" in name]
    for loaded in (model, from_pretrained(tmp_path, task=task)):
        found = [x for name, x in loaded.named_parameters() if "positions" in name]
        assert len(found) == len(expected) == (1 if task == "causal-lm" else 2)
        for table in found:
            torch.testing.assert_close(table, expected[0])


def test_a_bias_of_the_scores(tmp_path: Path) -> None:
    """It counts, is saved, and is not trained."""
    both = pair(BY_NAME["bart"], "seq2seq-lm", tmp_path / "first")
    inputs = inputs_of(BY_NAME["bart"], both.reference.config)
    both.reference.final_logits_bias.copy_(torch.linspace(-3, 3, 120)[None])
    both.reference.save_pretrained(tmp_path / "first")
    model: Any = from_pretrained(tmp_path / "first")
    expected = both.reference(**inputs).logits
    assert difference(model(**inputs).logits, expected, real_places(inputs)) < 1e-5
    model.save_pretrained(tmp_path / "second")
    assert difference(from_pretrained(tmp_path / "second")(**inputs).logits, expected, real_places(inputs)) < 1e-5
    assert not any("final_logits_bias" in name for name, _ in model.named_parameters())


# ---------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize("vocabulary", [90, 150])
def test_a_vocabulary_of_the_decoders_own(vocabulary: int, tmp_path: Path) -> None:
    """Smaller or larger than the encoder's."""
    own = {"decoder_vocab_size": vocabulary, "share_encoder_decoder_embeddings": False}

    def widen(model: Any) -> None:
        """The reference's fresh table has the encoder's size."""
        true_waves(model)
        model.resize_decoder_token_embeddings(vocabulary)

    case = Case("marian", {**MARIAN, **own, "scale_embedding": True}, mend=widen)
    both: Pair = pair(case, "seq2seq-lm", tmp_path)
    inputs = inputs_of(case, both.reference.config)
    inputs["decoder_input_ids"] %= 90
    inputs["decoder_input_ids"][0, 1] = vocabulary - 1
    labels = inputs["decoder_input_ids"].masked_fill(~real_places(inputs), -100)
    ours = both.ours(**inputs, labels=labels)
    theirs = both.reference(**inputs, labels=labels)
    close(ours, theirs, "loss")
    assert difference(ours.logits, theirs.logits, real_places(inputs)) < 1e-5
    assert ours.logits.shape[-1] == vocabulary
    source = without(inputs, *DECODER)
    more: dict[str, Any] = {"max_new_tokens": 8, "forced_bos_token_id": vocabulary - 1}
    assert torch.equal(both.ours.generate(**source, **more), both.reference.generate(**source, **more, use_cache=False))
    decoder: Any = from_pretrained(tmp_path, task="causal-lm")
    assert decoder.load_report.initialised == ()
    assert decoder(inputs["decoder_input_ids"]).logits.shape[-1] == vocabulary
    with pytest.raises(UserError, match=f"decoder_start_token_id: {vocabulary} is outside the vocabulary"):
        both.ours.generate(**source, decoder_start_token_id=vocabulary)


def test_a_decoder_without_the_other_side(tmp_path: Path) -> None:
    both = pair(BY_NAME["bart"], "causal-lm", tmp_path)
    plain: Any = from_pretrained(tmp_path, add_cross_attention=False)
    ids = inputs_of(BY_NAME["bart"], both.reference.config)["input_ids"]
    close(plain(ids), both.reference(ids), "logits")
    assert not any("cross" in name for name, _ in plain.named_parameters())
    assert plain.load_report.initialised == ()
    with pytest.raises(ValueError, match="encoder_hidden_states: no layer of this model attends to"):
        plain(ids, encoder_hidden_states=torch.zeros(3, 4, 32))


@pytest.mark.parametrize("side", ["encoder", "decoder"])
@pytest.mark.parametrize("name", ["bart", "pegasus"])
def test_layers_left_out_in_training(name: str, side: str) -> None:
    """Where each layer is left out, there is no layer; in evaluation all are there."""
    options = {**BART, "dropout": 0.0}
    torch.manual_seed(0)
    model = create_model(name, {**options, f"{side}_layerdrop": 1.0}).eval()
    ids = torch.randint(11, 120, (2, 7))
    given = {"input_ids": ids, "decoder_input_ids": ids}
    whole = model(**given).last_hidden_state
    model.train()
    torch.manual_seed(0)
    with_none = create_model(name, {**options, f"{side}_layerdrop": 0.0}).train()
    assert torch.equal(with_none(**given).last_hidden_state, whole)
    for layer in getattr(with_none.body, side).layers:
        layer.forward = lambda x, ctx: x
    assert torch.equal(model(**given).last_hidden_state, with_none(**given).last_hidden_state)
    assert not torch.equal(model(**given).last_hidden_state, whole)


def test_a_chat_does_not_repeat_its_source(tmp_path: Path) -> None:
    """Blenderbot's option reaches generation."""
    both = pair(BY_NAME["blenderbot"], "seq2seq-lm", tmp_path, encoder_no_repeat_ngram_size=1)
    source = without(inputs_of(BY_NAME["blenderbot"], both.reference.config), *DECODER)
    first = {name: x[:1] for name, x in source.items()}
    found: Any = both.ours.generate(**first, max_new_tokens=20)
    assert torch.equal(found, both.reference.generate(**first, max_new_tokens=20, use_cache=False))
    assert not set(found[0, 1:-1].tolist()) & set(first["input_ids"][0].tolist())


@pytest.mark.parametrize(
    ("name", "options", "fault"),
    [
        ("bart", {"d_model": 30}, "d_model: 30 is not divisible by encoder_attention_heads 4"),
        ("bart", {"decoder_attention_heads": 3}, "d_model: 32 is not divisible by decoder_attention_heads 3"),
        ("bart", {"pad_token_id": 120}, "pad_token_id: 120 is outside the vocabulary of 120 tokens"),
        ("mvp", {"decoder_start_token_id": 300}, "decoder_start_token_id: 300 is outside the vocabulary of 120 tokens"),
        ("marian", {}, "pad_token_id: 58100 is outside the vocabulary of 120 tokens"),
        (
            "marian",
            {**MARIAN, "decoder_vocab_size": 90},
            "decoder_vocab_size: 90 is not vocab_size 120: sides that share their table have one vocabulary",
        ),
        ("pegasus", {"is_encoder_decoder": False}, "is_encoder_decoder: False is not one of True"),
        ("mbart", {"hidden_size": 32}, "hidden_size: given twice: 'hidden_size' and 'd_model' are one option"),
        ("blenderbot", {"scale_embeddings": True}, "scale_embeddings: not an option of 'blenderbot'"),
    ],
)
def test_options_that_cannot_be(name: str, options: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError) as raised:
        create_model(name, {**BART, **options})
    assert fault in str(raised.value)


def test_a_start_that_a_small_vocabulary_lacks() -> None:
    """Published decoders of marian begin with padding; so do those of a vocabulary without the documented token."""
    model: Any = create_model("marian", {**BART, "pad_token_id": 7, "eos_token_id": 3}, task="seq2seq-lm").eval()
    ids = torch.randint(11, 120, (2, 6))
    first = torch.cat((torch.full((2, 1), 7), ids[:, :-1]), 1)
    assert torch.equal(model(ids, labels=ids).logits, model(ids, decoder_input_ids=first).logits)
    assert model.generate(ids, max_new_tokens=3)[:, 0].tolist() == [7, 7]


def test_scaled_rows_differ_from_plain_ones() -> None:
    """The rows of the table above do switch what they say."""
    assert SCALED["scale_embedding"]
    assert SCALED["encoder_layers"] != SCALED["decoder_layers"]
