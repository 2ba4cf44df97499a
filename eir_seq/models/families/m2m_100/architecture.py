"""M2m_100 (https://arxiv.org/abs/2010.11125): pre-norm bart with sinusoidal positions over real tokens."""

from __future__ import annotations

from dataclasses import replace

from eir_seq.models.architecture import Architecture
from eir_seq.models.families.bart.architecture import Design, bart_like_architecture, bart_like_tasks
from eir_seq.models.families.bart.options import LikeBart
from eir_seq.models.layers.positions.absolute import ComputedSinusoids, tensor2tensor_sinusoids
from eir_seq.models.layers.positions.position_ids import InputPositionIds
from eir_seq.models.layers.residual import PreNorm


def real_positions(c: LikeBart) -> ComputedSinusoids:
    """Sinusoids by the place among the real tokens of a text; none at padding."""
    return ComputedSinusoids(
        numbering=InputPositionIds(c.pad_token_id), sinusoids=tensor2tensor_sinusoids, blank=c.pad_token_id
    )


def translator(family: str, design: Design) -> Architecture:
    """An architecture whose decoder is never alone, and whose sinusoids are in old files only."""
    tasks = {name: task for name, task in bart_like_tasks(family, design).items() if name != "causal-lm"}
    return replace(
        bart_like_architecture(tasks), ignored=(r"coder\.version$", r"coder\.embed_positions\.(weights|_float_tensor)$")
    )


M2M_100_DESIGN = Design(
    residual=PreNorm, normed_embeddings=False, final_norm=True, positions=real_positions, logits_bias=False
)
M2M_100 = translator("M2M100", M2M_100_DESIGN)
