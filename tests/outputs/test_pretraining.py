"""Heads that find what was taken out of texts: the losses that the architectures document, and a generator's draws."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from eir_seq.errors import UserError
from eir_seq.modalities.encoders.backbone import SequenceEncoder
from eir_seq.modalities.encoders.replacing import drawn, with_generator
from eir_seq.models.catalogue import CATALOGUE, REPLACED_TOKENS
from eir_seq.models.model import Model
from eir_seq.outputs import build_output, load_output
from eir_seq.outputs.denoising.config import DenoisingOutputConfig
from eir_seq.outputs.language.config import CorruptedOutputBase
from eir_seq.outputs.language.corrupted import FittedPretraining
from eir_seq.outputs.language.scores import FittedTokenScores
from eir_seq.outputs.masked_lm.config import MaskedLmOutputConfig
from eir_seq.outputs.masked_lm.output import MaskedLmHead
from eir_seq.outputs.replaced_token_detection.config import ReplacedTokenDetectionOutputConfig
from eir_seq.outputs.replaced_token_detection.output import ReplacedTokenHead
from eir_seq.outputs.span_corruption.config import SpanCorruptionOutputConfig
from tests.models.tiny import noisy, text, tiny

HIDING = sorted(name for name, entry in CATALOGUE.items() if "masked-lm" in entry.tasks)


def encoder(model: Model) -> SequenceEncoder:
    return SequenceEncoder(model, hidden_size=model.hidden_size, pool="avg", num_types=0).eval()


def hidden(model: Model) -> tuple[Tensor, Tensor, Tensor]:
    """Texts with hidden tokens, their mask, and the labels."""
    given = text(model)
    ids, mask = given["input_ids"], given["attention_mask"].bool()
    chosen = (torch.rand(ids.shape, generator=torch.Generator().manual_seed(3)) < 0.4) & mask
    return ids.masked_fill(chosen, 7), mask, ids.masked_fill(~chosen, -100)


def fitted(config: Any) -> FittedTokenScores:
    found = build_output("text", config.model_copy(update={"input": "text"})).fit({})
    assert isinstance(found, FittedTokenScores)
    return found


def loss_of(output: Any, raw: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The loss of a batch, divided by what is counted before the forward pass."""
    counts = output.loss_counts({output.input: {"labels": labels, "attention_mask": mask}}, raw[:, 0]).sum(dim=0)
    return (output.loss_terms(raw, raw[:, 0]).sum(dim=0) / counts.clamp(min=1)).sum()


@pytest.mark.parametrize("model_type", HIDING)
def test_the_loss_is_that_of_the_architecture(model_type: str) -> None:
    model = noisy(tiny(model_type, "masked-lm"))
    ids, mask, labels = hidden(model)
    output = fitted(MaskedLmOutputConfig())
    with torch.no_grad():
        raw = MaskedLmHead()(encoder(model).read(ids, mask, labels=labels))
        whole = encoder(model).inputs_of(ids, mask)
        logits = model(**whole).logits
    expected = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    assert raw[:, 1].tolist() == (labels >= 0).sum(dim=1).tolist()
    assert loss_of(output, raw, labels, mask).item() == pytest.approx(expected.item(), abs=1e-5)
    right = (logits.argmax(dim=-1) == labels).sum() / (labels >= 0).sum()
    found = output.evaluate(raw, raw[:, 0])
    assert found["accuracy"] == pytest.approx(right.item())
    assert found["loss"] == pytest.approx(expected.item(), abs=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(expected.item()), rel=1e-4)


