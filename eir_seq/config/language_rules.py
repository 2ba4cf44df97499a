"""What outputs demand of the rest of an experiment that are language models of some kind."""

from __future__ import annotations

from collections.abc import Iterator

from eir_seq.config.outputs import (
    CausalLmOutputConfig,
    CorruptedOutputBase,
    MaskedLmOutputConfig,
    MaskedOutputBase,
    ReplacedTokenDetectionOutputConfig,
    RestoredOutputBase,
    Seq2SeqLmOutputConfig,
)
from eir_seq.config.schema import InputConfig, SequenceInputConfig, document_layout, token_inputs
from eir_seq.config.sections import Sections, ignored
from eir_seq.config.tokenizers import ByteTokenizerConfig, CharacterTokenizerConfig, WordTokenizerConfig
from eir_seq.errors import Fault


def language_models(sections: Sections) -> Iterator[Fault]:
    """Language models, beside other outputs or alone with texts that stand in blocks."""
    models = {name: config for name, config in sections.outputs.items() if isinstance(config, CausalLmOutputConfig)}
    inputs = token_inputs(sections.inputs, models)
    layout = document_layout(sections.inputs, sections.outputs)
    alone = layout is not None and len(sections.output_names) == 1
    for name, config in models.items():
        source = sections.inputs.get(inputs[name])
        if list(inputs.values()).count(inputs[name]) > 1:
            yield Fault(f"outputs.{name}.input", f"{inputs[name]!r} has two language models; one learns all there is")
        if not alone and config.documents is not None:
            reason = "rows hold what other tensors, inputs and outputs need and cannot be cut into blocks of tokens"
            yield Fault(f"outputs.{name}.documents", f"{config.documents!r} is for a language model alone; {reason}")
        if not isinstance(source, SequenceInputConfig):
            continue
        place = f"inputs.{inputs[name]}"
        if source.pair_column is not None:
            yield Fault(f"{place}.pair_column", "a language model reads one text, not a pair")
        if layout is not None:
            yield from _blocks(source, place)
        yield from _headless(source, f"{place}.model.model_type", "causal-lm")


def _headless(source: InputConfig, place: str, task: str) -> Iterator[Fault]:
    """A backbone from scratch without the language-model head of a task."""
    from eir_seq.models.catalogue import CATALOGUE

    name = source.model.model_type
    if source.model.pretrained_model or (name in CATALOGUE and task in CATALOGUE[name].tasks):
        return
    if name in CATALOGUE or name == "auto":
        listed = ", ".join(sorted(other for other, entry in CATALOGUE.items() if task in entry.tasks))
        yield Fault(place, f"{name!r} has no language-model head (task {task}); these have one: {listed}")


def written_texts(sections: Sections) -> Iterator[Fault]:
    """Sequence-to-sequence outputs, which have a backbone to themselves."""
    for name, config in sections.outputs.items():
        if not isinstance(config, Seq2SeqLmOutputConfig):
            continue
        yield from _alone(sections, name, "seq2seq_lm")
        source = sections.inputs.get(here := token_inputs(sections.inputs, sections.outputs)[name])
        if source is not None:
            yield from _headless(source, f"inputs.{here}.model.model_type", "seq2seq-lm")
        if config.generate_rows == 0 and sections.trainer is not None:
            monitor = sections.trainer.monitor
            if monitor.metric in config.METRICS and monitor.metric not in config.OF_TOKENS:
                message = f"{monitor.metric!r} is measured on written texts; outputs.{name}.generate_rows is 0"
                yield Fault("trainer.monitor.metric", message)


