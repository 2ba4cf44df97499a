"""Git (https://arxiv.org/abs/2205.14100)."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.models.architecture import Architecture, TaskHead, declare_tasks
from eir_seq.models.backbones.stack import StackPlan
from eir_seq.models.checkpoint.keymap import Row, Same, for_layers
from eir_seq.models.families.bert.keymap import bert_rows
from eir_seq.models.families.bert.plan import bert_attention, bert_embeddings, bert_layer
from eir_seq.models.families.git.images import ImagePrefix, PatchEmbeddings
from eir_seq.models.families.git.options import GitConfig, GitVisionConfig
from eir_seq.models.families.git.prefixed import PrefixedAttention, PrefixedPlan
from eir_seq.models.families.luke.architecture import in_stack
from eir_seq.models.heads.language_model import LanguageModel
from eir_seq.models.initialization import Initialization
from eir_seq.models.layers.attention.multi_head import Attention
from eir_seq.models.layers.feed_forward.mlp import Mlp
from eir_seq.models.layers.norms.layer_norm import LayerNorm
from eir_seq.models.layers.residual import LayerPlan, PreNorm


def vision_plan(c: GitVisionConfig) -> StackPlan:
    """A pre-norm encoder of patches, with a norm at both ends."""
    layer = LayerPlan(
        residual=PreNorm,
        hidden_size=c.hidden_size,
        norm=LayerNorm.Config(eps=c.layer_norm_eps),
        mixer=Attention.Config(hidden_size=c.hidden_size, num_heads=c.num_attention_heads, dropout=c.attention_dropout),
        mlp=Mlp.Config(hidden_size=c.hidden_size, inner_size=c.intermediate_size, activation=c.hidden_act),
    )
    return StackPlan(
        embeddings=PatchEmbeddings.Config(c),
        layers=(layer,) * c.num_hidden_layers,
        final_norm=LayerNorm.Config(eps=c.layer_norm_eps),
    )


def git_plan(c: GitConfig) -> PrefixedPlan:
    """Bert's layers as a decoder, after the tokens of an image."""
    mixer = PrefixedAttention.Config(**{**vars(bert_attention(c)), "causal": True})
    return PrefixedPlan(
        embeddings=bert_embeddings(c),
        prefix=ImagePrefix.Config(c),
        encoder=vision_plan(c.vision),
        layers=(bert_layer(c, mixer=mixer),) * c.num_hidden_layers,
        cached=c.use_cache,
    )


VISION = "image_encoder.vision_model."

LAYER, NATIVE = VISION + "encoder.layers.{i}.", "encoder.layers.{i}."


def git_rows(c: GitConfig) -> Iterator[Row]:
    """Bert's key map, and those of the encoder of images and of what it hands over."""
    yield from in_stack(bert_rows(c), "decoder")
    yield Same(VISION + "embeddings.class_embedding", "encoder.embeddings.whole")
    yield Same(VISION + "embeddings.patch_embedding", "encoder.embeddings.patches")
    yield Same(VISION + "embeddings.position_embedding", "encoder.embeddings.positions")
    yield Same(VISION + "pre_layrnorm", "encoder.embeddings.norm")
    yield from for_layers(
        c.vision.num_hidden_layers,
        Same(LAYER + "layer_norm1", NATIVE + "mixer_norm"),
        Same(LAYER + "self_attn.q_proj", NATIVE + "mixer.query"),
        Same(LAYER + "self_attn.k_proj", NATIVE + "mixer.key"),
        Same(LAYER + "self_attn.v_proj", NATIVE + "mixer.value"),
        Same(LAYER + "self_attn.out_proj", NATIVE + "mixer.out"),
        Same(LAYER + "layer_norm2", NATIVE + "mlp_norm"),
        Same(LAYER + "mlp.fc1", NATIVE + "mlp.up"),
        Same(LAYER + "mlp.fc2", NATIVE + "mlp.down"),
    )
    yield Same(VISION + "post_layernorm", "encoder.final_norm")
    yield Same("visual_projection.visual_projection.0", "embeddings.prefix.project")
    yield Same("visual_projection.visual_projection.1", "embeddings.prefix.norm")
    yield from for_layers(
        c.num_image_with_embedding or 0, Same("img_temporal_embedding.{i}", "embeddings.prefix.frames.{i}")
    )


def caption(c: GitConfig) -> LanguageModel.Config:
    """Scores over the vocabulary with a bias."""
    return LanguageModel.Config(
        predicts="next", hidden_size=c.hidden_size, vocab_size=c.vocab_size, tied=c.tie_word_embeddings, bias=True
    )


GIT = Architecture(
    tasks=declare_tasks(
        "Git",
        "git",
        git_plan,
        git_rows,
        {
            "causal-lm": TaskHead(
                "ForCausalLM", caption, (Same("output.weight", "out.weight"), Same("output.bias", "bias"))
            )
        },
    ),
    prefixes=("git",),
    initialization=lambda c: Initialization(
        c.initializer_range, {"*.prefix.frames.*": 0.0, "body.encoder.*": c.vision.initializer_range}
    ),
)
