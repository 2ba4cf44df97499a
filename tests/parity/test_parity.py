"""Equality with the reference: states of every layer, gradients, attention weights, heads, caches, files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eir_seq.errors import UserError
from eir_seq.models import from_pretrained
from eir_seq.models.backbones.encoder_decoder import EncoderDecoder
from eir_seq.models.catalogue import architecture
from eir_seq.models.checkpoint.keymap import Unused
from eir_seq.models.options import fields
from tests.parity.cases import CASES, Case, Inputs
from tests.parity.harness import (
    DECODER,
    Pair,
    assert_same_order,
    difference,
    gradients,
    inputs_of,
    pair,
    published_gradients,
    real_places,
    real_rows,
    task_inputs,
    transformers,
    with_holes,
)
from tests.sampled import sampled

PLAIN = [case for case in CASES if "@" not in case.name]
TASKS = [(case, task) for case in CASES for task in architecture(case.model_type).tasks if task != "base"]


def plain(value: Case | tuple[Case, object]) -> bool:
    """Whether a case is that of an architecture with its usual options, which the fast tests always try."""
    return "@" not in (value[0] if isinstance(value, tuple) else value).name


PREFIX = ("pixel_values", "interpolate_pos_encoding")
"""Inputs of the first pass of a text, that a cache then holds."""
GRADIENT_TOLERANCE = 1e-5
READ_HOLES = ("mega@decoder_chunks", "mega@decoder_simple", "rwkv", "rwkv@rescaled")
"""The reference divides by the number of earlier tokens, masked ones included (mega), or reads no mask (rwkv)."""
DECODERS = (
    "bart", "bigbird_pegasus", "biogpt", "blenderbot", "blenderbot-small", "bloom", "codegen", "cohere", "ctrl",
    "falcon", "gemma", "git", "gpt2", "gpt_bigcode", "gpt_neox", "gpt_neox_japanese", "gptj", "imagegpt", "led",
    "llama", "longt5", "m2m_100", "mamba", "marian", "mbart", "mixtral", "mpt", "mt5", "mvp", "nllb-moe", "openai-gpt",
    "opt", "pegasus", "pegasus_x", "persimmon", "phi", "plbart", "prophetnet", "qwen2", "rwkv", "stablelm",
    "starcoder2", "switch_transformers", "t5", "t5gemma", "xglm", "xlm-prophetnet",
)  # fmt: skip
ids = {"ids": lambda case: case.name if isinstance(case, Case) else None}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("case", "left"), sampled([(case, left) for case in CASES for left in (False, True)], 1 / 2, always=plain), **ids
)
def test_states_of_every_layer(case: Case, left: bool, tmp_path: Path) -> None:
    """With and without padding in the computation, padded on either side, and with masked tokens between real ones.

    The latter not where the reference lets padding leak into real tokens (there all `lengths` are alike).
    """
    both = pair(case, "base", tmp_path)
    inputs = inputs_of(case, both.reference.config, left=left)
    assert_same_states(case, both, inputs, left=left)
    if len(set(case.lengths)) > 1 and case.name not in READ_HOLES:
        assert_same_states(case, both, with_holes(inputs), left=left)


def assert_same_states(case: Case, both: Pair, inputs: Inputs, *, left: bool) -> None:
    """Packed and not, at real places; the pooler's only of texts that begin at the first place."""
    places = real_places(inputs)
    theirs = both.reference(**inputs, output_hidden_states=True)
    for pack in (True, False):
        both.ours.pack = pack
        ours = both.ours(**inputs, output_hidden_states=True)
        assert_same_order(ours, theirs)
        assert difference(ours.last_hidden_state, theirs.last_hidden_state, places) < case.tolerance
        if "pooler_output" in theirs and not left:
            assert difference(ours.pooler_output, theirs.pooler_output) < case.tolerance
        if (entities := theirs.get("entity_last_hidden_state")) is not None:
            assert difference(ours.entity_last_hidden_state, entities, inputs["entity_attention_mask"].bool()) < 1e-5
        for name in ("hidden_states", "encoder_hidden_states", "decoder_hidden_states", "entity_hidden_states"):
            if theirs.get(name) is not None:
                where = inputs["attention_mask"].bool() if name.startswith("encoder") else places
                where = inputs["entity_attention_mask"].bool() if name.startswith("entity") else where
                assert len(ours[name]) == len(theirs[name])
                for our_state, their_state in zip(ours[name], theirs[name], strict=True):
                    assert difference(our_state, their_state, where) < case.tolerance


