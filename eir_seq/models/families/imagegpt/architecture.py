"""Imagegpt (https://cdn.openai.com/papers/Generative_Pretraining_from_Pixels_V2.pdf)."""

from __future__ import annotations

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Same
from eir_seq.models.families.gpt2.architecture import gpt2_initialization, gpt2_plan, gpt2_rows
from eir_seq.models.families.imagegpt.options import ImageGPTConfig
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.heads.summary import SummaryClassification
from eir_seq.models.layers.norms.rms_norm import RMSNorm


def imagegpt_plan(c: ImageGPTConfig) -> StackPlan:
    """Gpt2 with norms that do not centre."""
    return gpt2_plan(c, norm=RMSNorm.Config(eps=c.layer_norm_epsilon))


def next_colour(c: ImageGPTConfig) -> LanguageModel.Config:
    """Scores of colours; the token that begins an image, the last of the vocabulary, is never predicted."""
    return LanguageModel.Config.of(
        c, predicts="next", vocab_size=c.vocab_size if c.tie_word_embeddings else c.vocab_size - 1
    )


def mean_classification(c: ImageGPTConfig) -> SummaryClassification.Config:
    """A linear layer on the mean of the states."""
    return SummaryClassification.Config.of(c, reads="mean", bias=False)


IMAGEGPT = Architecture(
    tasks=declare_tasks(
        "ImageGPT",
        "transformer",
        imagegpt_plan,
        gpt2_rows,
        {
            "causal-lm": TaskHead("ForCausalImageModeling", next_colour, (Same("lm_head", "out"),)),
            "image-classification": TaskHead("ForImageClassification", mean_classification, (Same("score", "out"),)),
        },
    ),
    prefixes=("transformer",),
    initialization=gpt2_initialization,
)
