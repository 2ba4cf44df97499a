from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.config.schema import DataConfig
from eir_seq.data.encoded import EncodedInMemory
from eir_seq.errors import UserError
from eir_seq.modalities import build_modality, load_modality
from eir_seq.modalities.encoders.backbone import SequenceEncoder, flat_states, pool_states
from eir_seq.modalities.sequence.config import SequenceInputConfig
from eir_seq.modalities.sequence.fitted import FittedSequence
from eir_seq.models import create_model, from_pretrained
from eir_seq.randomness import Draw
from eir_seq.rows import Rows

ROWS = Rows.of({"text": ["one two three", "four five", "six"], "other": ["a b", "c", "d e f"]})
TINY = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
DATA = DataConfig()


def fit(model: dict[str, Any], **options: Any) -> FittedSequence:
    model = {"model_type": "bert", "model_init_config": TINY, **model}
    config = SequenceInputConfig.model_validate({"column": "text", "max_length": 16, "model": model, **options})
    fitted = build_modality("review", config).fit(ROWS, 0)
    assert isinstance(fitted, FittedSequence)
    return fitted


def encode(fitted: FittedSequence, encoder: SequenceEncoder) -> torch.Tensor:
    output = encoder(**fitted.collator(EncodedInMemory(fitted, ROWS[:]), range(3), Draw(0)))
    assert isinstance(output, torch.Tensor)
    return output


STATES = torch.tensor([[[1.0, 9.0], [3.0, 1.0], [1e30, -1e30]], [[2.0, 2.0], [float("nan"), 0.0], [5.0, 5.0]]])
MASK = torch.tensor([[True, True, False], [True, False, False]])


@pytest.mark.parametrize(
    ("pool", "pooled"),
    [
        ("avg", [[2.0, 5.0], [2.0, 2.0]]),
        ("max", [[3.0, 9.0], [2.0, 2.0]]),
        ("first", [[1.0, 9.0], [2.0, 2.0]]),
        ("last", [[3.0, 1.0], [2.0, 2.0]]),
    ],
)
def test_pooling_sees_real_tokens_only(pool: Any, pooled: list[list[float]]) -> None:
    assert pool_states(STATES, MASK, pool).tolist() == pooled
    left = pool_states(STATES.flip(1), MASK.flip(1), pool)  # padding on the left
    mirrored = {"first": [[3.0, 1.0], [2.0, 2.0]], "last": [[1.0, 9.0], [2.0, 2.0]]}.get(pool, pooled)
    assert left.tolist() == mirrored


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_mean_has_gradients_of_real_tokens_only(dtype: torch.dtype) -> None:
    states = torch.randn(3, 4, 2, dtype=dtype, requires_grad=True)
    mask = torch.tensor([[True, False, True, True], [False] * 4, [True] * 4])  # a hole, no tokens, no padding
    mean = pool_states(states, mask, "avg")
    plain = (states * mask[..., None]).sum(1) / torch.tensor([[3], [1], [4]])
    torch.testing.assert_close(mean, plain)
    given = torch.randn_like(mean)
    found, expected = (torch.autograd.grad((x * given).sum(), states)[0] for x in (mean, plain))
    torch.testing.assert_close(found, expected)
    assert not found[~mask].any()
    if dtype is torch.float64:
        assert torch.autograd.gradgradcheck(lambda x: pool_states(x, mask, "avg"), states)


@pytest.mark.parametrize("pool", ["avg", "max", "first", "last", "pooler"])
def test_a_row_does_not_depend_on_its_batch(pool: str) -> None:
    fitted = fit({"pool": pool})
    encoder = fitted.build_encoder(DATA).eval()
    together = encode(fitted, encoder)
    assert together.shape == (3, 8)
    assert encoder.output_size == encoder.hidden_size == 8
    alone = encoder(**fitted.collator(EncodedInMemory(fitted, ROWS[:]), [2], Draw(0)))
    torch.testing.assert_close(together[2:], alone, atol=1e-6, rtol=0)


T5GEMMA_SIDE = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "head_dim": 4,
                "num_key_value_heads": 1, "intermediate_size": 8}  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        ("bert", TINY),
        ("roberta", TINY),
        ("distilbert", {"n_layers": 1, "dim": 8, "n_heads": 2, "hidden_dim": 8}),
        ("gpt2", {"n_layer": 1, "n_embd": 8, "n_head": 2}),
        ("t5", {"num_layers": 1, "d_model": 8, "d_kv": 4, "num_heads": 2, "d_ff": 8}),
        ("t5gemma", {"encoder": T5GEMMA_SIDE, "decoder": {}}),
        (
            "switch_transformers",
            {
                "num_layers": 2,
                "d_model": 8,
                "d_kv": 4,
                "num_heads": 2,
                "d_ff": 8,
                "num_experts": 2,
                "num_sparse_encoder_layers": 1,
            },
        ),
        ("xlm", {"n_layers": 1, "emb_dim": 8, "n_heads": 2}),
    ],
)
def test_backbones_take_ids_of_the_tokenizer(model_type: str, options: dict[str, Any]) -> None:
    fitted = fit({"model_type": model_type, "model_init_config": options}, pair_column="other")
    encoder = fitted.build_encoder(DATA)
    config: Any = encoder.backbone.config
    assert config.vocab_size == fitted.tokenizer.vocab_size
    assert config.pad_token_id == getattr(config, "pad_index", 0) == 0
    output = encode(fitted, encoder)
    assert output.shape == (3, 8)
    output.sum().backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert without == [], "every parameter of an encoder is trained"