@pytest.mark.parametrize("case", CASES, **ids)
def test_gradients(case: Case, tmp_path: Path) -> None:
    both = pair(case, "base", tmp_path)
    inputs = inputs_of(case, both.reference.config)
    places = real_places(inputs)
    both.reference.train(case.trains)
    both.ours.train(case.trains)
    gradients(both.reference, both.reference(**inputs).last_hidden_state, places)
    expected = {name: p.grad for name, p in both.reference.named_parameters() if p.grad is not None}
    if hasattr(both.ours.body, "pooler"):
        both.ours.body.pooler = None
    for pack in (True, False):
        both.ours.pack = pack
        gradients(both.ours, both.ours(**inputs).last_hidden_state, places)
        found = published_gradients(both.ours, case.dead)
        for name, gradient in expected.items():
            scale = max(1.0, float(gradient.abs().max()))
            assert difference(found[name], gradient) < GRADIENT_TOLERANCE * scale, name


@pytest.mark.parametrize("case", [case for case in CASES if case.attends], **ids)
def test_attention_weights(case: Case, tmp_path: Path) -> None:
    both = pair(case, "base", tmp_path)
    inputs = inputs_of(case, both.reference.config)
    theirs = both.reference(**inputs, output_attentions=True)
    ours = both.ours(**inputs, output_attentions=True)
    assert_same_order(ours, theirs)
    streams = "last_hidden_state_ngram" in theirs
    names = [name for name in theirs if "attentions" in name and "ngram" not in name]
    assert names
    for name in names:
        decoded = name.startswith(("decoder", "cross"))
        rows = real_places(inputs) if decoded else real_rows(inputs)
        for our_weights, their_weights in zip(ours[name], theirs[name], strict=True):
            if name.endswith(
                "global_attentions"
            ):  # the reference's have its own padding, and weights of unused columns
                marks = (inputs["global_attention_mask"] * inputs["attention_mask"]).sum(1)
                used = torch.arange(our_weights.shape[-1]) < marks[:, None]
                their_weights = their_weights[:, :, : our_weights.shape[2]] * used[:, None, None]
            if case.model_type == "squeezebert" or (streams and not name.startswith("decoder")):
                their_weights = their_weights.softmax(-1)  # the reference gives the scores instead
            apart = (our_weights - their_weights).detach().abs().amax((1, 3))
            if streams and name.startswith("cross"):
                apart = apart[:, : rows.shape[1]]  # behind the text stand the streams that predict it
            assert float(apart[rows.bool()].max()) < case.tolerance


