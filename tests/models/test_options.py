"""Options: what is refused and in which words, aliases, descriptions; and all of it without torch."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from eir_seq.errors import UserError
from eir_seq.models import create_model, list_models
from eir_seq.models.catalogue import config_class
from eir_seq.models.option_checks import build_config, check_options, max_positions
from eir_seq.models.options import ModelConfig, default_of, describe, fields

every_model = pytest.mark.parametrize("model_type", list_models())

# model type, options -> the one line of each fault
BAD: list[tuple[str, dict[str, Any], list[str]]] = [
    ("bert", {"hiden_size": 64}, ["hiden_size: not an option of 'bert'; did you mean 'hidden_size'?"]),
    ("bert", {"Hidden_Size": 64}, ["Hidden_Size: not an option of 'bert'; did you mean 'hidden_size'?"]),
    ("gpt2", {"num_hiden_layers": 2}, ["num_hiden_layers: not an option of 'gpt2'; did you mean 'num_hidden"]),
    ("bert", {"attention_window": 4}, ["attention_window: not an option of 'bert' (it is one of led, longformer)"]),
    ("bert", {"_target_": "os.system"}, ["_target_: not an option of 'bert'"]),
    ("bert", {"published": {}}, ["published: not an option of 'bert'"]),
    ("bert", {"model_type": "bert"}, ["model_type: not an option of 'bert'"]),
    ("bert", {"hidden_size": "64"}, ["hidden_size: '64' is not an integer"]),
    ("bert", {"hidden_size": 64.0}, ["hidden_size: 64.0 is not an integer"]),
    ("bert", {"hidden_size": True}, ["hidden_size: True is not an integer"]),
    ("bert", {"hidden_size": None}, ["hidden_size: None is not an integer"]),
    ("bert", {"hidden_size": [64]}, ["hidden_size: [64] is not an integer"]),
    ("bert", {"hidden_size": 0}, ["hidden_size: 0 is below the least value 1"]),
    ("bert", {"num_hidden_layers": -1}, ["num_hidden_layers: -1 is below the least value 1"]),
    ("bert", {"hidden_dropout_prob": 1.5}, ["hidden_dropout_prob: 1.5 is above the greatest value 1.0"]),
    ("bert", {"hidden_dropout_prob": -0.1}, ["hidden_dropout_prob: -0.1 is below the least value 0.0"]),
    ("bert", {"hidden_dropout_prob": float("nan")}, ["hidden_dropout_prob: nan is not a number"]),
    ("bert", {"initializer_range": float("inf")}, ["initializer_range: inf is not a number"]),
    ("bert", {"classifier_dropout": "none"}, ["classifier_dropout: 'none' is not a number or null"]),
    ("bert", {"is_decoder": "yes"}, ["is_decoder: 'yes' is not true or false"]),
    ("bert", {"is_decoder": 1}, ["is_decoder: 1 is not true or false"]),
    ("bert", {"hidden_act": 3}, ["hidden_act: 3 is not a text"]),
    ("bert", {"position_embedding_type": "relative"}, ["position_embedding_type: 'relative' is not one of 'absolute', "
        "'relative_key', 'relative_key_query'; did you mean 'relative_key'?"]),
    ("gpt2", {"n_embd": 64, "hidden_size": 32}, ["hidden_size: given twice: 'hidden_size' and 'n_embd' are "]),
    ("m2m_100", {"d_model": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 1}, ["d_model: 2 is too"]),
    ("nllb-moe", {"num_experts": 1}, ["num_experts: 1 is below the least value 2"]),
    ("nllb-moe", {"second_expert_policy": "al"}, ["second_expert_policy: 'al' is not one of 'all', 'sampling', 'rand"]),
    ("prophetnet", {"relative_max_distance": 16}, ["relative_max_distance: must exceed 16, the distances that have a"]),
    ("prophetnet", {"pad_token_id": 40_000}, ["pad_token_id: 40000 is outside the vocabulary of 30522 tokens"]),
    ("gpt2", {"hidden_size": 32, "n_embd": 64}, ["n_embd: given twice: 'n_embd' and 'hidden_size' are one option"]),
    ("t5", {"feed_forward_proj": "gated-gellu"}, ["feed_forward_proj: 'gated-gellu' is not one of "]),
    ("bert", {"hidden_size": 65}, ["hidden_size: 65 is not divisible by num_attention_heads 12"]),
    ("gpt2", {"n_embd": 65}, ["n_embd: 65 is not divisible by n_head 12"]),
    ("llama", {"num_key_value_heads": 3}, ["num_key_value_heads: 3 does not divide 32 heads"]),
    ("llama", {"rope_scaling": {"type": "yarm", "factor": 2.0}}, ["rope_scaling: rope_type 'yarm' is not one of"]),
    ("llama", {"rope_scaling": {"type": "yarn", "factr": 2.0}}, ["rope_scaling: 'yarn' has no 'factr'; did you mean "]),
    ("llama", {"rope_scaling": {"type": "yarn", "factor": 2.0, "truncate": 1}}, ["rope_scaling: truncate 1 is not tr"]),
    ("llama", {"rope_scaling": {"type": "yarn", "factor": 2.0, "beta_fast": 0.5}}, ["rope_scaling: beta_fast is belo"]),
    ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 4}},
        ["rope_scaling: 'dynamic' reads the old length from max_position_embeddings 2048, not original_max_position_"]),
    ("llama", {"rope_scaling": {"type": "longrope", "factor": 2.0, "short_factor": [1.0] * 64, "long_factor": [1.0]}},
        ["rope_scaling: 'longrope' needs a long_factor with one number above 0 for each of 64 pairs of channels"]),
    ("llama", {"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 64, "long_factor": [2.0] * 64}},
        ["rope_scaling: 'longrope' needs a factor, an attention_factor, or original_max_position_embeddings next to"]),
    ("llama", {"rope_scaling": {"type": "yarn", "factor": 2.0}, "rope_theta": 1.0}, ["rope_theta: must exceed 1 with"]),
    ("llama", {"original_max_position_embeddings": 4}, ["original_max_position_embeddings: is for a rope_scaling of"]),
    ("phi", {"partial_rotary_factor": 0.4}, ["hidden_size: heads have 64 channels, of which 25 are rotated; RoPE"]),
    ("phi", {"partial_rotary_factor": 0.0}, ["hidden_size: heads have 64 channels, of which 0 are rotated; RoPE"]),
    ("persimmon", {"num_key_value_heads": 4}, ["num_key_value_heads: not an option of 'persimmon' (it is one of "]),
    ("qwen2", {"layer_types": ["full_attention"]}, ["layer_types: has 1 entries for 32 layers"]),
    ("qwen2", {"layer_types": ["full_attention"] * 31 + ["sliding"]}, ["layer_types: 'sliding' is not one of 'full_"]),
    ("qwen2", {"layer_types": ["sliding_attention"] * 32}, ["layer_types: sliding_attention needs use_sliding_window"]),
    ("mixtral", {"num_experts_per_tok": 9}, ["num_experts_per_tok: 9 is more than num_local_experts 8"]),
    ("mixtral", {"router_jitter_noise": 1.5}, ["router_jitter_noise: 1.5 is above the greatest value 1.0"]),
    ("llama", {"rope_scaling": {"rope_type": "linear"}}, ["rope_scaling: 'linear' needs a factor above 0, not None"]),
    ("t5gemma", {"encoder": {"hiden_size": 4}}, ["encoder.hiden_size: not an option of 't5_gemma_module'; did you"]),
    ("t5gemma", {"decoder": {"layer_types": ["local"]}}, ["decoder.layer_types: has 1 entries for 26 layers",
        "decoder.layer_types: 'local' is not one of 'full_attention', 'sliding_attention'"]),
    ("t5gemma", {"decoder": {"head_dim": 5, "num_key_value_heads": 3}}, ["decoder.num_key_value_heads: 3 does not di",
        "decoder.head_dim: 5 is odd; RoPE rotates pairs of channels"]),
    ("t5gemma", {"encoder": {"attn_logit_softcapping": 0}}, ["encoder.attn_logit_softcapping: 0 must exceed 0"]),
    ("t5gemma", {"encoder": {"vocab_size": 100}}, ["encoder: vocab_size is 100 there, but 256000 for the whole"]),
    ("switch_transformers", {"num_sparse_encoder_layers": 13}, ["num_sparse_encoder_layers: 13 is more than the 12 "]),
    ("switch_transformers", {"router_dtype": "float64"}, ["router_dtype: 'float64' is not one of 'float32', 'float1"]),
    ("mt5", {"feed_forward_proj": "gated"}, ["feed_forward_proj: 'gated' is not one of "]),
    ("distilbert", {"dim": 65}, ["dim: 65 is not divisible by n_heads 12"]),
    ("sequence-default", {"embedding_dim": 24}, ["position: rotary needs heads of even width, not 3"]),
    ("bert", {"pad_token_id": 40_000}, ["pad_token_id: 40000 is outside the vocabulary of 30522"]),
    ("roberta", {"pad_token_id": None}, ["pad_token_id: is needed"]),
    ("roberta", {"max_position_embeddings": 2}, ["max_position_embeddings: must exceed pad_token_id + 1 = 2"]),
    ("bert", {"add_cross_attention": True}, ["add_cross_attention: needs is_decoder: true"]),
    ("roformer", {"hidden_size": 36}, ["hidden_size: heads must be of even width: their channels are rotated in "]),
    ("mpnet", {"max_position_embeddings": 2}, ["max_position_embeddings: must exceed 2"]),
    ("mpnet", {"relative_attention_num_buckets": 16}, ["relative_attention_num_buckets: 16 is not one of 32 (buc"]),
    ("squeezebert", {"hidden_size": 96}, ["embedding_size: 768 must be hidden_size 96"]),
    ("squeezebert", {"output_groups": 5}, ["output_groups: 5 does not divide hidden_size 768", "output_groups: 5 "]),
    ("deberta", {"pos_att_type": "c2p|p2q"}, ["pos_att_type: 'p2q' is not one of 'c2p', 'p2c'", "pos_att_type: need"]),
    ("deberta", {"pos_att_type": ["c2p"]}, ["pos_att_type: needs relative_attention: true"]),
    ("deberta-v2", {"talking_head": True}, ["talking_head: not an option of 'deberta-v2' (it is one of deberta)"]),
    ("deberta-v2", {"position_buckets": 256}, ["position_buckets: needs relative_attention: true"]),
    ("deberta-v2", {"relative_attention": True, "pos_att_type": "c2p", "position_buckets": 2}, ["position_buckets: 2"]),
    ("deberta-v2", {"conv_kernel_size": 4}, ["conv_kernel_size: 4 must be odd, so that a text keeps its length"]),
    ("deberta-v2", {"conv_groups": 5}, ["conv_groups: 5 does not divide hidden_size 1536"]),
    ("deberta-v2", {"attention_head_size": 32}, ["attention_head_size: must be hidden_size / num_attention_heads"]),
    ("gpt2", {"summary_type": "attn"}, ["summary_type: 'attn' is not one of 'last', 'first', 'mean', 'cls_index'"]),
    ("gpt_neox", {"hidden_size": 60}, ["hidden_size: 60 is not divisible by num_attention_heads 64"]),
    ("gpt_neox", {"rotary_pct": 0.29}, ["rotary_pct: 0.29 of 96 channels is 27; RoPE needs an even number"]),
    ("gpt_neox", {"rope_scaling": {"type": "linear"}}, ["rope_scaling: 'linear' needs a factor above 0, not None"]),
    ("gptj", {"rotary_dim": 7}, ["rotary_dim: 7 is odd; RoPE rotates pairs of channels"]),
    ("gptj", {"n_embd": 64, "n_head": 2}, ["rotary_dim: 64 is more than the 32 channels of a head"]),
    ("codegen", {"n_head": 2}, ["n_head: 2 is not divisible by 4, the blocks of published projections"]),
    ("falcon", {"hidden_size": 4545}, ["hidden_size: 4545 is not divisible by num_attention_heads 71"]),
    ("falcon", {"hidden_size": 71}, ["hidden_size: heads have 1 channels; RoPE needs an even number"]),
    ("falcon", {"num_kv_heads": 8}, ["num_kv_heads: 8 of 71 heads needs new_decoder_architecture"]),
    ("falcon", {"num_kv_heads": 8, "new_decoder_architecture": True}, ["num_kv_heads: 8 does not divide 71 heads"]),
    ("falcon", {"parallel_attn": False, "new_decoder_architecture": True}, ["parallel_attn: new_decoder_architecture"]),
    ("falcon", {"num_ln_in_parallel_attn": 2}, ["num_ln_in_parallel_attn: two norms need new_decoder_architecture"]),
    ("falcon", {"num_ln_in_parallel_attn": 3}, ["num_ln_in_parallel_attn: 3 is not one of 1, 2"]),
    ("falcon", {"alibi": True, "rope_scaling": {"type": "linear", "factor": 2.0}}, ["rope_scaling: RoPE is not used"]),
    ("xlnet", {"d_model": 1000}, ["d_model: 1000 is not divisible by n_head 16"]),
    ("xlnet", {"same_length": True}, ["same_length: needs attn_type: uni"]),
    ("xlnet", {"untie_r": False}, ["untie_r: False is not one of True (each layer has its own"]),
    ("xlnet", {"summary_type": "attn"}, ["summary_type: 'attn' is not one of 'last', 'first', 'mean', 'cls_index'"]),
    ("nystromformer", {"num_landmarks": 60}, ["num_landmarks: 60 does not divide segment_means_seq_len 64"]),
    ("nystromformer", {"conv_kernel_size": 4}, ["conv_kernel_size: 4 is even: the convolution has as many tokens "]),
    ("yoso", {"conv_window": 4, "hash_code_len": 9}, ["conv_window: 4 is even: the convolution has as many tokens "]),
    ("yoso", {"position_embedding_type": "relative_key"}, ["position_embedding_type: 'relative_key' is not one of '"]),
    ("mra", {"max_position_embeddings": 31}, ["max_position_embeddings: 31 is below the least value 32"]),
    ("longformer", {"attention_window": 7}, ["attention_window: 7: each window must be even"]),
    ("longformer", {"attention_window": [4, 5] * 6}, ["attention_window: [4, 5, "]),
    ("longformer", {"attention_window": [4, 4]}, ["attention_window: has 2 entries for 12 layers"]),
    ("longformer", {"attention_window": [4, 0]}, ["attention_window: 0 is below the least value 2"]),
    ("longformer", {"attention_window": ["4"]}, ["attention_window: ['4'] is not a list of int or an integer"]),
    ("longformer", {"attention_window": []}, ["attention_window: has 0 entries for 12 layers"]),
    ("led", {"encoder_layers": 3, "attention_window": [4, 4]}, ["attention_window: has 2 entries for 3 layers"]),
    ("pegasus_x", {"block_size": 7}, ["block_size: 7 is odd: staggered blocks need halves"]),
    ("longt5", {"classifier_dropout": 0.1}, ["classifier_dropout: not an option of 'longt5' (it is one of "]),
    ("led", {"scale_embedding": True}, ["scale_embedding: not an option of 'led' (it is one of "]),
    ("led", {"max_position_embeddings": 9}, ["max_position_embeddings: not an option of 'led' (it is one of "]),
    ("albert", {"num_hidden_groups": 13}, ["num_hidden_groups: 13 groups cannot share 12 runs (num_hidden_layers)"]),
    ("electra", {"summary_type": "attn"}, ["summary_type: 'attn' is not one of 'first', 'last', 'mean', 'cls_index'"]),
    ("megatron-bert", {"add_cross_attention": True}, ["add_cross_attention: needs is_decoder: true"]),
    ("nezha", {"add_cross_attention": True, "is_decoder": True}, ["add_cross_attention: True is not one of False"]),
    ("rembert", {"tie_word_embeddings": True}, ["tie_word_embeddings: needs equal widths of input_embedding_size (25"]),
    ("roc_bert", {"concat_input": False}, ["shape_embed_dim: 512 must be hidden_size 768 where concat_input is false"]),
    ("roc_bert", {"pad_token_id": 910}, ["pad_token_id: 910 is outside pronunciation_vocab_size 910"]),
    ("splinter", {"question_token_id": 30522}, ["question_token_id: 30522 is outside the vocabulary of 30522"]),
    ("xlm-roberta-xl", {"pad_token_id": None}, ["pad_token_id: is needed"]),
    # all at once
    ("bert", {"hiden_size": 1, "num_labels": 0, "is_decoder": 2}, ["hiden_size: n", "num_labels: 0", "is_decoder: 2"]),
    ("bert", {"dim": 64, "n_embd": 64}, ["dim: not an option of 'bert' (it is one of distilbert)", "n_embd: not"]),
]  # fmt: skip


@pytest.mark.parametrize(("model_type", "given", "lines"), BAD, ids=lambda value: str(value)[:40])
def test_one_line_per_fault(model_type: str, given: dict[str, Any], lines: list[str]) -> None:
    found = [str(fault) for fault in check_options(model_type, given)]
    assert len(found) == len(lines), found
    for line, expected in zip(found, lines, strict=True):
        assert line.startswith(expected)
    with pytest.raises(UserError) as caught:
        create_model(model_type, given)
    assert str(caught.value).splitlines() == found


GOOD: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("bert", {}, {"hidden_size": 768, "num_hidden_layers": 12}),
    ("bert", {"layer_norm_eps": 0, "classifier_dropout": None}, {"layer_norm_eps": 0, "classifier_dropout": None}),
    ("gpt2", {"hidden_size": 24, "num_attention_heads": 4}, {"n_embd": 24, "n_head": 4}),
    ("gpt2", {"max_position_embeddings": 33}, {"n_positions": 33}),
    ("distilbert", {"num_hidden_layers": 3}, {"n_layers": 3}),
    ("gpt_bigcode", {"attention_type": False}, {"multi_query": False, "key_heads": 12}),
    ("gpt_bigcode", {}, {"key_heads": 1}),
    ("falcon", {"num_kv_heads": 71}, {"key_heads": 1, "norms_of_layer": 1}),
    ("falcon", {"multi_query": False}, {"key_heads": 71}),
    (
        "falcon",
        {"new_decoder_architecture": True, "num_attention_heads": 64, "hidden_size": 128, "num_kv_heads": 8},
        {"key_heads": 8, "norms_of_layer": 2},
    ),
    ("t5", {"layer_norm_eps": 1e-5}, {"layer_norm_epsilon": 1e-5}),
    ("t5", {"feed_forward_proj": "gated-gelu"}, {"feed_forward_proj": "gated-gelu"}),
    ("longformer", {"num_hidden_layers": 2, "attention_window": [4, 6]}, {"attention_window": [4, 6]}),
    ("longformer", {"num_hidden_layers": 2, "attention_window": (4, 6)}, {"attention_window": (4, 6)}),
]


@pytest.mark.parametrize(("model_type", "given", "expected"), GOOD, ids=lambda value: str(value)[:40])
def test_what_is_taken(model_type: str, given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert check_options(model_type, given) == []
    config = build_config(model_type, given)
    assert {name: getattr(config, name) for name in expected} == expected
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_labels = 3  # type: ignore[misc]


@every_model
def test_every_option_is_described(model_type: str) -> None:
    config = config_class(model_type)
    rows = describe(config)
    assert [row["name"] for row in rows] == list(fields(config))
    for row in rows:
        assert row["meaning"]
        assert row["type"]
        assert not row["meaning"].endswith(".")
    assert set(config.aliases.values()) <= set(fields(config))
    assert not set(config.aliases) & set(fields(config))


@every_model
def test_defaults_are_valid_and_independent(model_type: str) -> None:
    config = config_class(model_type)
    defaults = {name: default_of(field) for name, field in fields(config).items()}
    assert check_options(model_type, defaults) == []
    assert build_config(model_type) == build_config(model_type, defaults)
    assert build_config(model_type).published is not build_config(model_type).published
    assert isinstance(build_config(model_type), ModelConfig)


@every_model
def test_every_typo_is_noticed(model_type: str) -> None:
    """One letter dropped from any option: the line names the option itself, or another one that is as near."""
    for name in fields(config_class(model_type)):
        if len(name) > 5:
            (fault,) = check_options(model_type, {name[:3] + name[4:]: 1})
            assert "did you mean" in fault.message, name


@pytest.mark.parametrize(
    ("model_type", "given", "expected"),
    [
        ("bert", {"max_position_embeddings": 40}, 40),
        ("roberta", {"max_position_embeddings": 40}, 38),
        ("longformer", {"max_position_embeddings": 40, "pad_token_id": 0}, 39),
        ("gpt2", {"n_positions": 40}, 40),
        ("gptj", {}, 2048),
        ("gpt_neox", {"rope_scaling": {"rope_type": "linear", "factor": 3.0}}, 6144),
        ("falcon", {}, 2048),
        ("falcon", {"alibi": True}, None),
        ("t5", {}, None),
        ("sequence-default", {}, None),
        ("sequence-default", {"position": "embed", "max_position_embeddings": 40}, 40),
    ],
)
def test_longest_text(model_type: str, given: dict[str, Any], expected: int | None) -> None:
    assert max_positions(model_type, given) == expected


@pytest.mark.parametrize(
    ("model_type", "task", "words"),
    [
        ("brt", "base", "model_type: 'brt' is not in the catalogue; did you mean 'bert'?"),
        ("BertForMaskdLM", "base", "model_type: 'BertForMaskdLM' is not in the catalogue"),
        ("bert", "masked_lm", "task: 'bert' has no task 'masked_lm'; did you mean 'masked-lm'? ("),
        ("gpt2", "encoder", "task: 'gpt2' has no task 'encoder'"),
    ],
)
def test_unknown_names(model_type: str, task: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        create_model(model_type, task=task)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(words)


def test_torch_is_not_needed() -> None:
    """Catalogue, options and their checks load neither torch nor any other heavy library."""
    program = (
        "import sys\n"
        "from eir_seq.models import list_models\n"
        "from eir_seq.models.catalogue import CATALOGUE, config_class\n"
        "from eir_seq.models.option_checks import check_options\n"
        "from eir_seq.models.options import describe\n"
        "for name in list_models():\n"
        "    assert check_options(name, {'hiden_size': 1}) and describe(config_class(name))\n"
        "heavy = {'torch', 'numpy', 'safetensors', 'huggingface_hub', 'lightning', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("task", ["sequence-classification", "multiple-choice"])
def test_a_summary_that_the_layer_behind_it_cannot_read(task: str) -> None:
    """Xlnet's documented default, which no class with such a head can have; others take it."""
    tiny = {"d_model": 8, "n_head": 2, "n_layer": 1, "d_inner": 8, "vocab_size": 20, "summary_proj_to_labels": True}
    with pytest.raises(UserError, match="summary_proj_to_labels: true cannot be with task"):
        create_model("xlnet", tiny, task=task)
    for other in ("base", "causal-lm", "token-classification"):
        assert create_model("xlnet", tiny, task=other).task == other
