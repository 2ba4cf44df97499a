"""Training few parameters of a model: adapters of low rank (https://arxiv.org/abs/2106.09685), and frozen tensors.

Modules and tensors are named as in published checkpoints (see `published_names`), and adapters are read and written as
the library peft keeps them: ``adapter_config.json`` and ``adapter_model.safetensors``.
"""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from eir_seq.errors import Fault, UserError, nearest
from eir_seq.models.backbones.encoder_decoder import EncoderDecoder
from eir_seq.models.checkpoint.folder import ADAPTER, locate, read_json_object, read_tensors
from eir_seq.models.checkpoint.matching import match
from eir_seq.models.layers.linear import Linear
from eir_seq.models.layers.lora import Lora
from eir_seq.models.model import SIDES
from eir_seq.models.names import Named, adapters, is_adapter, published_names

ALL_LINEAR = "all-linear"
FRONT = "base_model.model."
"""What precedes a published name in an adapter's file."""
WEIGHTS = "adapter_model"
TASKS = {"causal-lm": "CAUSAL_LM", "seq2seq-lm": "SEQ_2_SEQ_LM"}
"""What peft calls tasks whose models generate."""
DEFAULT_ALPHA = 8
"""What an adapter's config that tells no lora_alpha means."""
UNKNOWN_KIND = "adapters of this kind are not implemented"

# ------------------------------------------------------------------------------------------------------- adapters


def linear_modules(model: nn.Module) -> dict[str, Named]:
    """Published linear layers of the body that an adapter can be added to, by their published names."""
    modules = dict(model.named_modules(remove_duplicate=False))

    def takes(parameter: str) -> bool:
        layer = modules.get(parameter.removesuffix(".weight"))
        return type(layer) is nn.Linear or (isinstance(layer, Linear) and layer.takes_adapter)

    return {
        name.removesuffix(".weight"): named
        for name, named in published_names(model).items()
        if name.endswith(".weight") and all(map(takes, named.native)) and not named.of_head
    }


def add_lora(
    model: nn.Module,
    *,
    rank: int = 8,
    alpha: float = 16.0,
    dropout: float = 0.0,
    target_modules: str | Sequence[str] = ALL_LINEAR,
) -> None:
    """Give linear layers an adapter each, in place, which changes nothing as long as it is fresh; freeze the rest.

    What a loaded model has fresh (its `load_report` names it: a head, say) is trained as well.

    Args:
        model: of the catalogue or beyond it.
        rank: of the adapters; as high as a layer is wide it can learn anything.
        alpha: the adapters' factor is alpha / rank.
        dropout: on what adapters read.
        target_modules: published names of linear layers, their last parts (``q_proj``) or patterns (``h.0.*``); a
            published layer that is several layers here (gpt2's ``c_attn``) has one adapter, of its whole width.
            ``"all-linear"``: all of the body.

    Raises:
        UserError: a name that fits no linear layer.
    """
    known = linear_modules(model)
    names = [target_modules] if isinstance(target_modules, str) else list(target_modules)
    chosen = list(known) if names == [ALL_LINEAR] else _chosen(model, names, known)
    if not chosen:
        raise UserError(Fault("target_modules", "the body has no linear layer that takes an adapter"))
    for name in chosen:
        layers = _layers(model, known[name])
        a = nn.Parameter(torch.empty(rank, layers[0].in_features))
        nn.init.kaiming_uniform_(a, a=math.sqrt(5))
        for layer in layers:
            b = nn.Parameter(torch.zeros(layer.out_features, rank))
            _attach(layer, Lora(a, b, scale=alpha / rank, dropout=dropout))
    _freeze_rest(model)