def corrupted_texts(sections: Sections) -> Iterator[Fault]:
    """Outputs that restore texts, which nothing else may read."""
    for name, config in sections.outputs.items():
        if not isinstance(config, CorruptedOutputBase):
            continue
        yield from _alone(sections, name, config.type)
        source = sections.inputs.get(here := token_inputs(sections.inputs, sections.outputs)[name])
        if isinstance(config, MaskedLmOutputConfig) and config.mask_share + config.random_share > 1:
            shares = f"{config.random_share} and mask_share {config.mask_share} are more than all hidden tokens"
            yield Fault(f"outputs.{name}.random_share", shares)
        if not isinstance(source, SequenceInputConfig):
            continue
        place = f"inputs.{here}"
        if isinstance(config, ReplacedTokenDetectionOutputConfig):
            yield from _generator(source, f"{place}.model.model_type", config, f"outputs.{name}.generator")
        else:
            yield from _headless(source, f"{place}.model.model_type", config.TASK)
        if isinstance(config, MaskedOutputBase):
            yield from _hidden(sections, source, place, config, f"outputs.{name}")
        if isinstance(config, RestoredOutputBase):
            reason = f"must be left out: a {config.type} output takes parts out of one text"
            if source.pair_column is not None:
                yield Fault(f"{place}.pair_column", reason)
            if source.is_split_into_words:
                yield Fault(f"{place}.is_split_into_words", reason)
            yield from (Fault(f"{place}.tensors.{kind}", reason) for kind in source.tensors.given())


def _hidden(
    sections: Sections, source: SequenceInputConfig, place: str, config: MaskedOutputBase, output: str
) -> Iterator[Fault]:
    """Which tokens are hidden, and how texts stand in rows."""
    if config.whole_words and config.mean_span_length > 1:
        yield Fault(f"{output}.mean_span_length", "has no effect with whole_words: true")
    kinds = WordTokenizerConfig | CharacterTokenizerConfig | ByteTokenizerConfig
    single = source.tokenizer is None and not source.model.pretrained_model
    if config.whole_words and not source.is_split_into_words and (single or isinstance(source.tokenizer, kinds)):
        kind = "word" if source.tokenizer is None else source.tokenizer.type
        message = f"has no use with a {kind!r} tokenizer, which does not cut words into subwords"
        yield Fault(f"{output}.whole_words", message)
    if config.documents is None:
        return
    if document_layout(sections.inputs, sections.outputs) is None or source.pair_column is not None:
        reason = "rows hold what other tensors, inputs and columns need and cannot be cut into blocks of tokens"
        yield Fault(f"{output}.documents", f"{config.documents!r} is for single texts alone; {reason}")
    else:
        yield from _blocks(source, place)


def _generator(
    source: SequenceInputConfig, place: str, config: ReplacedTokenDetectionOutputConfig, generator: str
) -> Iterator[Fault]:
    """Architectures that learn to detect, and the options of their generators."""
    from eir_seq.models.catalogue import CATALOGUE, REPLACED_TOKENS
    from eir_seq.models.option_checks import check_options

    name = source.model.model_type
    if source.model.pretrained_model or (name not in CATALOGUE and name != "auto"):
        return  # what it is shows when it is loaded; what is none is refused elsewhere
    if name not in REPLACED_TOKENS:
        message = f"{name!r} does not learn to detect replaced tokens; these do: {', '.join(REPLACED_TOKENS)}"
        yield Fault(place, message)
        return
    faults = check_options(name, config.generator.model_init_config)
    yield from (fault.under(f"{generator}.model_init_config") for fault in faults)


def _alone(sections: Sections, name: str, kind: str) -> Iterator[Fault]:
    if len(sections.output_names) > 1:
        others = ", ".join(other for other in sections.output_names if other != name)
        message = f"is predicted beside others ({others}); a {kind} output stands alone in its experiment"
        why = "it has the backbone to itself; give the others an experiment of their own"
        yield Fault(f"outputs.{name}", f"{message}: {why}")


def _blocks(source: SequenceInputConfig, place: str) -> Iterator[Fault]:
    """What has no meaning where texts stand in blocks of tokens."""
    if not isinstance(source.max_length, int):
        message = f"{source.max_length!r} has no meaning for blocks of tokens; give their length as a number"
        yield Fault(f"{place}.max_length", message)
    unread = "truncation max_characters is_split_into_words"
    yield from ignored(place, source, unread, "as a language model reads texts whole")
