"""The public model factory: build a model from options, or load a published checkpoint."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.models.architecture import Architecture
from eir_seq.models.bounds import bounded_by_file, bounded_by_memory
from eir_seq.models.catalogue import CATALOGUE, CROSS, SYNONYMS, architecture, config_class
from eir_seq.models.checkpoint.folder import FORMATS, locate, options_of, read_config, read_generation, read_tensors
from eir_seq.models.checkpoint.fp8 import dequantized
from eir_seq.models.checkpoint.matching import match, unwrapped
from eir_seq.models.device_map import DeviceMap, dispatch
from eir_seq.models.model import Model
from eir_seq.models.option_checks import build_config
from eir_seq.models.options import ModelConfig, fields, overridden, split_answers
from eir_seq.models.pruning import PRUNED, pruned_heads
from eir_seq.models.vocabulary import assign

logger = logging.getLogger(__name__)

MAY_BE_FRESH = re.compile(r"^body\.pooler\.|_prompts\.")
"""Parts of a body that a checkpoint need not hold."""
CROSS_ATTENTION = re.compile(r"\.cross(_\w+)?\.")
"""Those that it need not hold either where an override adds cross-attention."""
SHAPES = "the options ask for"


@dataclass(frozen=True)
class LoadReport:
    """What loading a checkpoint left open.

    `initialised`: fresh parameters (our names); `mismatched`: those of them that the file holds in another shape.
    Of the tensors in the file, by their names there: `unused`, those that are no parameter of the model; `ignored`,
    buffers and constants that no model needs; `differing`, pairs of names of one (tied) tensor with different values,
    of which the first counts. All others were read. `prefix`: what a wrapper had put before all names of the model.
    """

    initialised: tuple[str, ...]
    unused: tuple[str, ...]
    mismatched: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    differing: tuple[tuple[str, str], ...] = ()
    prefix: str = ""


def create_model(
    model_type: str,
    model_init_config: dict[str, Any] | ModelConfig | None = None,
    *,
    task: str = "base",
    attn_implementation: str | None = None,
    encoder: bool = True,
) -> Model:
    """A new model, initialized as in transformers.

    Args:
        model_type: name in the catalogue; a class name of transformers ("BertForMaskedLM") names type and task at once.
        model_init_config: options by their names in transformers, defaults for the rest; or a config object.
        task: "base", "encoder", "masked-lm", "causal-lm", "seq2seq-lm", "sequence-classification", ...
        attn_implementation: how attention is computed, see `Model.set_attn_implementation`.
        encoder: False leaves out that of an encoder-decoder, whose decoder then attends to `encoder_outputs`.

    Raises:
        UserError: unknown type, task or options.

    Example:
        >>> import torch
        >>> from eir_seq.models import create_model
        >>> sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        >>> model = create_model("bert", {"vocab_size": 100, **sizes}, task="sequence-classification")
        >>> model(input_ids=torch.tensor([[2, 7, 8, 3]])).logits.shape
        torch.Size([1, 2])
    """
    model_type, task = _by_class_name(model_type, task)
    if isinstance(model_init_config, ModelConfig):
        config = model_init_config
        if config.model_type != model_type:
            raise UserError(Fault("model_type", f"{model_type!r} cannot be built of options of {config.model_type!r}"))
    else:
        config = build_config(model_type, model_init_config)
    declared = architecture(model_type)
    _check_task(model_type, declared, task)
    with bounded_by_memory():
        model = _build(declared, config, task, encoder=encoder)
    declared.initialization(config).fill(model)
    if attn_implementation is not None:
        model.set_attn_implementation(attn_implementation)
    return model


def from_pretrained(
    folder_or_hub_id: str | Path,
    *,
    task: str | None = None,
    model_type: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    ignore_mismatched_sizes: bool = False,
    pretrained_parts: str = "all",
    attn_implementation: str | None = None,
    dtype: str | torch.dtype | None = None,
    torch_dtype: str | torch.dtype | None = None,
    device_map: DeviceMap | None = None,
    **config_overrides: Any,
) -> Model:
    """A model with the weights of a published checkpoint.

    What the file does not hold (a head of another task) is initialized and named in ``model.load_report``.

    Args:
        folder_or_hub_id: a model folder, or the id of one on the Hub.
        task: by default the one that the checkpoint was saved for.
        model_type: by default the checkpoint's; or another one with the same published names ("mvp" for a bart), or a
            class name of transformers, which names the task too.
        ignore_mismatched_sizes: initialize what the file holds in another shape (a head with other classes, say).
        pretrained_parts: "encoder" or "decoder" loads that side of an encoder-decoder alone, see `Model.side`; the
            other one is fresh, may have other sizes by `config_overrides`, and need not be in the file.
        attn_implementation: how attention is computed, see `Model.set_attn_implementation`.
        dtype: number format of the weights, e.g. torch.bfloat16 or its name; "auto" for the one that config.json names,
            or else that of the file's weights; torch's default one if absent.
        torch_dtype: the former name of `dtype`.
        device_map: where the model goes, see `device_map.dispatch`; the CPU if absent.
        config_overrides: options that replace those of the file, e.g. dropout, num_labels, `id2label`, the names of
            classes by their numbers, from which their count follows, or `add_cross_attention`, for fresh layers of
            cross-attention in a decoder that was published without. `output_attentions`, `output_hidden_states` and
            `return_dict` are what calls return where they do not say.

    Raises:
        UserError: no such model, unreadable files, tensors that are missing or of another shape.

    Example:
        >>> from tempfile import mkdtemp
        >>> from eir_seq.models import create_model, from_pretrained
        >>> folder = mkdtemp()
        >>> sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 100, "n_positions": 32}
        >>> create_model("gpt2", sizes, task="causal-lm").save_pretrained(folder)
        >>> model = from_pretrained(folder, task="sequence-classification", num_labels=3)
        >>> model.load_report.initialised
        ('head.out.weight',)
    """
    folder = locate(folder_or_hub_id, revision=revision, local_files_only=local_files_only)
    content = read_config(folder)
    own_type = content["model_type"]
    if model_type is None:
        model_type = own_type
    else:
        model_type, named = _by_class_name(model_type, "")
        task, content = task or named or None, {**content, "model_type": model_type}
    if model_type not in CATALOGUE:
        raise UserError(
            Fault(
                "model_type",
                f"{model_type!r} is not in the catalogue{nearest(model_type, CATALOGUE)}",
                str(folder / "config.json") if model_type == own_type else None,
            )
        )
    declared = architecture(model_type)
    if task is None:
        written_for = architecture(own_type) if own_type in CATALOGUE else declared
        task = _task_of_classes(written_for, content.get("architectures"))
    _check_task(model_type, declared, task)
    if dtype is not None and torch_dtype is not None:
        raise UserError(Fault("torch_dtype", "given twice: 'dtype' and 'torch_dtype' are one argument"))
    dtype = torch_dtype if dtype is None else dtype
    config = _config(content, folder, config_overrides)
    held = dequantized(read_tensors(folder), content, str(folder))
    with torch.device("meta"), bounded_by_file(len(held), str(folder)):
        model = _build(declared, config, task, str(folder / "config.json"))
    wanted = None if pretrained_parts == "all" else _names_of(pretrained_parts, model)
    model.generation_config = read_generation(folder)
    try:
        fresh = (MAY_BE_FRESH, CROSS_ATTENTION) if config_overrides.get(CROSS) else (MAY_BE_FRESH,)
        report = _load(model, held, folder, ignore_mismatched_sizes, wanted, fresh)
    except UserError as error:
        if (fault := _fault_of_task(model, config)) is None or not any(SHAPES in x.message for x in error.faults):
            raise
        others = (x for x in error.faults if SHAPES not in x.message)
        raise UserError(Fault(str(folder), fault), *others) from error
    model.load_report, model.folder = report, folder
    if config_overrides.get("output_attentions") and not model.spells_attentions:
        raise UserError(Fault("output_attentions", f"{model_type!r} has no weights of pairs of tokens"))
    if attn_implementation is not None:
        model.set_attn_implementation(attn_implementation)
    dispatch(model.to(_stored_dtype(content, held) if dtype == "auto" else _dtype(dtype)), device_map)
    return model.eval()


def pretrained_config(
    folder_or_hub_id: str | Path,
    *,
    model_type: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
    **overrides: Any,
) -> ModelConfig:
    """The options of a published checkpoint, without its weights; arguments as of `from_pretrained`.

    Raises:
        UserError: as there.
    """
    folder = locate(folder_or_hub_id, revision=revision, local_files_only=local_files_only, kind="configuration")
    content = read_config(folder)
    if model_type is not None:
        content = {**content, "model_type": model_type}
    return _config(content, folder, overrides)


def _config(content: dict[str, Any], folder: Path, overrides: dict[str, Any]) -> ModelConfig:
    """The options in the content of a folder's config.json, some of them overridden."""
    model_type = content["model_type"]
    overrides, answers = split_answers(overrides)
    split_answers(content, str(folder / "config.json"))
    options = options_of({**content, **_labels(overrides)}, folder / "config.json")
    published = options.pop("published") | answers
    given = overridden(config_class(model_type), options, overrides)
    return replace(build_config(model_type, given), published=published)