def test_a_batch_without_hidden_tokens_has_a_gradient_of_zero() -> None:
    model = tiny("bert", "masked-lm")
    ids, mask, labels = hidden(model)
    output = fitted(MaskedLmOutputConfig())
    raw = MaskedLmHead()(encoder(model).read(ids, mask, labels=torch.full_like(labels, -100)))
    loss = loss_of(output, raw, torch.full_like(labels, -100), mask)
    torch.autograd.backward(loss)
    assert loss == 0
    assert not any(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_who_detects_replaced_tokens() -> None:
    """The table that messages and rules read, against what is built."""
    kinds = {name: tiny(name, "pretraining") for name in CATALOGUE if "pretraining" in CATALOGUE[name].tasks}
    found = [name for name, model in kinds.items() if type(model.head).__name__ == "ReplacedTokens"]
    assert found == list(REPLACED_TOKENS)


def test_losses_of_generator_and_detection() -> None:
    model = noisy(tiny("electra", "pretraining"))
    read = with_generator(encoder(model), {"hidden_size": 8, "num_attention_heads": 2}, "text", "text").eval()
    ids, mask, labels = hidden(model)
    draws = torch.rand(ids.shape, generator=torch.Generator().manual_seed(5))
    output = fitted(ReplacedTokenDetectionOutputConfig(detection_weight=30.0))
    with torch.no_grad():
        tokens = read.read(ids, mask, labels=labels, draws=draws)
        raw = ReplacedTokenHead()(tokens)
        generated = read.generator(ids, attention_mask=mask, labels=labels)
        asked = labels >= 0
        original, text_read = torch.where(asked, labels, ids), tokens.inputs["input_ids"]
        detection = model(text_read, attention_mask=mask, labels=(text_read != original).long())
    assert (text_read[~asked] == ids[~asked]).all()
    assert (text_read[asked] != 7).any(), "no mask is read"
    found = output.evaluate(raw, raw[:, 0])
    assert found["generator_loss"] == pytest.approx(generated.loss.item(), abs=1e-5)
    assert found["detection_loss"] == pytest.approx(detection.loss.item(), abs=1e-5)
    assert found["loss"] == pytest.approx(generated.loss.item() + 30 * detection.loss.item(), abs=1e-4)
    assert loss_of(output, raw, labels, mask).item() == pytest.approx(found["loss"], abs=1e-4)
    guess, true = (detection.logits > 0)[mask], (text_read != original)[mask]
    assert found["accuracy"] == pytest.approx((guess == true).float().mean().item())
    both = (guess & true).sum().item()
    assert found["f1"] == pytest.approx(2 * both / max(1, guess.sum().item() + true.sum().item()))
    assert set(found) == set(ReplacedTokenDetectionOutputConfig.metrics())
    assert torch.equal(output.errors(raw, raw[:, 0]), raw[:, 2] / raw[:, 3])


def test_a_generator_is_a_quarter_and_shares_the_tables() -> None:
    model: Any = tiny("electra", "pretraining")
    made = with_generator(encoder(model), {}, "text", "text")
    small, whole = made.generator.config, model.config
    assert (small.hidden_size * 4, small.vocab_size) == (whole.hidden_size, whole.vocab_size)
    assert made.generator.body.embeddings.tokens.weight is model.body.embeddings.tokens.weight
    assert made.generator.head.out.weight is model.body.embeddings.tokens.weight
    assert made.generator.body.embeddings.positions.weight is model.body.embeddings.positions.weight
    other = with_generator(encoder(model), {"embedding_size": 4}, "text", "text")
    assert other.generator.body.embeddings.tokens.weight is not model.body.embeddings.tokens.weight
    place = "outputs.text.generator.model_init_config"
    with pytest.raises(UserError, match=rf"^{place}.hidden_size: 8 is not divisible"):
        with_generator(encoder(model), {"hidden_size": 8, "num_attention_heads": 3}, "text", "text")
    message = r"^inputs.text.model.model_type: 'bert' does not learn to detect replaced tokens; these do: electra"
    with pytest.raises(UserError, match=message):
        with_generator(encoder(tiny("bert", "pretraining")), {}, "text", "text")


def test_tokens_are_drawn_from_their_distribution() -> None:
    """Chi-square with three degrees of freedom: 16.3 is exceeded once in a thousand draws."""
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4])
    states = torch.zeros(20_000, 1)
    draws = torch.rand(20_000, generator=torch.Generator().manual_seed(1))
    found = drawn(states, draws, lambda x: shares.log().expand(len(x), 4))
    counts = torch.bincount(found, minlength=4)
    expected = shares * 20_000
    assert ((counts - expected) ** 2 / expected).sum() < 16.3
    edges = drawn(torch.zeros(2, 1), torch.tensor([0.0, 1.0]), lambda x: shares.log().expand(len(x), 4))
    assert edges.tolist() == [0, 3]
    assert len(drawn(states[:0], draws[:0], lambda x: x)) == 0


@pytest.mark.parametrize(
    "config",
    [
        MaskedLmOutputConfig(whole_words=True),
        ReplacedTokenDetectionOutputConfig(),
        SpanCorruptionOutputConfig(noise_density=0.2),
        DenoisingOutputConfig(label_smoothing=0.1),
    ],
    ids=lambda config: config.type,
)
def test_a_saved_output_is_the_same(config: CorruptedOutputBase, tmp_path: Path) -> None:
    output = fitted(config)
    output.save(tmp_path / "text.json")
    loaded = load_output(tmp_path / "text.json")
    assert isinstance(loaded, FittedPretraining)
    assert (type(loaded), loaded.state) == (type(output), output.state)
    assert loaded.backbone_task == config.TASK
    assert loaded.describe() == {"type": config.type, "input": "text"}  # type: ignore[attr-defined]