def load_adapter(model: nn.Module, folder_or_hub_id: str | Path, *, revision: str | None = None) -> None:
    """Give the model the adapter that others (or `save_adapter`) published, in place; freeze the rest.

    Whole tensors in the file (modules_to_save, biases) replace those of the model; those of heads that the model does
    not have are left out.

    Raises:
        UserError: unreadable files, another kind of adapter, layers that the model does not have or of other sizes.
    """
    folder = locate(folder_or_hub_id, revision=revision, kind="adapter")
    config, path = read_json_object(folder / ADAPTER), str(folder / ADAPTER)
    if config.get("peft_type") != "LORA":
        raise UserError(Fault("peft_type", f"{config.get('peft_type')!r} is not 'LORA'", path))
    faults = [Fault(option, UNKNOWN_KIND, path) for option in ("use_dora", "lora_bias") if config.get(option)]
    faults += [Fault(option, problem, path) for option, problem in _option_problems(config)]
    if faults:
        raise UserError(*faults)
    pairs, whole = _sorted_out(model, read_tensors(folder, (WEIGHTS, WEIGHTS)))
    faults += [Fault(name, UNKNOWN_KIND, str(folder)) for name in whole if ".lora_" in name]
    known = linear_modules(model)
    for name, matrices in pairs.items():
        if problem := _problem(model, name, matrices, known):
            faults.append(Fault(name, problem, str(folder)))
    if not pairs and not faults:
        faults.append(Fault(str(folder), "holds no adapter: no tensors are named ...lora_A.weight"))
    if faults:
        raise UserError(*faults)
    dropout = float(config.get("lora_dropout") or 0.0)
    for name, matrices in pairs.items():
        layers, a, b = _layers(model, known[name]), nn.Parameter(matrices["A"]), matrices["B"]
        rank = a.shape[0]
        alpha = _of_module(config.get("alpha_pattern"), name, config.get("lora_alpha", DEFAULT_ALPHA))
        scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
        for layer, part in zip(layers, known[name].split(f"{name}.weight", b), strict=True):
            own = Lora(a, nn.Parameter(part.contiguous()), scale=scale, dropout=dropout)
            _attach(layer, own)
    _freeze_rest(model, _replace(model, whole, str(folder)))


def save_adapter(model: nn.Module, folder: str | Path, *, base_model: str | None = None) -> None:
    """Write the adapters, and whole tensors that are trained with them, under published names.

    Args:
        model: with adapters.
        folder: is made if it is not there.
        base_model: folder or Hub id of the weights that the adapters belong to.
    """
    folder = Path(folder)
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    transposed = []
    dropout = 0.0
    known = linear_modules(model)
    for name, named in known.items():
        loras = [layer.lora for layer in _layers(model, named) if layer.lora is not None]
        if not loras:
            continue
        front = FRONT + _in_class(model, name, named)
        tensors[f"{front}.lora_A.weight"] = loras[0].a
        tensors[f"{front}.lora_B.weight"] = named.fuse(lora.b.detach() for lora in loras)
        ranks[name], alphas[name] = loras[0].rank, loras[0].scale * loras[0].rank
        transposed.append(named.transposed)
        dropout = loras[0].dropout.p
    assert ranks, "the model has no adapters"
    trained = {name for name, x in model.named_parameters() if x.requires_grad and not is_adapter(name)}
    whole = {name: named for name, named in published_names(model).items() if trained.intersection(named.native)}
    tensors |= {FRONT + _in_class(model, name, named): _tensor(model, name, named) for name, named in whole.items()}
    rank, alpha = next(iter(ranks.values())), next(iter(alphas.values()))
    config = {
        "peft_type": "LORA",
        "task_type": TASKS.get(getattr(model, "task", "")),
        "base_model_name_or_path": base_model,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": [_in_class(model, name, known[name]) for name in ranks],
        "rank_pattern": {re.escape(name): r for name, r in ranks.items() if r != rank},
        "alpha_pattern": {re.escape(name): x for name, x in alphas.items() if x != alpha},
        "modules_to_save": sorted({name.rpartition(".")[0] for name in whole}) or None,
        "fan_in_fan_out": any(transposed),
        "bias": "none",
        "use_rslora": False,
        "inference_mode": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ADAPTER).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    kept = {name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()}
    save_file(kept, folder / f"{WEIGHTS}.safetensors", metadata={"format": "pt"})
    mode = stat.S_IMODE((folder / ADAPTER).stat().st_mode)  # as umask says; safetensors keeps its files private
    (folder / f"{WEIGHTS}.safetensors").chmod(mode)


