"""Texts are explained whatever architecture reads them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eir_seq.config.fusion import ConcatFusionConfig
from eir_seq.explanations.config import IntegratedGradientsConfig
from eir_seq.explanations.integrated_gradients import explain
from eir_seq.explanations.varied import varied
from eir_seq.fusion import build_fusion
from eir_seq.modalities.attributable import Attributable, Unit
from eir_seq.modalities.encoders.backbone import SequenceEncoder
from eir_seq.models import list_models
from eir_seq.models.catalogue import architecture
from eir_seq.training.network import Network
from tests.models.tiny import noisy, text, tiny

CONFIG = IntegratedGradientsConfig()
JUMPS = {"mixtral": 0.4, "nllb-moe": 0.2, "switch_transformers": 0.25, "reformer": 0.1, "yoso": 0.03}
"""Larger gaps, relative to all absolute attributions: where experts or hash buckets are chosen by rank a score jumps,
and the gradient that yoso's paper gives for its hashes is a bound."""
READ_PADDING = ("fnet", "mobilebert")
"""As published, their states depend on the vectors of padding."""


class Vectors(Attributable):
    """The vectors of tokens, from zeros."""

    def baselines(self, kind: str, count: int) -> Tensor:
        raise AssertionError((kind, count))

    def units(self, *_: Any) -> list[Unit]:
        raise AssertionError


def network_of(model_type: str) -> tuple[Network, dict[str, Tensor]]:
    """A network with one input and one output of two scores, and a batch of it with padding."""
    task = "encoder" if "encoder" in architecture(model_type).tasks else "base"
    backbone = noisy(tiny(model_type, task))
    encoder = SequenceEncoder(backbone, hidden_size=backbone.hidden_size, pool="avg", num_types=0)
    fusion = build_fusion(ConcatFusionConfig(), {"text": encoder.output_size}, ["y"])
    torch.manual_seed(3)
    network = Network({"text": encoder}, fusion, {"y": nn.Linear(encoder.output_size, 2)}).eval()
    return network, text(backbone, (9, 7), 9)


@pytest.mark.parametrize("model_type", list_models())
def test_attributions_sum_up_to_the_difference_of_the_scores(model_type: str) -> None:
    network, batch = network_of(model_type)
    encoder: Any = network.encoder("text")
    assert encoder.token_table is not None
    with torch.no_grad():
        expected = network({"text": batch})["y"][1].double()
    row = {"inputs": {"text": {name: x[1:, :7] for name, x in batch.items()}}, "row": torch.tensor([1])}
    with varied(network, "text", Vectors("input_ids", encoder.token_table)) as source:
        given = source.vectors(row)
        # a base that is neither zero nor a text: the path is that of ordinary vectors
        baseline = given.clone()
        baseline[1:-1] = encoder.token_table.weight.detach().mean(dim=0)
        found = explain(CONFIG, source.scores(row, lambda raw: raw["y"]), given, baseline)
    sizes = found.values.abs().sum(dim=1)
    assert (found.gap.abs() <= JUMPS.get(model_type, CONFIG.tolerance) * sizes).all()
    assert (found.values[:, [0, -1]] == 0).all()
    assert (found.values[:, 1:-1] != 0).all()
    assert float(sizes.min()) > 0.01
    # of the text beside a longer one, with padding that is left out where the architecture can
    if model_type not in READ_PADDING:
        assert torch.allclose(found.score, expected, atol=1e-6)