def _build(
    declared: Architecture, config: ModelConfig, task: str, source: str = "config", *, encoder: bool = True
) -> Model:
    """A model of these options without the heads that they name as pruned; its weights are still to be filled."""
    pruned = pruned_heads(config.published.get(PRUNED), source)
    others = {name: value for name, value in config.published.items() if name != PRUNED}
    model = Model(declared, replace(config, published=others), task, encoder=encoder)
    if pruned:
        model.prune_heads(pruned)
    return model


def _labels(overrides: dict[str, Any]) -> dict[str, Any]:
    """The names of classes, taken out of the overrides; one mapping is enough."""
    names, numbers = overrides.pop("id2label", None), overrides.pop("label2id", None)
    if names is None and numbers is None:
        return {}
    if names is None and isinstance(numbers, dict):
        names = {number: label for label, number in numbers.items()}
    named = {str(number): label for number, label in names.items()} if isinstance(names, dict) else {}
    if not named or set(named) != {str(i) for i in range(len(named))}:
        message = f"{names!r} does not name the classes 0, 1, 2 ... one by one"
        raise UserError(Fault("label2id" if numbers is not None else "id2label", message))
    if overrides.get("num_labels", len(named)) != len(named):
        raise UserError(Fault("num_labels", f"{overrides['num_labels']} is not the number of labels, {len(named)}"))
    return {"id2label": named}