@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Add what the adapters learned to the weights, in place, and take the adapters off.

    The model computes the same up to rounding. What was frozen stays so.
    """
    for name in adapters(model):
        layer = model.get_submodule(name)
        assert isinstance(layer, Linear)
        layer.weight.copy_(layer.whole_weight)
        layer.lora = None


def _layers(model: nn.Module, named: Named) -> list[Linear]:
    """Our layers of a published one; torch's own are replaced, with the same parameters."""
    layers = []
    for parameter in named.native:
        name = parameter.removesuffix(".weight")
        layer = model.get_submodule(name)
        if not isinstance(layer, Linear):
            assert type(layer) is nn.Linear
            with torch.device("meta"):
                native = Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
            native.weight, native.bias = layer.weight, layer.bias
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, native)
            layer = native
        layers.append(layer)
    return layers


def _attach(layer: Linear, lora: Lora) -> None:
    layer.lora = lora.to(layer.weight.device, layer.weight.dtype)


def _freeze_rest(model: nn.Module, also: Iterable[str] = ()) -> None:
    """Train adapters, what a loaded model has fresh, and what is named."""
    report = getattr(model, "load_report", None)
    trained = {*also, *(report.initialised if report else ())}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_adapter(name) or name in trained)


def _fits(name: str, entry: str) -> bool:
    return name == entry or name.endswith(f".{entry}") or fnmatchcase(name, entry)


def _chosen(model: nn.Module, entries: Sequence[str], known: Mapping[str, Named]) -> list[str]:
    faults = []
    for entry in entries:
        if any(_fits(name, entry) for name in known):
            continue
        others = (name.rpartition(".")[0] for name in published_names(model))
        other = next((name for name in others if _fits(name, entry)), None)
        close = nearest(entry, [*dict.fromkeys(name.rpartition(".")[2] for name in known), *known])
        reason = f"{other} is no linear layer of the body" if other else f"no linear layer is named so{close}"
        faults.append(Fault("target_modules", f"{entry!r}: {reason}"))
    if faults:
        raise UserError(*faults)
    return [name for name in known if any(_fits(name, entry) for entry in entries)]


def _in_class(model: Any, name: str, named: Named) -> str:
    """A published name as the class of the model's task has it."""
    prefix = model.declared.prefix if hasattr(model, "declared") and not named.of_head else ""
    return f"{prefix}.{name}" if prefix else name


def _tensor(model: Any, name: str, named: Named) -> Tensor:
    if not hasattr(model, "declared"):
        parameter: Tensor = model.get_parameter(named.native[0])
        return parameter
    tensor: Tensor = model.published_tensors()[_in_class(model, name, named)]
    return tensor


_MATRIX = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")


