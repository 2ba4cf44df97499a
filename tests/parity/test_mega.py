"""Mega: chunks, caches, norms over batches, options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from eir_seq.backbones import sees_ahead
from eir_seq.errors import UserError
from eir_seq.models import create_model, from_pretrained
from eir_seq.models.model import Model
from tests.parity.cases import CASES, VOCABULARY, Case
from tests.parity.harness import difference, inputs_of, pair, transformers

ROW = {case.name: case for case in CASES if case.model_type == "mega"}
DECODERS = [case for name, case in ROW.items() if "decoder" in name]
IDS = torch.randint(11, VOCABULARY, (3, 23), generator=torch.Generator().manual_seed(1))
NO_DROPOUT = dict.fromkeys(
    ("dropout_prob", "hidden_dropout_prob", "attention_probs_dropout_prob", "nffn_activation_dropout_prob"), 0.0
)
named: dict[str, Any] = {"ids": lambda case: case.name if isinstance(case, Case) else str(case)}


def noisy(name: str = "mega", **options: Any) -> Model:
    torch.manual_seed(0)
    model = create_model("mega", {**ROW[name].options, **options}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


# ------------------------------------------------------------------------------------------------ chunks and caches


@pytest.mark.parametrize("name", ["mega@chunks", "mega@laplace", "mega@decoder_chunks"])
def test_attention_weights_of_chunks(name: str, tmp_path: Path) -> None:
    """(batch, chunks, queries, keys), as the reference's."""
    both = pair(ROW[name], "base", tmp_path)
    inputs = inputs_of(ROW[name], both.reference.config)
    theirs, ours = (model(**inputs, output_attentions=True).attentions for model in (both.reference, both.ours))
    size = both.ours.config.chunk_size
    real = F.pad(inputs["attention_mask"].bool(), (0, -24 % size)).unflatten(1, (-1, size))
    for our_weights, their_weights in zip(ours, theirs, strict=True):
        assert our_weights.shape == (3, -(-24 // size), size, size)
        assert difference(our_weights, their_weights, real) < 1e-5


def test_attention_weights_stand_where_tokens_do() -> None:
    """A text padded in front has those of the text alone."""
    model, mask = noisy(), torch.ones_like(IDS)
    mask[:, :6] = 0
    alone = model(IDS[:, 6:], output_attentions=True).attentions
    padded = model(IDS, mask, output_attentions=True).attentions
    assert all(difference(a[:, :, 6:, 6:], b) < 1e-5 for a, b in zip(padded, alone, strict=True))


@pytest.mark.parametrize("weighting", ["softmax", "laplace", "relu2"])
def test_chunks_do_not_see_each_other(weighting: str) -> None:
    """But by averages: where these reach no further than the token itself, a chunk is a text of its own."""
    model = noisy(use_chunking=True, chunk_size=5, truncation=1, attention_activation=weighting)
    whole = model(IDS).last_hidden_state
    parts = torch.cat([model(part).last_hidden_state for part in IDS.split(5, 1)], 1)
    assert difference(whole, parts) < 1e-5
    longer = noisy(use_chunking=True, chunk_size=5, truncation=2, attention_activation=weighting)(IDS).last_hidden_state
    assert difference(longer, whole) > 1e-3


@pytest.mark.parametrize("pieces", [(2, 21), (13, 1, 9), (22, 1), (1,) * 23], ids=str)
@pytest.mark.parametrize("case", [*DECODERS, 1, 3], **named)
def test_pieces_are_the_whole(case: Case | int, pieces: tuple[int, ...]) -> None:
    """In one row, padded in front, or with padding within the text, which ends a prompt and goes on; chunks by size."""
    model = noisy(case.name) if isinstance(case, Case) else noisy("mega@decoder", use_chunking=True, chunk_size=case)
    mask = torch.ones_like(IDS)
    mask[1, :9] = mask[2, 5:14] = 0
    for given in (None, mask):
        whole = model(IDS, given).last_hidden_state
        found, cache, end = [], None, 0
        for piece in IDS.split(pieces, 1):
            end += piece.shape[1]
            seen = None if given is None else given[:, :end]
            output = model(piece, seen, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            found.append(output.last_hidden_state)
        assert difference(torch.cat(found, 1), whole, None if given is None else mask.bool()) < 1e-5


def test_rows_of_a_cache_change_places() -> None:
    for case in DECODERS:
        model, rows = noisy(case.name), torch.tensor([2, 0, 0])
        cache = model(IDS[:, :12], use_cache=True).past_key_values
        cache.reorder(rows)
        found = model(IDS[:, 12:], past_key_values=cache).last_hidden_state
        expected = model(torch.cat((IDS[rows, :12], IDS[:, 12:]), 1)).last_hidden_state[:, 12:]
        assert difference(found, expected) < 1e-5


def test_a_cache_of_chunks_does_not_grow() -> None:
    model = noisy("mega@decoder_chunks")
    with torch.no_grad():
        cache = model(IDS, use_cache=True).past_key_values
        for layer in model.body.layers:
            assert cache.read(layer.mixer)[0].shape[2] == 9
            assert cache.state(layer.mixer.average)[0].shape == (3, 4, 32)


def test_attention_weights_of_new_tokens() -> None:
    for name in ("mega@decoder", "mega@decoder_chunks"):
        model = noisy(name)
        cache = model(IDS[:, :20], use_cache=True).past_key_values
        weights = model(IDS[:, 20:], past_key_values=cache, output_attentions=True).attentions[0]
        whole = model(IDS, output_attentions=True).attentions[0]
        if name == "mega@decoder":
            assert difference(weights, whole[:, :, 20:]) < 1e-5
        else:  # the third chunk begins at the twentieth token; nine in front of it are still held
            assert difference(weights[..., 9:], whole[:, 2:, :3, :3]) < 1e-5
            assert not weights[..., :9].any()


# ----------------------------------------------------------------------------------------------------------- norms


@pytest.mark.parametrize("kind", ["batchnorm", "syncbatchnorm"])
def test_norms_over_batches_in_training(kind: str, tmp_path: Path) -> None:
    """Without padding, states and running moments are the reference's."""
    case = Case("mega", {**ROW["mega@batchnorm"].options, **NO_DROPOUT, "normalization_type": kind})
    both = pair(case, "base", tmp_path)
    for _ in range(2):
        theirs, ours = (model.train()(IDS).last_hidden_state for model in (both.reference, both.ours))
        assert difference(ours, theirs) < 1e-5
    both.ours.save_pretrained(tmp_path / "back")
    again = type(both.reference).from_pretrained(tmp_path / "back").state_dict()
    for name, tensor in both.reference.state_dict().items():
        assert again[name].dtype is tensor.dtype
        assert difference(again[name].double(), tensor.double()) < 1e-5, name
    counts = {int(x) for name, x in again.items() if name.endswith("num_batches_tracked")}
    assert counts == {2}
    reread = from_pretrained(tmp_path / "back")
    assert difference(reread(IDS).last_hidden_state, both.ours.eval()(IDS).last_hidden_state) == 0


def test_norms_over_batches_leave_padding_out() -> None:
    """In training, whatever stands at padding, and packed or not."""
    mask = torch.ones_like(IDS)
    mask[1, 9:] = mask[2, :15] = 0
    found = []
    for pack in (True, False):
        for ids in (IDS, IDS.masked_fill(mask == 0, 7)):
            model = noisy("mega@batchnorm", **NO_DROPOUT).train()
            model.pack = pack
            found.append((model(ids, mask).last_hidden_state, *model.saved_buffers().values()))
    for states, *moments in found[1:]:
        assert difference(states, found[0][0], mask.bool()) < 1e-5
        assert all(difference(a.double(), b.double()) < 1e-5 for a, b in zip(moments, found[0][1:], strict=True))


# --------------------------------------------------------------------------------------- dropout, options


def test_every_dropout_of_channels_acts() -> None:
    """Each rate by itself changes what training makes of a text."""
    for rate in NO_DROPOUT:
        model = noisy(**{**NO_DROPOUT, rate: 0.5}, use_feature_dropout=True)
        assert not torch.allclose(model.train()(IDS).last_hidden_state, model.eval()(IDS).last_hidden_state)


@pytest.mark.parametrize(("options", "task", "message"), [
    ({"use_chunking": True}, "base", r"chunk_size: -1: a chunk has 1 token or more \(use_chunking is true\)"),
    ({"chunk_size": 0}, "base", "chunk_size: 0: a chunk has 1 token or more, -1 stands for none"),
    ({"chunk_size": 65, "relative_positional_bias": "simple"}, "base", "chunk_size: 65 exceeds max_positions 64, whic"),
    ({"shared_representation_size": 15}, "base", "shared_representation_size: 15 is odd: rotary biases rotate pairs"),
    ({"pad_token_id": 120}, "base", "pad_token_id: 120 is outside the vocabulary of 120"),
    ({"is_decoder": True}, "masked-lm", "bidirectional: is_decoder: true needs false, or each token"),
    ({"normalization_type": "instancenorm"}, "base", "normalization_type: 'instancenorm' is not one of"),
])  # fmt: skip
def test_options_that_cannot_be(options: dict[str, Any], task: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        create_model("mega", {**ROW["mega"].options, **options}, task=task)


def test_how_long_a_text_may_be() -> None:
    """Only simple biases have a bound, and none where a chunk is within it."""
    simple = {"relative_positional_bias": "simple", "max_positions": 20}
    model = noisy(**simple)
    assert model.max_positions == 20
    with pytest.raises(ValueError, match="a text of 23 tokens: distances are known up to 20 tokens"):
        model(IDS)
    assert noisy(**simple, chunk_size=8).max_positions == 8
    for free in (noisy(), noisy(**simple, chunk_size=8, use_chunking=True)):
        assert free.max_positions is None
        assert torch.isfinite(free(IDS).last_hidden_state).all()


def test_a_published_decoder_that_reads_both_directions(tmp_path: Path) -> None:
    """Its average has other shapes; the line says why and what to do, and doing so works."""
    both_ways = {**ROW["mega"].options, "is_decoder": True, "bidirectional": True}
    config = transformers.CONFIG_MAPPING["mega"](**both_ways)
    transformers.MegaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(
        UserError, match=r"needs bidirectional: False \(the file has True\).*is_decoder=False"
    ) as caught:
        from_pretrained(tmp_path)
    assert len(caught.value.faults) == 1
    assert not any(
        "embedding" in name
        for name in from_pretrained(tmp_path, task="masked-lm", is_decoder=False).load_report.initialised
    )
    again = from_pretrained(tmp_path, ignore_mismatched_sizes=True)
    assert again.load_report.mismatched
    assert all(".ema." in name or "average" in name for name in again.load_report.mismatched), again.load_report


def test_a_decoder_is_one() -> None:
    """The task makes it one; no state depends on later tokens."""
    assert create_model("mega", ROW["mega"].options, task="causal-lm").config.bidirectional is False
    for case in DECODERS:
        model, changed = noisy(case.name), IDS.clone()
        changed[:, 15] = 5
        before, after = (model(ids).last_hidden_state for ids in (IDS, changed))
        assert difference(before[:, :15], after[:, :15]) < 1e-6
        assert difference(before[:, 15], after[:, 15]) > 1e-3
    assert not sees_ahead(create_model("mega", {"vocab_size": VOCABULARY}, task="causal-lm"), "causal-lm")


def test_reference_norm_is_mended_with_reason(tmp_path: Path) -> None:
    """Its root-mean-square norm multiplies by the weight and throws the norm away; ours is the documented one."""
    both = pair(Case("mega", {**ROW["mega"].options, "normalization_type": "rmsnorm"}), "base", tmp_path)
    assert difference(both.ours(IDS).last_hidden_state, both.reference(IDS).last_hidden_state) > 1e-2
