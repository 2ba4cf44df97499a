"""Every documented `rope_scaling`, below and beyond the length of the pretraining, against the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from eir_seq.models import from_pretrained
from eir_seq.models.layers.positions.rope_scaling import rope_scaling_of
from tests.parity.cases import DECODER_LENGTH, LENGTH, Case
from tests.parity.cases.base import bertish
from tests.parity.cases.llama_like import llamaish
from tests.parity.harness import difference, inputs_of, pair

HALF = {"partial_rotary_factor": 0.5}
SIZES: dict[str, dict[str, Any]] = {
    "llama": llamaish(hidden_size=64),
    "qwen2": llamaish(hidden_size=64),
    "starcoder2": llamaish(hidden_size=64),
    "stablelm": llamaish(hidden_size=64, **HALF),
    "phi": llamaish(hidden_size=64, **HALF),
    "persimmon": {k: v for k, v in llamaish(hidden_size=64, **HALF).items() if k != "num_key_value_heads"},
    "cohere": llamaish(hidden_size=64),
    "gemma": llamaish(hidden_size=64, head_dim=16),
    "mixtral": llamaish(hidden_size=64, head_dim=16, num_local_experts=2),
}
OLD = "original_max_position_embeddings"
LENGTHS = {"below": 64, "beyond": 16}
"""Positions of the pretraining; texts have 24 tokens."""


def longrope(pairs: int, **more: Any) -> dict[str, Any]:
    short, long = ([1 + grown * place / pairs for place in range(pairs)] for grown in (0.5, 3.0))
    return {"rope_type": "longrope", "short_factor": short, "long_factor": long, **more}


def scalings(pairs: int, old: int) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Kind of scaling -> it, and the options beside it."""
    whole = {"max_position_embeddings": old}
    longer = {"max_position_embeddings": 4 * old, OLD: old}
    yarn = {"rope_type": "yarn", "factor": 4.0}
    return {
        "default": ({"rope_type": "default"}, whole),
        "linear": ({"rope_type": "linear", "factor": 4.0}, whole),
        "dynamic": ({"rope_type": "dynamic", "factor": 2.0}, whole),
        "dynamic with its old length": ({"rope_type": "dynamic", "factor": 3.0, OLD: old}, whole),
        "yarn": ({**yarn, OLD: old}, {"max_position_embeddings": 4 * old}),
        "yarn without an old length": ({**yarn, "attention_factor": 0.7, "truncate": False}, whole),
        "yarn's magnitudes": ({**yarn, "mscale": 0.7, "mscale_all_dim": 1.2, "beta_fast": 4, "beta_slow": 0.1}, whole),
        "longrope": (longrope(pairs, factor=4.0), whole),
        "longrope with a gain": (longrope(pairs, attention_factor=1.3), whole),
        "longrope and an old length": (longrope(pairs), longer),
        "llama3": (
            {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, OLD: old},
            {"max_position_embeddings": 4 * old},
        ),
    }


KINDS = tuple(scalings(8, 16))


def scaled(model_type: str, kind: str, old: int) -> Case:
    options = SIZES[model_type]
    pairs = int(16 * options.get("partial_rotary_factor", 1.0)) // 2
    scaling, beside = scalings(pairs, old)[kind]
    return Case(model_type, {**options, **beside, "rope_scaling": scaling})


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model_type", ["llama", "phi", "cohere"])
def test_states(model_type: str, kind: str, length: str, tmp_path: Path) -> None:
    """Whole, partial, and neighbouring rotations; both paddings, packed and padded."""
    case = scaled(model_type, kind, LENGTHS[length])
    for left in (False, True):
        both = pair(case, "base", tmp_path / str(left))  # the reference keeps what longer texts made of it
        inputs = inputs_of(case, both.reference.config, left=left)
        theirs = both.reference(**inputs).last_hidden_state
        for pack in (True, False):
            both.ours.pack = pack
            ours = both.ours(**inputs).last_hidden_state
            assert difference(ours, theirs, inputs["attention_mask"].bool()) < case.tolerance