def _sorted_out(model: Any, tensors: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """What an adapter's file holds: matrices by published layer, and whole tensors."""
    prefixes = [f"{prefix}." for prefix in model.architecture.prefixes] if hasattr(model, "architecture") else []
    pairs: dict[str, dict[str, Tensor]] = {}
    whole = {}
    for name, tensor in tensors.items():
        name = name.removeprefix(FRONT)
        if (match := _MATRIX.fullmatch(name)) is None:
            whole[name] = tensor
            continue
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
        pairs.setdefault(match[1].removeprefix(prefix), {})[match[2]] = tensor.to(torch.get_default_dtype())
    return pairs, whole


def _option_problems(config: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Options of a published adapter that are not what they must be, each with what is wrong."""
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        yield "alpha_pattern", f"{patterns!r:.80} is not an object of patterns and numbers"
        patterns = {}
    alphas = {f"alpha_pattern.{pattern}": alpha for pattern, alpha in patterns.items()}
    for option, value in {"lora_alpha": config.get("lora_alpha", DEFAULT_ALPHA), **alphas}.items():
        if not _is_number(value) or not 0 < value < math.inf:
            yield option, f"{value!r} is not a number above 0"
    dropout = config.get("lora_dropout") or 0.0
    if not _is_number(dropout) or not 0 <= dropout < 1:
        yield "lora_dropout", f"{dropout!r} is not a number from 0 to below 1"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _problem(model: nn.Module, name: str, matrices: Mapping[str, Tensor], known: Mapping[str, Named]) -> str | None:
    if name not in known:
        return f"the model has no linear layer of that name{nearest(name, known)}"
    if matrices.keys() != {"A", "B"}:
        return f"lora_{'B' if 'A' in matrices else 'A'} is missing"
    layers = _layers(model, known[name])
    inputs, outputs = layers[0].in_features, sum(layer.out_features for layer in layers)
    a, b = matrices["A"].shape, matrices["B"].shape
    if (len(a), len(b)) != (2, 2) or (a[1], b[0]) != (inputs, outputs) or a[0] != b[1]:
        return f"A has shape {list(a)} and B {list(b)}, for a layer of {inputs} inputs and {outputs} outputs"
    if not a[0]:
        return "its rank is 0"
    return None


def _of_module(patterns: Mapping[str, float] | None, name: str, default: float) -> float:
    """The value of the first pattern that fits the end of a layer's name."""
    for pattern, value in (patterns or {}).items():
        try:
            if re.fullmatch(rf"(.*\.)?({pattern})", name):
                return value
        except re.error:
            continue
    return default


@torch.no_grad()
def _replace(model: Any, whole: Mapping[str, Tensor], source: str) -> set[str]:
    """Put whole tensors in the place of the model's, and return their native names."""
    if not hasattr(model, "declared"):
        return set()
    tensors = match(model, dict(whole)).tensors
    for name, tensor in tensors.items():
        own = model.get_parameter(name)
        if own.shape != tensor.shape:
            shapes = f"{list(tensor.shape)}, the model's is {list(own.shape)}"
            rows, vocabulary = tensor.shape[0], getattr(model.config, "vocab_size", None)
            grown = own.shape[0] == vocabulary and tensor.shape[1:] == own.shape[1:]
            hint = f"; model.resize_token_embeddings({rows}) first gives it that many tokens" if grown else ""
            raise UserError(Fault(name, f"has shape {shapes}{hint}", source))
        own.copy_(tensor)
    return set(tensors)


# --------------------------------------------------------------------------------------------------------- freezing


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Keep tensors as they are, in place.

    Args:
        model: of the catalogue or beyond it.
        patterns: published names of tensors or of modules (then all below), or patterns (``encoder.layer.[0-3].*``);
            of an encoder-decoder also ``encoder`` and ``decoder``, all that a side computes with (`Model.side`).

    Raises:
        UserError: a pattern that fits nothing, or a part of one tensor only.
    """
    if not patterns:
        return  # to tell names apart tensors are joined on the meta device, for which torch imports its compiler
    sides = {name for name in patterns if name in SIDES and isinstance(getattr(model, "body", None), EncoderDecoder)}
    patterns = [pattern for pattern in patterns if pattern not in sides]
    known, faults = published_names(model), []
    modules = {name[:end] for name in known for end in [m.start() for m in re.finditer(r"\.", name)]}
    frozen: set[str] = set()
    for pattern in patterns:
        found = {name for name in known if fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")}
        if not found:
            faults.append(Fault("freeze", f"{pattern!r} fits no tensor{nearest(pattern, [*known, *sorted(modules)])}"))
        frozen |= found
    native = {parameter for name in frozen for parameter in known[name].native}
    for name, named in known.items():
        if name not in frozen and native.intersection(named.native):
            other = next(other for other in frozen if set(known[other].native) & set(named.native))
            faults.append(Fault("freeze", f"{other} cannot be frozen without {name}: they are one tensor here"))
            break
    if faults:
        raise UserError(*faults)
    for name in native:
        model.get_parameter(name).requires_grad_(False)
    for module in (module for name in sides for module in model.side(name)):  # type: ignore[operator]
        module.requires_grad_(False)