@pytest.mark.parametrize("case", PLAIN, **ids)
def test_vectors_and_head_mask(case: Case, tmp_path: Path) -> None:
    """`inputs_embeds` instead of ids, and heads switched off."""
    both = pair(case, "base", tmp_path)
    inputs = inputs_of(case, both.reference.config)
    places = real_places(inputs)
    mask = torch.tensor([[1.0, 0.0, 0.5, 1.0], [0.0, 1.0, 1.0, 0.25]])
    if case.attends and case.head_mask:
        inputs["head_mask"] = mask.repeat_interleave(both.reference.config.num_hidden_layers // 2, 0)
    assert (
        difference(both.ours(**inputs).last_hidden_state, both.reference(**inputs).last_hidden_state, places)
        < case.tolerance
    )
    if case.model_type not in ("t5", "mt5", "switch_transformers"):  # the reference's T5 wants its own scaling of ids
        vectors = both.reference.get_input_embeddings()(inputs.pop("input_ids"))
        inputs["inputs_embeds"] = vectors[0] if isinstance(vectors, tuple) else vectors
    assert (
        difference(both.ours(**inputs).last_hidden_state, both.reference(**inputs).last_hidden_state, places)
        < case.tolerance
    )


@pytest.mark.parametrize("case", sampled([case for case in CASES if case.reopens], 1 / 4, always=plain), **ids)
def test_files_both_ways(case: Case, tmp_path: Path) -> None:
    """What we save, the reference opens, bit for bit."""
    for task in architecture(case.model_type).tasks:
        if (case.name, task) == ("mvp@prompts", "encoder"):
            continue  # by itself, the reference's encoder opens without prompts
        both = pair(case, task, tmp_path / task)
        both.ours.save_pretrained(tmp_path / f"{task}-back")
        again, info = type(both.reference).from_pretrained(tmp_path / f"{task}-back", output_loading_info=True)
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
        before, after = both.reference.state_dict(), again.state_dict()
        assert before.keys() == after.keys()
        unread = {row.published for row in both.ours.declared.body_rows(both.ours.config) if isinstance(row, Unused)}
        read = [name for name in before if name.removeprefix(f"{both.ours.declared.prefix}.") not in unread]
        assert all(torch.equal(before[name], after[name]) for name in read)
        kept = type(both.reference).from_pretrained(tmp_path / task).config.to_diff_dict()
        if task == "encoder" and kept.get("is_encoder_decoder"):
            kept["is_encoder_decoder"] = False  # the reference's part says what the whole is
        documented = fields(type(both.ours.config))  # some of which this release has dropped
        options = again.config.to_diff_dict().items()
        assert {name: value for name, value in options if name in kept or name not in documented} == kept


@pytest.mark.parametrize(("case", "task"), sampled(TASKS, 1 / 2, always=plain), **ids)
def test_heads(case: Case, task: str, tmp_path: Path) -> None:
    """Predictions and losses of every task that the architecture has."""
    num_labels = 2 if task in ("question-answering", "pretraining") else 3
    both = pair(case, task, tmp_path, **DECODER.get((case.model_type, task), {}), num_labels=num_labels)
    inputs, targets, places = task_inputs(case, task, both.reference.config)
    if case.model_type == "longformer" and task in ("question-answering", "multiple-choice"):
        inputs.setdefault("global_attention_mask", (inputs["input_ids"] == 50).long())  # its own rule: see test below
    theirs = both.reference(**inputs, **targets, output_hidden_states=True)
    for pack in (True, False):
        both.ours.pack = pack
        ours = both.ours(**inputs, **targets, output_hidden_states=True)
        assert_same_order(ours, theirs)
        wanted = [name for name in theirs if name.endswith(("logits", "last_hidden_state", "loss"))]
        for name in [name for name in wanted if isinstance(theirs[name], torch.Tensor)]:
            where = inputs["attention_mask"].bool() if name.startswith("encoder") else places
            if task.startswith("entity-span") or name.startswith("entity"):
                where = inputs["entity_attention_mask"].bool()
            where = where if theirs[name].dim() > 1 and theirs[name].shape[:2] == where.shape else None
            assert difference(ours[name], theirs[name], where) < case.tolerance, name


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.model_type in DECODERS or "decoder" in case.name], **ids
)
def test_token_by_token_is_one_pass(case: Case, tmp_path: Path) -> None:
    """Decoding with a cache gives the states of one full pass, on both paddings."""
    ours = pair(case, "base", tmp_path).ours
    for left in (False, True):
        inputs = inputs_of(case, ours.config, left=left)
        with torch.no_grad():
            if isinstance(ours.body, EncoderDecoder):
                ids, mask = inputs["decoder_input_ids"], inputs["decoder_attention_mask"]
                fixed = {"attention_mask": inputs["attention_mask"], "input_ids": inputs["input_ids"]}
                names = ("decoder_input_ids", "decoder_attention_mask")
            else:
                ids, mask, fixed, names = (
                    inputs["input_ids"],
                    inputs["attention_mask"],
                    {name: inputs[name] for name in PREFIX if name in inputs},
                    ("input_ids", "attention_mask"),
                )
            full = ours(**{names[0]: ids, names[1]: mask}, **fixed).last_hidden_state
            cache, steps = None, []
            for place in range(ids.shape[1]):
                step = ours(
                    **{names[0]: ids[:, place : place + 1], names[1]: mask[:, : place + 1]},
                    **fixed,
                    past_key_values=cache,
                    use_cache=True,
                )
                cache = step.past_key_values
                steps.append(step.last_hidden_state)
        assert difference(torch.cat(steps, 1), full, real_places(inputs)) < case.tolerance