@pytest.mark.parametrize("kind", ["dynamic", "longrope and an old length"])
@pytest.mark.parametrize("model_type", sorted(set(SIZES) - {"llama", "phi", "cohere"}))
def test_every_architecture_takes_one(model_type: str, kind: str, tmp_path: Path) -> None:
    case = scaled(model_type, kind, LENGTHS["beyond"])
    both = pair(case, "base", tmp_path)
    inputs = inputs_of(case, both.reference.config)
    theirs, ours = both.reference(**inputs).last_hidden_state, both.ours(**inputs).last_hidden_state
    assert difference(ours, theirs, inputs["attention_mask"].bool()) < case.tolerance


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith(("dynamic", "longrope"))])
def test_token_by_token(kind: str, tmp_path: Path) -> None:
    """A cached key stays as its own pass turned it, although speeds change once the text is long enough."""
    case = scaled("llama", kind, LENGTHS["beyond"])
    both = pair(case, "base", tmp_path)
    ids = inputs_of(case, both.reference.config)["input_ids"][:1]
    found, expected, caches = [], [], [None, None]
    with torch.no_grad():
        for place in range(LENGTH):
            token = ids[:, place : place + 1]
            ours, theirs = (
                model(token, past_key_values=cache, use_cache=True)
                for model, cache in zip((both.ours, both.reference), caches, strict=True)
            )
            caches = [ours.past_key_values, theirs.past_key_values]
            found.append(ours.last_hidden_state)
            expected.append(theirs.last_hidden_state)
    assert difference(torch.cat(found, 1), torch.cat(expected, 1)) < case.tolerance
    whole = both.ours(ids).last_hidden_state
    assert difference(whole[:, :DECODER_LENGTH], torch.cat(found, 1)[:, :DECODER_LENGTH]) > 1e-3


@pytest.mark.parametrize("kind", ["dynamic", "longrope", "yarn"])
def test_compiled_in_one_graph(kind: str, tmp_path: Path) -> None:
    """The length is read from the positions without leaving the graph: one serves short and long texts."""
    case = scaled("llama", kind, LENGTHS["beyond"])
    ours = pair(case, "base", tmp_path).ours
    ours.pack = False
    inputs = inputs_of(case, ours.config)
    short = {**inputs, "attention_mask": (torch.arange(LENGTH) < 9).long().expand(3, LENGTH)}
    torch._dynamo.reset()
    compiled = torch.compile(ours, fullgraph=True, backend="eager")
    with torch.no_grad():
        for given in (inputs, short):
            expected = ours(**given).last_hidden_state
            torch.testing.assert_close(compiled(**given).last_hidden_state, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_texts_before_do_not_matter(kind: str, tmp_path: Path) -> None:
    """A pass over a long text leaves nothing behind."""
    case = scaled("llama", kind, LENGTHS["beyond"])
    ours = pair(case, "base", tmp_path).ours
    ids = inputs_of(case, ours.config)["input_ids"]
    before = ours(ids[:, :18]).last_hidden_state
    ours(ids)
    assert torch.equal(ours(ids[:, :18]).last_hidden_state, before)


@pytest.mark.parametrize("kind", ["default", "linear", "yarn", "longrope and an old length", "llama3"])
@pytest.mark.parametrize("model_type", ["llama", "phi", "gpt_neox"])
def test_files_of_newer_spelling(model_type: str, kind: str, tmp_path: Path) -> None:
    """`rope_parameters` in place of the documented options means the same; nothing of it is left over."""
    neox = bertish(hidden_size=64, rotary_pct=0.5, rotary_emb_base=500, use_parallel_residual=False)
    case = scaled(model_type, kind, 16) if model_type in SIZES else Case(model_type, neox)
    ours = pair(case, "base", tmp_path, **({} if model_type == "gpt_neox" else {"rope_theta": 500.0})).ours
    ids = inputs_of(case, ours.config)["input_ids"]
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    parameters = {"rope_type": "default", **(content.pop("rope_scaling", None) or {})}
    for new, old in (("rope_theta", "rotary_emb_base"), ("partial_rotary_factor", "rotary_pct")):
        value = content.pop(new, content.pop(old, None))
        parameters |= {} if value is None else {new: value}
    if OLD in content:
        parameters[OLD] = content.pop(OLD)
    path.write_text(json.dumps({**content, "rope_parameters": parameters}))
    again = from_pretrained(tmp_path)
    assert torch.equal(again(ids).last_hidden_state, ours(ids).last_hidden_state)
    again.save_pretrained(tmp_path / "back")
    assert "rope_parameters" not in (tmp_path / "back" / "config.json").read_text()


LONGEST = {
    "default": 64,
    "linear": 256,
    "dynamic": 128,
    "yarn": 256,
    "yarn without an old length": 256,
    "longrope": 64,
    "longrope and an old length": 256,
    "llama3": 256,
}


@pytest.mark.parametrize(("kind", "longest"), LONGEST.items())
def test_longest_text(kind: str, longest: int, tmp_path: Path) -> None:
    assert pair(scaled("llama", kind, 64), "base", tmp_path).ours.max_positions == longest


def test_gains_of_yarn() -> None:
    """Gains of released files: 0.1 ln(factor) + 1, where nothing else is said."""
    scaling = rope_scaling_of({"type": "yarn", "factor": 4.0, OLD: 32768}, 32768)
    assert scaling is not None
    assert scaling.attention_factor == pytest.approx(1.1386294361119891, abs=1e-12)
