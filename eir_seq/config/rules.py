"""What sections of an experiment demand of each other, and options that would have no effect.

Nothing here opens a data file; that files exist is checked, as it costs nothing and saves a start.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from eir_seq.config.broker import broker_faults, connected_inputs
from eir_seq.config.columns import columns_of
from eir_seq.config.heads import SharedHeadConfig
from eir_seq.config.inputs import shared_faults
from eir_seq.config.metrics import AVERAGE, find_metric, nearest_metric
from eir_seq.config.outputs import HeadOutputBase
from eir_seq.config.schema import GPU_PRECISIONS, DataConfig
from eir_seq.config.sections import Sections
from eir_seq.config.streaming_rules import streaming_faults
from eir_seq.config.strict import ignored
from eir_seq.config.training_rules import training_faults
from eir_seq.errors import Fault, nearest
from eir_seq.samples import SAMPLES

_FRACTION = re.compile(r"0?\.\d+|\d+(\.\d+)? ?%")


def check_rules(sections: Sections) -> list[Fault]:
    """All faults that the rules find."""
    faults = [fault for rule in _RULES for fault in rule(sections)]
    if sections.data is not None:
        places = {fault.place for fault in faults}
        clashes = columns_of(sections.data, sections.inputs, sections.outputs).clashes()
        faults += [fault for fault in clashes if fault.place not in places]
    return faults


def _source_keys(sections: Sections) -> Iterator[Fault]:
    data = sections.data
    if data is None:
        return
    if data.source == "sample":
        if data.name is None:
            yield Fault("data.name", f"is missing; name the sample, one of {', '.join(map(repr, SAMPLES))}")
        elif data.name not in SAMPLES:
            listed = ", ".join(map(repr, SAMPLES))
            yield Fault("data.name", f"{data.name!r} is not a shipped sample ({listed}){nearest(data.name, SAMPLES)}")
        yield from ignored("data", data, "subset revision", "with data.source: sample")
        if data.train is None:
            yield from ignored("data", data, "labels delimiter", "with data.source: sample")
        yield from _missing_files(data)
    elif data.source == "hub":
        if data.name is None:
            yield Fault("data.name", "is missing; name the Hub dataset, e.g. stanfordnlp/imdb")
        if data.train is None:
            yield Fault("data.train", "is missing; name the split to train on, e.g. train")
        yield from ignored("data", data, "labels delimiter", "with data.source: hub")
    elif data.source == "table":
        if data.train is None:
            yield Fault("data.train", "is missing; name the file or folder to train on")
        yield from ignored("data", data, "name subset revision", "with data.source: table (hub or sample have it)")
        yield from _missing_files(data)


def _missing_files(data: DataConfig) -> Iterator[Fault]:
    for key in ("train", "validation", "test", "labels"):
        value = getattr(data, key)
        if isinstance(value, str):
            yield from _missing_file(f"data.{key}", value)
    given = {key: getattr(data, key) for key in ("train", "validation", "test")}
    paths = {key: os.path.expanduser(value) for key, value in given.items() if isinstance(value, str)}
    folders = [key for key, path in paths.items() if os.path.isdir(path) and not (data.streaming and key == "train")]
    for key, path in paths.items():
        if folders and os.path.isfile(path) and (key == "train" or "train" not in folders):  # else it may list ids
            message = f"{given[key]} is a file, and data.{folders[0]} is a folder of text files"
            yield Fault(f"data.{key}", f"{message}; give only files, or only folders")


def _missing_file(place: str, value: str) -> Iterator[Fault]:
    path = Path(os.path.expanduser(value))
    if not value:
        yield Fault(place, "is empty; name a file or folder")
        return
    if "://" in value or any(sign in value for sign in "*?[") or path.exists():
        return
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        yield Fault(place, f"no such file or folder: {value!r} (nor {str(path.parent)!r})")
        return
    if _FRACTION.fullmatch(value):
        hint = "; write a fraction such as 0.2 without quotes"
    else:
        hint = "; write a number of rows without quotes" if value.isdecimal() else nearest(path.name, names)
    yield Fault(place, f"no such file or folder: {value!r}{hint}")


def _validation_draw(sections: Sections) -> Iterator[Fault]:
    data = sections.data
    if (
        data is None
        or data.folds is not None
        or any(isinstance(part, int | float) for part in (data.validation, data.test))
    ):
        return
    reason = "without data.validation" if data.validation is None else "when data.validation names a file or split"
    yield from ignored("data", data, "group stratify split_seed", f"{reason}; it guides the draw of a fraction")


def _folds(sections: Sections) -> Iterator[Fault]:
    data = sections.data
    if data is None:
        return
    if data.folds is None:
        yield from ignored("data", data, "fold", "without data.folds")
        return
    if data.test is not None:
        yield Fault("data.test", "cannot be combined with data.folds: the rows of each fold are its test rows")
    if "fold" in sections.output_names:
        yield Fault("outputs.fold", "is the name of a column of out_of_fold.csv; give the output another")
    if data.fold is not None and data.fold >= data.folds:
        yield Fault("data.fold", f"{data.fold} is not one of the {data.folds} folds, 0 to {data.folds - 1}")


def _validation_needed(sections: Sections) -> Iterator[Fault]:
    if sections.data is None or sections.trainer is None or sections.data.validation is not None:
        return
    reason = "as there are no validation rows (data.validation: null)"
    for name, output in sections.outputs.items():
        if (key := output.calibrated_by) is not None:
            yield Fault(f"outputs.{name}.{key}", f"cannot be chosen {reason}")
    if sections.trainer.early_stopping is not None:
        yield Fault("trainer.early_stopping", f"cannot work {reason}")
    yield from ignored("trainer.monitor", sections.trainer.monitor, "output metric mode", reason)
    yield from ignored("trainer", sections.trainer, "validate_every", reason)


def _weighted_sampling(sections: Sections) -> Iterator[Fault]:
    names = [] if sections.data is None else sections.data.sampled_by
    if not names and sections.data is not None and sections.data.weighted_sampling is not None:
        yield Fault("data.weighted_sampling", "names no output; leave it out, or write null")
    for place, name in enumerate(names):
        if name in names[:place]:
            yield Fault("data.weighted_sampling", f"names {name!r} twice")
        elif name not in sections.output_names:
            yield _unknown_output("data.weighted_sampling", name, sections)
        elif name in sections.outputs and (config := sections.outputs[name]).class_column is None:
            yield Fault("data.weighted_sampling", f"output {name!r} has no classes; it is a {config.type}")


def _unknown_output(place: str, name: str, sections: Sections) -> Fault:
    listed = ", ".join(map(repr, sections.output_names)) or "none"
    return Fault(place, f"{name!r} is not an output (there are: {listed}){nearest(name, sections.output_names)}")


def _monitor(sections: Sections) -> Iterator[Fault]:
    if sections.trainer is None:
        return
    monitor = sections.trainer.monitor
    name = monitor.output
    of_all = monitor.output is None and monitor.metric == AVERAGE
    if name is None and monitor.metric not in ("loss", AVERAGE) and len(sections.output_names) > 1:
        listed = ", ".join(map(repr, sections.output_names))
        yield Fault("trainer.monitor.output", f"is missing; say whose {monitor.metric} it is: {listed}")
        return
    if name is None and monitor.metric not in ("loss", AVERAGE) and sections.output_names:
        name = sections.output_names[0]
    if name is None:
        better = "max" if of_all else "min"
    elif name not in sections.output_names:
        yield _unknown_output("trainer.monitor.output", name, sections)
        return
    elif name not in sections.outputs:
        return
    else:
        output = sections.outputs[name]
        metric = find_metric(monitor.metric, output.metrics())
        if metric is None:
            known = {key: value for key, value in output.monitored().items() if key not in output.unmeasured()}
            yield Fault(
                "trainer.monitor.metric",
                f"{monitor.metric!r} is not a metric of a {output.type} output ({', '.join(map(repr, known))})"
                f"{nearest_metric(monitor.metric, known.values())}",
            )
            return
        if (reason := output.unmeasured().get(metric.name)) is not None:
            yield Fault("trainer.monitor.metric", f"{metric.name!r} of outputs.{name} is not measured {reason}")
            return
        better = metric.better
    if monitor.mode not in (None, better):
        worst = "highest" if monitor.mode == "max" else "lowest"
        yield Fault(
            "trainer.monitor.mode",
            f"{monitor.mode!r} would keep the {worst} {monitor.metric}, which is its worst value",
        )


def _limits(sections: Sections) -> Iterator[Fault]:
    trainer = sections.trainer
    if trainer is None:
        return
    if trainer.max_epochs is None and trainer.max_steps is None:
        yield Fault("trainer.max_epochs", "is null and so is max_steps; the run would never end")
    if trainer.overfit_batches is not None:
        yield from ignored("trainer", trainer, "limit_train_batches limit_val_batches", "with trainer.overfit_batches")
    if trainer.deterministic and trainer.benchmark:
        yield Fault("trainer.benchmark", "cannot be combined with trainer.deterministic: what is fastest would decide")
    if trainer.precision in GPU_PRECISIONS and trainer.accelerator == "cpu":
        yield Fault("trainer.precision", f"{trainer.precision!r} needs a GPU; on a CPU use 'bf16-mixed' or '32'")


def _attention_on_gpu(sections: Sections) -> Iterator[Fault]:
    trainer = sections.trainer
    for name, config in sections.inputs.items():
        way = None if config.backbone is None else config.backbone.attn_implementation
        if trainer is None or way not in ("flash_attention_2", "flex_attention"):
            continue
        place = f"inputs.{name}.model.attn_implementation"
        if trainer.accelerator not in ("auto", "gpu"):
            yield Fault(place, f"{way!r} needs a GPU; trainer.accelerator is {trainer.accelerator!r}")
        if way == "flash_attention_2" and trainer.precision not in ("bf16-mixed", "16-mixed"):
            message = "'flash_attention_2' computes in half precision; set trainer.precision=bf16-mixed"
            yield Fault(place, message)


def _optimization(sections: Sections) -> Iterator[Fault]:
    if sections.optimizer is not None:
        yield from sections.optimizer.faults()
    if sections.scheduler is not None:
        yield from sections.scheduler.faults(sections)


def _inputs(sections: Sections) -> Iterator[Fault]:
    targets = {column: name for name, output in sections.outputs.items() for column in output.columns()}
    types = {column: kind.type for output in sections.outputs.values() for column, kind in output.columns().items()}
    for name, config in sections.inputs.items():
        for column, read in config.columns().items():
            if column in targets and not (read.type is types[column] and read.type.is_restorable):
                message = f"column {column!r} is the target of outputs.{targets[column]}"
                yield Fault(f"inputs.{name}.{read.key}", message)
        yield from config.faults(name, sections)
    yield from shared_faults(sections.inputs)
    yield from _shared_with_labels(sections)


def _shared_with_labels(sections: Sections) -> Iterator[Fault]:
    """Inputs that share an encoder which reads more than the input itself: a text to be written, or a question."""
    for name, output in sections.outputs.items():
        read = sections.token_inputs.get(name)
        if read is None or (output.target_text is None and output.questions is None):
            continue
        for other, config in sections.inputs.items():
            if config.share is not None and read in (other, config.share):
                message = f"outputs.{name} ({output.type}) reads inputs.{read} together with its own columns"
                yield Fault(f"inputs.{other}.share", message)


def _outputs(sections: Sections) -> Iterator[Fault]:
    for name, config in sections.outputs.items():
        yield from config.faults(name, sections)
        for column, read in config.columns().items():
            if sections.data is not None and column == sections.data.id:
                message = f"{column!r} is the id of the rows (data.id), not a {config.TARGET}"
                yield Fault(f"outputs.{name}.{read.key}", message)


def _shared_heads(sections: Sections) -> Iterator[Fault]:
    """Heads that share options they do not have in common, or that no other head shares."""
    groups: dict[str, dict[str, SharedHeadConfig]] = {}
    for name, config in sections.outputs.items():
        if isinstance(config, HeadOutputBase) and isinstance(config.head, SharedHeadConfig):
            groups.setdefault(config.head.group, {})[name] = config.head
    for group, heads in groups.items():
        first, *others = heads
        if not others and len(sections.outputs) == len(sections.output_names):
            message = f"no other output has a shared head of group {group!r}; 'mlp-residual' is one for itself"
            yield Fault(f"outputs.{first}.head", message)
        for name in others:
            if heads[name] != heads[first]:
                message = f"differs from outputs.{first}.head, with which it shares its layers (group {group!r})"
                yield Fault(f"outputs.{name}.head", message)


def _token_outputs(sections: Sections) -> Iterator[Fault]:
    """Outputs that read the tokens of one input: that it exists, and that no unused option is set."""
    sequences = [name for name, config in sections.inputs.items() if config.HAS_TOKENS]
    reading = {name: config for name, config in sections.outputs.items() if config.reads_tokens}
    for name, config in reading.items():
        chosen = getattr(config, "input", None)
        if chosen is None and len(sequences) > 1:
            yield Fault(f"outputs.{name}.input", f"is missing; say whose tokens are read: {', '.join(sequences)}")
        elif chosen is None and not sequences and len(sections.inputs) == len(sections.input_names):
            own = ", or a model of its own (outputs.{name}.model)" if "model" in type(config).model_fields else ""
            yield Fault(f"outputs.{name}", f"needs a sequence input{own.format(name=name)}; there is none")
        elif chosen in sections.input_names and chosen not in sections.inputs:
            continue  # its own faults are reported
        elif chosen is not None and chosen not in sequences:
            listed = ", ".join(map(repr, sequences)) or "none"
            message = f"{chosen!r} is not a sequence input (there are: {listed})"
            yield Fault(f"outputs.{name}.input", message + nearest(chosen, sequences))
    by_heads = {name: config.own_inputs(sections.input_names) for name, config in sections.outputs.items()}
    unfused = {name for name in sections.outputs if name in reading or by_heads[name]}
    if not unfused or len(sections.outputs) < len(sections.output_names) or len(unfused) < len(sections.outputs):
        return
    read = {*sections.token_inputs.values(), *(name for names in by_heads.values() for name in names)}
    read |= set(connected_inputs(sections.broker, sections.adversaries)) & set(sections.input_names)
    if not read <= set(sections.input_names):
        return
    for name, source in sections.inputs.items():
        if name not in read:
            yield Fault(f"inputs.{name}", "no output reads it; outputs that name an input read that one alone")
        elif source.backbone is not None and name in sections.token_inputs.values():
            yield from ignored(f"inputs.{name}.model", source.backbone, "pool", "as outputs read the single tokens")


def _missing(sections: Sections) -> Iterator[Fault]:
    alone = len(sections.input_names) == 1
    if sections.data is not None and alone and len(sections.output_names) == 1:
        reason = "with one input and one output, which each row needs"
        yield from ignored("data", sections.data, "on_missing", reason)
    single = [  # of tokens, or of the vectors of inputs that a row cannot do without
        name
        for name, output in sections.outputs.items()
        if name in sections.token_inputs or output.vector_inputs(sections.input_names)
    ]
    read_whole = len(sections.outputs) < len(sections.output_names) or len(single) < len(sections.outputs)
    for name, declared in sections.inputs.items():
        reason = "with one input, which each row keeps" if alone else "where outputs read single inputs alone"
        if alone or not read_whole:
            yield from ignored(f"inputs.{name}", declared, "modality_dropout", reason)


def _fusion(sections: Sections) -> Iterator[Fault]:
    if sections.fusion is not None:
        yield from sections.fusion.faults(sections)


def _mixing(sections: Sections) -> Iterator[Fault]:
    if sections.trainer is not None and sections.trainer.mixing is not None:
        yield from sections.trainer.mixing.faults(sections)


def _run(sections: Sections) -> Iterator[Fault]:
    if sections.run is not None and sections.run.dir is not None:
        yield from ignored("run", sections.run, "root", "with run.dir")
        data = sections.data
        if "://" in sections.run.dir and data is not None and data.folds is not None and data.fold is None:
            yield Fault("run.dir", "cannot be a URL with data.folds; train each fold (data.fold) by itself")


def _cache(sections: Sections) -> Iterator[Fault]:
    if sections.cache is not None and sections.data is not None:
        new, old = sections.cache.dir, sections.data.cache_dir
        if new is not None and old is not None and new != old:
            yield Fault("data.cache_dir", f"is the earlier name of cache.dir, which is {new!r}; give one of them")


_RULES: tuple[Callable[[Sections], Iterator[Fault]], ...] = (
    _source_keys,
    _validation_draw,
    _folds,
    streaming_faults,
    _validation_needed,
    _weighted_sampling,
    _inputs,
    _token_outputs,
    _missing,
    _fusion,
    broker_faults,
    _mixing,
    _outputs,
    _shared_heads,
    _optimization,
    _limits,
    _attention_on_gpu,
    _monitor,
    training_faults,
    _run,
    _cache,
)