def test_longformer_marks_the_question(tmp_path: Path) -> None:
    """Without a mask, questions are global as in the reference, which wants three separators in each text."""
    case = next(case for case in CASES if case.name == "longformer@no_global")
    both = pair(case, "question-answering", tmp_path)
    inputs = inputs_of(case, both.reference.config)
    inputs["input_ids"][:, 4] = inputs["input_ids"][:, 6] = both.ours.config.sep_token_id
    theirs, ours = both.reference(**inputs), both.ours(**inputs)
    assert difference(ours.start_logits, theirs.start_logits, inputs["attention_mask"].bool()) < case.tolerance


def test_weights_of_another_task_and_old_names(tmp_path: Path) -> None:
    """A base model from a file with a head, and a head on a base file, with norms called gamma and beta."""
    case = next(case for case in CASES if case.name == "bert")
    both = pair(case, "masked-lm", tmp_path / "lm")
    base = from_pretrained(tmp_path / "lm", task="base")
    assert set(base.load_report.initialised) == {"body.pooler.dense.weight", "body.pooler.dense.bias"}
    inputs = inputs_of(case, both.reference.config)
    places = real_places(inputs)
    expected = both.reference.bert(**inputs).last_hidden_state
    assert difference(base(**inputs).last_hidden_state, expected, places) < case.tolerance

    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in both.reference.state_dict().items()
    }
    (tmp_path / "old").mkdir()
    torch.save(old, tmp_path / "old" / "pytorch_model.bin")
    (tmp_path / "old" / "config.json").write_bytes((tmp_path / "lm" / "config.json").read_bytes())
    aged = from_pretrained(tmp_path / "old")
    assert aged.task == "masked-lm"
    assert aged.load_report.initialised == ()
    assert difference(aged(**inputs).logits, both.reference(**inputs).logits, places) < case.tolerance


def test_another_number_of_classes_only_on_request(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "bert")
    pair(case, "sequence-classification", tmp_path, num_labels=3)
    with pytest.raises(UserError, match=r"head\.out\.weight has shape \[3, 32\], the options ask for \[5, 32\]"):
        from_pretrained(tmp_path, num_labels=5)
    model = from_pretrained(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert set(model.load_report.mismatched) == {"head.out.weight", "head.out.bias"}
    assert set(model.load_report.initialised) == set(model.load_report.mismatched)
    assert model(torch.tensor([[5, 6, 7]])).logits.shape == (1, 5)


def test_sharded_files(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "gpt2")
    both = pair(case, "base", tmp_path / "one")
    both.reference.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert (tmp_path / "many" / "model.safetensors.index.json").is_file()
    inputs = inputs_of(case, both.reference.config)
    expected = both.reference(**inputs).last_hidden_state
    found = from_pretrained(tmp_path / "many")(**inputs).last_hidden_state
    assert difference(found, expected, real_places(inputs)) < case.tolerance


def test_the_reference_is_the_documented_release() -> None:
    assert transformers.__version__ == "4.57.6"