def _stored_dtype(content: dict[str, Any], held: dict[str, Tensor]) -> torch.dtype:
    """The number format of a published model: as its config says, or that of its first weight."""
    if (given := content.get("dtype", content.get("torch_dtype"))) is not None:
        return _dtype(given)
    floats = (x.dtype for x in held.values() if x.is_floating_point())
    return next(floats, torch.get_default_dtype())


def _dtype(given: str | torch.dtype | None) -> torch.dtype:
    found = getattr(torch, given.removeprefix("torch."), None) if isinstance(given, str) else given
    found = torch.get_default_dtype() if found is None and given is None else found
    if found not in FORMATS:
        raise UserError(Fault("dtype", f"{given!r} is no number format of weights ({_formats()})"))
    return found


def _formats() -> str:
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in FORMATS)


def _fault_of_task(model: Model, config: ModelConfig) -> str | None:
    """Why tensors have other shapes, where the class of the task changes options; None if it changes none."""
    own = model.config
    changed = {name: getattr(own, name) for name in fields(type(own)) if getattr(own, name) != getattr(config, name)}
    changes = [f"{name}: {value} (the file has {getattr(config, name)})" for name, value in changed.items()]
    if not changes:
        return None
    other = "masked-lm" if "masked-lm" in model.architecture.tasks and model.task != "masked-lm" else "base"
    plain = "".join(f", {name}=False" for name in ("is_decoder",) if getattr(own, name, False))
    return (
        f"task {model.task!r} needs {', '.join(changes)}, so tensors have other shapes: load it for another task "
        f"(task={other!r}{plain}), or initialize those tensors (ignore_mismatched_sizes=True)"
    )


def _names_of(parts: str, model: Model) -> set[str]:
    try:
        return model.names_of_side(parts)
    except UserError as error:
        raise UserError(*(replace(fault, place="pretrained_parts") for fault in error.faults)) from error


