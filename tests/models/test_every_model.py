"""What every architecture of the catalogue promises, for each of its tasks."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from eir_seq.modalities.sequence.tensors.declare import _TENSORS
from eir_seq.models import create_model, from_pretrained, list_models
from eir_seq.models.backbones.encoder_decoder import EncoderDecoder
from eir_seq.models.catalogue import POOLERS, TENSORS, architecture, config_class
from eir_seq.models.families.git.prefixed import Prefixed
from eir_seq.models.inputs import INPUTS
from eir_seq.models.model import Model
from eir_seq.models.option_checks import build_config
from eir_seq.models.options import fields
from tests.models.tiny import DROPOUTS, EVERY_TASK, LENGTHS, OPTIONS, inputs, loss, noisy, targets, text, tiny
from tests.sampled import sampled

every_task = pytest.mark.parametrize(("model_type", "task"), EVERY_TASK)
every_model = pytest.mark.parametrize("model_type", list_models())


pytestmark = pytest.mark.usefixtures("one_thread")


UNSEEN = ("*.key.bias", "*.key_global.bias")
"""A bias of keys moves all scores of a query alike, which softmax does not see."""
LAST_LOCAL = tuple(f"*.layers.1.mixer.{part}.*" for part in ("query", "key", "value"))
LAST_WORDS = ("*.layers.1.mixer.query.*", "*.layers.1.mixer.word_to_entity.*")
LAST_ENTITIES = ("*.layers.1.mixer.entity_to_*",)
UNSEEN_IN_TASK = {
    # in the last layer, only queries of what the head reads matter
    "luke entity-classification": LAST_WORDS,
    "luke entity-pair-classification": LAST_WORDS,
    **{
        f"luke {task}": LAST_ENTITIES
        for task in ("sequence-classification", "token-classification", "question-answering", "multiple-choice")
    },
    "multiple-choice": ("head.*out.bias",),  # moves the scores of all choices alike
    "double-heads": ("head.choices.project.bias",),  # so does this one
    # moves the scores of all places alike; rounding may leave a gradient that is not zero
    "answer-search": ("head.begin.bias", "head.end.bias"),
    "question-answering": ("head.out.bias",),
    # so does the bias of a projection that no activation follows
    **{f"{name} multiple-choice": ("head.one.project.bias",) for name in ("flaubert", "xlm")},
    # these heads read the first token, which is global: in the last layer it has projections of its own
    "longformer sequence-classification": LAST_LOCAL,
    "longformer multiple-choice": LAST_LOCAL,
}


UNPACKED = ("fnet",)
"""Published without a mask: padding is mixed in like text."""
READ_PADDING = (*UNPACKED, "mobilebert", "reformer")  # there the first chunk looks at the last one, whatever it holds
WITHOUT_DROPOUT = ("mamba", "rwkv")
POOLER = ("body.pooler.*",)
UNREAD = {
    # published classes that hold a pooler which their head does not read
    **{f"{name} {task}": POOLER
       for name in ("fnet", "layoutlm", "squeezebert")
       for task in ("masked-lm", "token-classification", "question-answering")},
    **{f"big_bird {task}": POOLER
       for task in ("masked-lm", "causal-lm", "sequence-classification", "token-classification")},
    "visual_bert visual-question-answering": POOLER,
    "visual_bert region-to-phrase-alignment": (*POOLER, "head.unread.*", "head.value.*"),
    **{f"luke {task}": POOLER
       for task in ("masked-lm", "entity-classification", "entity-pair-classification", "entity-span-classification")},
    # the first state of tokens that a target_mapping asks for, which there is none of
    **{f"xlnet {task}": ("body.embeddings.hidden",) for task in architecture("xlnet").tasks},
}  # fmt: skip


def predictions(output: Any) -> dict[str, Tensor]:
    return {name: value for name, value in output.items() if isinstance(value, Tensor)}


def of_dropout(model_type: str, rate: float) -> Model:
    known = fields(config_class(model_type))
    return tiny(model_type, **{name: rate for name in DROPOUTS if name in known})


@every_task
@pytest.mark.parametrize("pack", [True, False], ids=["packed", "padded"])
def test_every_parameter_learns(model_type: str, task: str, pack: bool) -> None:
    """A fresh model, in training with its documented dropouts: each parameter has a finite gradient, not all zero."""
    model = noisy(tiny(model_type, task)).train()
    model.pack = pack
    unseen = UNSEEN + UNSEEN_IN_TASK.get(task, ()) + UNSEEN_IN_TASK.get(f"{model_type} {task}", ())
    given = {**inputs(model), **targets(model)}
    taken = {*given, *model.features, *(() if model.head is None else (*model.head.targets, *model.head.inputs))}
    assert taken <= {"input_ids", "attention_mask", *INPUTS}, "the signature of a model's forward lacks an input"
    output = model(**given)
    total = loss(model, output)
    assert torch.isfinite(total)
    total.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            if any(fnmatchcase(name, pattern) for pattern in UNREAD.get(f"{model_type} {task}", ())):
                assert parameter.grad is None, name
                continue
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            if not any(fnmatchcase(name, pattern) for pattern in unseen):
                assert parameter.grad.abs().max() > 0, name


@every_task
def test_packed_equals_padded(model_type: str, task: str) -> None:
    model = noisy(tiny(model_type, task))
    given = {**inputs(model), **targets(model)}
    real = given["attention_mask"].bool()
    found = []
    for model.pack in (True, False):
        found.append(predictions(model(**given)))
    assert found[0].keys() == found[1].keys()
    for name, packed in found[0].items():
        padded = found[1][name]
        if packed.shape[:2] == real.shape and packed.shape[:2] == (len(LENGTHS), max(LENGTHS)):
            packed, padded = packed[real], padded[real]
        elif isinstance(model.body, Prefixed) and packed.dim() > 1:  # whose prefix has no padding
            mask = F.pad(real, (packed.shape[1] - real.shape[1], 0), value=True)
            packed, padded = packed[mask], padded[mask]
        for others in (given[other] for other in ("entity_attention_mask", "visual_attention_mask") if other in given):
            for mask in (others.bool(), torch.cat((real, others.bool()), -1)):
                if packed.shape[:2] == mask.shape:
                    packed, padded = packed[mask], padded[mask]
        torch.testing.assert_close(packed, padded, atol=2e-5, rtol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@every_model
@pytest.mark.parametrize("pack", [True, False], ids=["packed", "padded"])
def test_padding_does_not_matter(model_type: str, pack: bool) -> None:
    """What stands in padding, and how much of it there is."""
    if model_type in READ_PADDING:
        pytest.skip("as published, padding is read here")
    model = noisy(tiny(model_type))
    model.pack = pack
    given = inputs(model)
    before = model(**given)
    mask, in_front = given["attention_mask"].bool(), isinstance(model.body, Prefixed)
    if model_type not in ("roberta", "longformer"):  # there the padding id itself counts positions
        other = {**given, "input_ids": torch.where(mask, given["input_ids"], 77)}
        assert_same_real(before, model(**other), mask, in_front)
    longer = {name: _lengthened(x, _filler(model, name)) for name, x in given.items()}
    longer |= {name: x for name, x in given.items() if name.startswith(("decoder", "entity", "visual", "pixel"))}
    after = model(**longer)
    after["last_hidden_state"] = after.last_hidden_state[:, : before.last_hidden_state.shape[1]]
    assert_same_real(before, after, mask, in_front)


def _lengthened(x: Tensor, filler: int) -> Tensor:
    """(batch, length, ...) -> (batch, length + 5, ...)."""
    return torch.nn.functional.pad(x, (0, 0) * (x.dim() - 2) + (0, 5), value=filler)


def _filler(model: Model, name: str) -> int:
    return (getattr(model.config, "pad_token_id", 0) or 0) if name == "input_ids" else 0


def assert_same_real(before: Any, after: Any, mask: Tensor, in_front: bool) -> None:
    expected, found = before.last_hidden_state, after.last_hidden_state
    if (others := expected.shape[1] - mask.shape[1]) > 0:  # that stand behind the text, or in front
        first = others if in_front else 0
        expected, found = (x[:, first : first + mask.shape[1]] for x in (expected, found))
    if expected.shape[:2] == mask.shape:
        torch.testing.assert_close(found[mask], expected[mask], atol=1e-5, rtol=1e-5)
    else:  # the states of a decoder, all of whose tokens are real
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    if before.pooler_output is not None:
        torch.testing.assert_close(after.pooler_output, before.pooler_output, atol=1e-5, rtol=1e-5)


@every_model
@pytest.mark.parametrize("pack", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("lengths", [(9, 0, 4), (0, 9, 0), (0, 0, 0), (9, 9, 9), (1, 1, 1)], ids=str)
def test_texts_without_tokens(model_type: str, lengths: tuple[int, ...], pack: bool) -> None:
    """A row of padding alone gives finite states and gradients and does not disturb its neighbours."""
    model = noisy(tiny(model_type))
    model.pack = pack
    given = inputs(model) | text(model, lengths)
    states = model(**given).last_hidden_state
    assert torch.isfinite(states).all()
    states.square().mean().backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    alone = {name: x[:1] for name, x in given.items()}
    if lengths[0]:
        where = given["attention_mask"][:1].bool() if states.shape[1] == max(LENGTHS) else ...
        torch.testing.assert_close(states[:1][where], model(**alone).last_hidden_state[where], atol=1e-5, rtol=1e-5)


@every_task
def test_saved_and_loaded(model_type: str, task: str, tmp_path: Path) -> None:
    model = noisy(tiny(model_type, task))
    given = {**inputs(model), **targets(model)}
    model.save_pretrained(tmp_path)
    again = from_pretrained(tmp_path)
    assert again.task == task
    assert again.config == again.config.__class__(**{**vars(model.config), "published": again.config.published})
    assert again.load_report.initialised == ()
    assert again.load_report.unused == ()
    for (name, before), (_, after) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(before, after), name
    for name, value in predictions(model(**given)).items():
        assert torch.equal(value, again(**given)[name]), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("model_type", "task", "how"),
    sampled(
        [(*one, how) for one in EVERY_TASK for how in ("autocast", "bfloat16", "float16")],
        1 / 4,
        always=lambda value: value[-1] == "autocast",
    ),
)
def test_half_precision(model_type: str, task: str, how: str) -> None:
    model = tiny(model_type, task)
    given = {**inputs(model), **targets(model)}
    if how == "autocast":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model.train()(**given)
        loss(model, output).backward()
        assert all(p.dtype is torch.float32 for p in model.parameters())
        assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    else:
        with torch.no_grad():
            output = model.to(getattr(torch, how))(**given)
        floats = [x for name, x in predictions(output).items() if x.is_floating_point() and not name.endswith("loss")]
        assert {x.dtype for x in floats} == {getattr(torch, how)}
    assert all(bool(torch.isfinite(x).all()) for x in predictions(output).values())


@pytest.mark.parametrize("model_type", sampled(list_models(), 1 / 3))
def test_compiled_in_one_graph(model_type: str) -> None:
    """Without packing, whose shapes follow the data, nothing breaks the graph."""
    model = noisy(tiny(model_type))
    model.pack = False
    given = inputs(model)
    given.pop("global_attention_mask", None)  # how many tokens are global is known from the data only
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**given).last_hidden_state, model(**given).last_hidden_state)


@every_task
def test_depth_of_every_parameter(model_type: str, task: str) -> None:
    """Embeddings at 0, layers from 1 on without gaps, the head nowhere; as layer-wise learning rates need it."""
    model = tiny(model_type, task)
    depths = {name: model.layer_of(name) for name, _ in model.named_parameters()}
    assert {depth for name, depth in depths.items() if not name.startswith("head.")} == set(range(model.num_layers + 1))
    assert all(depth is None for name, depth in depths.items() if name.startswith("head."))
    assert all(depth == 0 for name, depth in depths.items() if ".embeddings." in name)
    for name, depth in depths.items():
        if ".layers." in name and ".decoder." not in name:
            assert depth == int(name.split(".layers.")[1].split(".")[0]) + 1


@every_task
def test_documented_class_names(model_type: str, task: str) -> None:
    """The class name alone says model type and task."""
    published = architecture(model_type).tasks[task].published
    model = tiny(model_type, task)
    torch.manual_seed(0)
    options = {name: getattr(model.config, name) for name in fields(type(model.config))}
    named = create_model(published, options)
    assert (named.config.model_type, named.task) == (model_type, task)
    assert all(torch.equal(a, b) for a, b in zip(named.parameters(), model.parameters(), strict=True))


@every_model
def test_inputs_that_cannot_be(model_type: str) -> None:
    model = tiny(model_type)
    given = inputs(model)
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        model(**given, inputs_embeds=torch.zeros(3, 9, model.hidden_size))
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        model(**{name: x for name, x in given.items() if name != "input_ids"})
    with pytest.raises(ValueError, match=r"attention_mask has shape \(3, 8\), but the tokens .* \(3, 9\)"):
        model(**{**given, "attention_mask": given["attention_mask"][:, :8]})
    with pytest.raises(ValueError, match="'bbbox'"):
        model(**given, bbbox=torch.zeros(3, 9, 4))
    with pytest.raises(ValueError, match="labels need a head"):
        model(**given, labels=torch.zeros(3))


@every_model
def test_what_a_model_says_of_itself(model_type: str) -> None:
    model = tiny(model_type)
    assert model.pack is (model_type not in UNPACKED)
    model.pack = False
    assert model.pack is False
    output = model(**inputs(model))
    assert output.last_hidden_state.shape[-1] == model.hidden_size
    assert output["last_hidden_state"] is output.last_hidden_state
    assert output.attentions is None
    with pytest.raises(AttributeError, match="no field 'last_hiden_state'"):
        _ = output.last_hiden_state
    assert model.max_positions is None or model.max_positions > 0


@every_model
def test_a_text_as_long_as_there_are_positions(model_type: str) -> None:
    model = tiny(model_type)
    ids = torch.full((1, model.max_positions or 40), 20)
    written = torch.full((1, model.config.target_positions() or 40), 20)
    more = {"decoder_input_ids": written} if isinstance(model.body, EncoderDecoder) else {}
    assert torch.isfinite(model(ids, torch.ones_like(ids), **more).last_hidden_state).all()


@every_model
def test_training_and_evaluation_differ_only_by_dropout(model_type: str) -> None:
    model = noisy(of_dropout(model_type, 0.0))
    given = inputs(model)
    expected = model(**given).last_hidden_state
    assert torch.equal(model.train()(**given).last_hidden_state, expected)
    if model_type in WITHOUT_DROPOUT:
        return
    again = noisy(of_dropout(model_type, 0.1)).train()
    assert not torch.equal(again(**given).last_hidden_state, expected)


@every_model
def test_the_catalogue_knows_who_has_a_pooler(model_type: str) -> None:
    task = "encoder" if "encoder" in architecture(model_type).tasks else "base"
    body = tiny(model_type, task).body
    assert (getattr(body, "pooler", None) is not None) == (model_type in POOLERS)


SWITCHES = {
    "n_langs": 3,
    "use_lang_emb": True,
    "use_task_id": True,
    "enable_shape": True,
    "enable_pronunciation": True,
}


@every_model
def test_the_catalogue_knows_who_takes_more_than_tokens(model_type: str) -> None:
    tasks, own = architecture(model_type).tasks, fields(config_class(model_type))
    task = tasks["encoder" if "encoder" in tasks else "base"]
    switched_on = {name: value for name, value in SWITCHES.items() if name in own}
    given = [{**OPTIONS[model_type], **switches} for switches in ({}, switched_on)]
    taken = {name for options in given for name in task.plan(build_config(model_type, options)).inputs}
    assert [kind for kind, tensors in _TENSORS.items() if set(tensors) <= taken] == [
        kind for kind, models in TENSORS.items() if model_type in models
    ]
