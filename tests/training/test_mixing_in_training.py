"""Experiments that mix rows in pairs: their losses, resuming, and evaluations that know nothing of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from eir_seq.config.fusion import ConcatFusionConfig
from eir_seq.config.mixing import MixingConfig
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.data.dataset import BatchKey
from eir_seq.errors import UserError
from eir_seq.fusion import build_fusion
from eir_seq.modalities.encoders.backbone import SequenceEncoder
from eir_seq.models import create_model
from eir_seq.training.assemble import Parts, assemble
from eir_seq.training.console import Console
from eir_seq.training.evaluation import evaluate
from eir_seq.training.groups import Groups
from eir_seq.training.losses import loss_counts, loss_terms, mean_loss, training_outputs
from eir_seq.training.mixing import Mixer
from eir_seq.training.network import Network
from eir_seq.training.run import train
from tests.training.stopping import stopped_after
from tests.training.table import table_experiment
from tests.training.test_mixing import MIXUP, PARTNER, SHARE, blend

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def parts_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[ExperimentConfig, Parts]]:
    def built(**mixing: Any) -> tuple[ExperimentConfig, Parts]:
        folder = tmp_path_factory.mktemp("mixing")
        config = table_experiment(folder, trainer={"mixing": {**MIXUP, **mixing}})
        with Console() as console:
            return config, assemble(config, console)

    return built


def test_the_loss_is_that_of_both_targets_by_their_shares(parts_of: Any) -> None:
    _, parts = parts_of()
    given = parts.data.encoded["train"][BatchKey((0, 1, 2, 3, 4, 5, 6, 7), 0)]
    partner = given["mixing"]["partner"]
    raw, after = training_outputs(parts.network, given)
    share = after["mixing"]["share"]
    terms = loss_terms(parts.outputs, raw, after)
    target = given["targets"]["mood"]
    one, other = (functional.cross_entropy(raw["mood"], t, reduction="none") for t in (target, target[partner]))
    torch.testing.assert_close(terms["mood"][:, 0], share * one + (1 - share) * other)
    soft = share[:, None] * functional.one_hot(target, 2) + (1 - share)[:, None] * functional.one_hot(
        target[partner], 2
    )
    torch.testing.assert_close(terms["mood"][:, 0], functional.cross_entropy(raw["mood"], soft, reduction="none"))
    assert loss_counts(parts.network, parts.outputs, given) == {"mood": [8.0], "score": [8.0]}


def test_rows_without_a_target_count_by_the_share_of_those_that_have_one(parts_of: Any) -> None:
    _, parts = parts_of()
    given = parts.data.encoded["train"][BatchKey((0, 1, 2, 3), 0)]
    given["labelled"] = {"mood": torch.tensor([0, 2])}
    given["mixing"] |= {"partner": PARTNER, "share": SHARE}
    raw, after = training_outputs(parts.network, given)
    target, logits = given["targets"]["mood"], raw["mood"]

    def loss(row: int, of: int) -> Tensor:
        return functional.cross_entropy(logits[[row]], target[[of]])

    # row 0 alone; row 1 with 2; row 2 with 3, which has no target; row 3 is row 0
    expected = torch.stack([loss(0, 0), 0.25 * loss(1, 2), 0.5 * loss(2, 2), loss(3, 0)])
    terms = loss_terms(parts.outputs, raw, after)["mood"]
    torch.testing.assert_close(terms[:, 0], expected)
    counts = loss_counts(parts.network, parts.outputs, given)["mood"]
    assert counts == [1 + 0.25 + 0.5 + 1]
    torch.testing.assert_close(mean_loss(terms.sum(dim=0), counts), expected.sum() / 2.75)


def test_micro_batches_divide_by_the_rows_of_their_step(parts_of: Any) -> None:
    _, parts = parts_of()
    keys = [BatchKey((0, 1, 2), 0), BatchKey((3, 4), 0)]
    batches = [parts.data.encoded["train"][key] for key in keys]
    batches[0]["labelled"] = {"mood": torch.tensor([1, 2])}
    own = [loss_counts(parts.network, parts.outputs, given)["mood"][0] for given in batches]
    (first, second) = Groups(batches, parts.network, parts.outputs, 2)
    assert first["step_counts"] == second["step_counts"]
    assert first["step_counts"]["mood"] == [pytest.approx(sum(own))]


def test_texts_are_mixed_by_the_vectors_of_their_tokens(parts_of: Any) -> None:
    _, parts = parts_of()
    net = copy.deepcopy(parts.network).eval()
    encoder: Any = net.encoder("text")
    ids = torch.randint(3, 9, (4, 7))
    given: dict[str, Any] = {
        "inputs": {"text": {"input_ids": ids, "attention_mask": torch.ones(4, 7, dtype=torch.bool)}},
        "mixing": {"partner": PARTNER, "share": SHARE, "seed": 0, "place": torch.arange(4)},
    }
    raw, _ = training_outputs(net, given)
    table = encoder.backbone.get_input_embeddings()
    output = encoder.backbone(inputs_embeds=blend(table(ids)), attention_mask=torch.ones(4, 7))
    features = net.fusion({"text": output.last_hidden_state.mean(dim=1)})["mood"]
    torch.testing.assert_close(raw["mood"], net.head("mood")(features), atol=1e-5, rtol=1e-4)
    assert encoder.backbone.pack, "padding is left out again"
    # a short text has the vector of padding behind its end, and its mixture is as long as the other
    given["inputs"]["text"]["attention_mask"] = (
        torch.tensor([[1] * 7, [1] * 3 + [0] * 4, [1] * 7, [1] * 2 + [0] * 5]) > 0
    )
    seen = []
    encoder.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
    training_outputs(net, given)
    assert seen[0]["attention_mask"].sum(dim=1).tolist() == [7, 7, 7, 7]


def test_windows_of_texts_are_mixed_with_those_of_their_partners() -> None:
    """A text of several windows is as one whose vectors are mixed before it is cut."""
    sizes = {"vocab_size": 9, "embedding_dim": 8, "num_layers": 1, "num_heads": 2, "dropout": 0.0, "window_size": 3}
    backbone: Any = create_model("sequence-default", sizes)
    encoder = SequenceEncoder(backbone, hidden_size=8, pool="avg", num_types=1)
    net = Network(
        {"text": encoder}, build_fusion(ConcatFusionConfig(), {"text": 8}, ["y"]), {"y": nn.Identity()}
    ).eval()
    ids, mask = torch.randint(3, 9, (4, 7)), torch.ones(4, 7, dtype=torch.bool)
    given = {
        "inputs": {"text": {"input_ids": ids, "attention_mask": mask}},
        "mixing": {"partner": PARTNER, "share": SHARE, "seed": 0, "place": torch.arange(4)},
    }
    raw, _ = Mixer(MixingConfig(), net).outputs(net, given)
    vectors = blend(backbone.get_input_embeddings()(ids))
    expected = backbone(inputs_embeds=vectors, attention_mask=mask).last_hidden_state.mean(dim=1)
    torch.testing.assert_close(raw["y"], expected, atol=1e-5, rtol=1e-4)
    layers = MixingConfig(type="manifold", layers=["inputs.text.backbone.body.stack.layers.0"])
    with pytest.raises(
        UserError, match=r"stack\.layers\.0 gives a tensor of shape \[12, 3, 8\] for 4 rows.* another layer"
    ):
        Mixer(layers, net).outputs(net, given)


def test_an_evaluation_mixes_nothing(parts_of: Any) -> None:
    _, parts = parts_of(type="manifold")
    validation = parts.data.encoded["validation"]
    batches = [validation[BatchKey(tuple(range(6)))]]
    assert "mixing" not in batches[0]
    found = evaluate(parts.network, parts.outputs, batches, device=torch.device("cpu"))
    plain = copy.deepcopy(parts.network)
    plain.mixer = None
    expected = evaluate(plain, parts.outputs, batches, device=torch.device("cpu"))
    assert found.values == expected.values


def test_a_stopped_run_resumes_exactly(tmp_path: Path) -> None:
    def weights(run: str) -> bytes:
        return (tmp_path / run / "bundle" / "model.safetensors").read_bytes()

    def config(run: str, **mixing: Any) -> ExperimentConfig:
        trainer = {"mixing": {**MIXUP, **mixing} if mixing else None, "checkpoint_every": 3}
        return table_experiment(tmp_path, trainer=trainer, run={"dir": str(tmp_path / run)})

    mixed = {"type": "manifold", "layers": ["inputs.text.backbone.body.layers.0", "inputs.text", "fusion.blocks.0"]}
    train(config("whole", **mixed))
    train(config("plain"))
    assert weights("whole") != weights("plain")
    with stopped_after(8):
        train(config("stopped", **mixed))
    train(config("stopped", **mixed))
    assert weights("stopped") == weights("whole")


def test_outputs_about_single_tokens_refuse_mixed_inputs() -> None:
    content = {
        "data": {"train": __file__, "source": "table"},
        "inputs": {"text": {"type": "sequence", "column": "text", "model": {"model_type": "bert"}}},
        "outputs": {
            "tags": {"type": "token_classification", "column": "tags"},
            "y": {"type": "regression", "column": "y"},
        },
        "trainer": {"mixing": {"type": "mixup"}},
    }
    with pytest.raises(UserError) as caught:
        validate_experiment(content)
    message = "trainer.mixing: outputs.tags reads the states of inputs.text, which must stay as they are"
    assert any(str(fault).startswith(message) for fault in caught.value.faults)