def _load(
    model: Model,
    published: dict[str, Tensor],
    folder: Path,
    ignore_mismatched_sizes: bool,
    wanted: set[str] | None,
    may_be_fresh: Sequence[re.Pattern[str]],
) -> LoadReport:
    """Put tensors of a file into a model, those that are `wanted` (our names; None for all).

    `may_be_fresh`: parts of the body that the file need not hold.
    """
    published, prefix = unwrapped(model, published, str(folder))
    found = match(model, published)
    unused = list(found.unused)
    tensors = {**model.computed_tensors(), **found.tensors}
    if wanted is not None:
        unused += [published for native, names in found.names.items() if native not in wanted for published in names]
        tensors = {name: tensor for name, tensor in tensors.items() if name in wanted}
    buffers = model.saved_buffers()
    expected: dict[str, Tensor] = {**dict(model.named_parameters()), **buffers}
    mismatched = [name for name, tensor in tensors.items() if tensor.shape != expected[name].shape]
    faults = []
    if ignore_mismatched_sizes:
        tensors = {name: tensor for name, tensor in tensors.items() if name not in mismatched}
    else:
        for name in mismatched:
            shapes = f"{list(tensors[name].shape)}, {SHAPES} {list(expected[name].shape)}"
            faults.append(Fault(str(folder), f"{name} has shape {shapes}"))
    faults += [
        Fault(str(folder), f"{name} holds numbers of {tensor.dtype}; quantized weights cannot be read")
        for name, tensor in tensors.items()
        if expected[name].is_floating_point() and tensor.dtype not in FORMATS
    ]
    missing = [name for name in expected if name not in tensors]
    needed = [name for name in missing if name not in buffers and name not in mismatched]
    needed = [name for name in needed if wanted is None or name in wanted]
    needed = [name for name in needed if not any(pattern.search(name) for pattern in may_be_fresh)]
    if lost := [name for name in needed if name.startswith("body.")]:
        listed = ", ".join(lost[:3])
        faults.append(
            Fault(str(folder), f"{len(lost)} of the model's tensors are not in the checkpoint (first: {listed})")
        )
    if faults:
        raise UserError(*faults)
    # copies: a file's tensors lie at odd addresses, and there products round otherwise than in memory of torch's own
    dtype = torch.get_default_dtype()
    assign(model, {name: x.to(dtype if x.is_floating_point() else x.dtype, copy=True) for name, x in tensors.items()})
    if missing:
        fresh = (
            Model(model.architecture, model.config, model.task).saved_buffers()
            if any(name in buffers for name in missing)
            else {}
        )
        for name in missing:
            assign(model, {name: fresh.get(name, torch.empty_like(expected[name], device="cpu"))})
        model.architecture.initialization(model.config).fill(model, set(missing))
        logger.warning("%s: fresh weights for %s", folder, ", ".join(missing[:4]) + (" ..." if missing[4:] else ""))
    if prefix:
        logger.warning("%s: %r before the names of the tensors is left out", folder, prefix)
    for read, other in found.differing:
        logger.warning("%s: %s and %s are one tensor but differ; the first is read", folder, read, other)
    if unused:
        logger.info("%s: %d tensors are not used by task %r", folder, len(unused), model.task)
    return LoadReport(
        tuple(missing), tuple(unused), tuple(mismatched), tuple(found.ignored), tuple(found.differing), prefix
    )


def _check_task(model_type: str, declared: Architecture, task: str) -> None:
    if task not in declared.tasks:
        allowed = ", ".join(declared.tasks)
        raise UserError(
            Fault("task", f"{model_type!r} has no task {task!r}{nearest(task, declared.tasks)} ({allowed})")
        )


def _by_class_name(name: str, task: str) -> tuple[str, str]:
    name = SYNONYMS.get(name, name)
    return (name, task) if name in CATALOGUE else class_named(name) or (name, task)


def class_named(name: str) -> tuple[str, str] | None:
    """Model type and task of a class name of transformers ("BertForMaskedLM"), None if no class has that name."""
    for model_type, entry in CATALOGUE.items():
        family = entry.config.partition(":")[2].removesuffix("Config")
        if name.startswith(family):  # only these architectures are imported
            for task, declared in architecture(model_type).tasks.items():
                if declared.published == name:
                    return model_type, task
    return None


def _task_of_classes(declared: Architecture, classes: Any) -> str:
    names = classes if isinstance(classes, list) else []
    return next((task for task, entry in declared.tasks.items() if entry.published in names), "base")