def test_options_of_the_user_stay() -> None:
    encoder = fit({"model_init_config": {**TINY, "vocab_size": 100, "pad_token_id": 3}}).build_encoder(DATA)
    config: Any = encoder.backbone.config
    assert (config.vocab_size, config.pad_token_id) == (100, 3)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (
            {"model_init_config": {**TINY, "vocab_size": 7}},
            {},
            r"^inputs\.review\.tokenizer: there are 11 tokens, the model has embeddings for 7$",
        ),
        (
            {"model_init_config": {**TINY, "max_position_embeddings": 12}},
            {},
            r"^inputs\.review\.max_length: 16 tokens are more than the 12 positions of 'bert'",
        ),
        (
            {"model_type": "gpt2", "model_init_config": {"n_layer": 1, "n_embd": 8, "n_head": 2}, "pool": "pooler"},
            {},
            r"^inputs\.review\.model\.pool: 'gpt2' has no pooler; use avg, max, first or last$",
        ),
        (
            {"model_init_config": {**TINY, "hiden_size": 8}},
            {},
            r"^inputs\.review\.model\.model_init_config\.hiden_size: not an option of 'bert'; did you mean",
        ),
        ({"model_type": "brt"}, {}, r"brt"),
    ],
)
def test_models_that_do_not_fit_are_refused(model: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit(model, **options).build_encoder(DATA)


def test_all_that_does_not_fit_is_said_at_once() -> None:
    options = {**TINY, "vocab_size": 7, "max_position_embeddings": 12}
    with pytest.raises(UserError) as caught:
        fit({"model_init_config": options}).build_encoder(DATA)
    assert len(caught.value.faults) == 2


def test_packing_can_be_switched_off() -> None:
    fitted = fit({})
    assert fitted.build_encoder(DataConfig(packing="never")).backbone.pack is False
    assert fitted.build_encoder(DATA).backbone.pack is True


@pytest.fixture
def published(tmp_path: Path) -> str:
    """A folder as one finds it on the Hub: model and tokenizer."""
    fitted = fit({})
    options = {**TINY, "vocab_size": fitted.tokenizer.vocab_size, "hidden_dropout_prob": 0.5}
    create_model("bert", options).save_pretrained(tmp_path / "published")
    fitted.tokenizer.save(tmp_path / "published")
    return str(tmp_path / "published")


def test_published_weights_are_loaded_and_trained_with_dropout(published: str) -> None:
    fitted = fit({"model_type": published, "pretrained_model": True, "model_init_config": {}})
    encoder = fitted.build_encoder(DATA)
    expected = dict(from_pretrained(published, task="base").named_parameters())
    for name, parameter in encoder.backbone.named_parameters():
        assert torch.equal(parameter, expected[name])
        assert parameter.requires_grad
    assert encoder.training
    assert encoder.backbone.training
    assert not torch.equal(encode(fitted, encoder), encode(fitted, encoder)), "dropout is on"
    assert fitted.describe()["tokenizer"] == "published"


def test_a_frozen_backbone_stays_as_it_is(published: str) -> None:
    fitted = fit(
        {"model_type": published, "pretrained_model": True, "freeze_pretrained_model": True, "model_init_config": {}}
    )
    encoder = fitted.build_encoder(DATA).train()
    assert encoder.training
    assert not encoder.backbone.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert torch.equal(encode(fitted, encoder), encode(fitted, encoder))


@pytest.mark.parametrize("heads", [{}, {0: [0]}], ids=["whole", "pruned"])
def test_a_bundle_builds_a_published_backbone_without_its_folder(
    published: str, heads: dict[int, list[int]], tmp_path: Path
) -> None:
    model = from_pretrained(published)
    model.prune_heads(heads)
    model.save_pretrained(published)
    fitted = fit({"model_type": published, "pretrained_model": True, "model_init_config": {}, "pool": "pooler"})
    encoder = fitted.build_encoder(DATA)
    fitted.save(tmp_path / "review")
    Path(published).rename(tmp_path / "gone")
    loaded = load_modality(tmp_path / "review")
    assert isinstance(loaded, FittedSequence)
    rebuilt = loaded.build_encoder(DATA, pretrained=False)
    rebuilt.load_state_dict(encoder.state_dict())
    assert torch.equal(encode(loaded, rebuilt.eval()), encode(fitted, encoder.eval()))
    with pytest.raises(UserError, match=r"^inputs\.review\.model"):
        loaded.build_encoder(DATA)


def test_without_pooling_states_stand_side_by_side_and_padding_is_zero() -> None:
    states = torch.arange(12.0).reshape(2, 3, 2) + 1
    mask = torch.tensor([[True, True, True], [True, False, False]])
    flat = flat_states(states, mask, 4)
    assert flat.tolist() == [[1, 2, 3, 4, 5, 6, 0, 0], [7, 8, 0, 0, 0, 0, 0, 0]]
