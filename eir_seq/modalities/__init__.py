"""Kinds of inputs. Each modality is one module that holds all of it; this table finds it by the config's `type`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eir_seq.config.outputs import DocumentLayout, Seq2SeqLmOutputConfig
from eir_seq.config.schema import InputConfig, SequenceInputConfig
from eir_seq.errors import Fault, UserError
from eir_seq.files import read_json
from eir_seq.modalities.base import FittedModality, Modality
from eir_seq.modalities.documents import DocumentsModality, FittedDocuments
from eir_seq.modalities.image import FittedImage, ImageModality
from eir_seq.modalities.seq2seq import FittedSeq2Seq, Seq2SeqModality
from eir_seq.modalities.sequence import STATE_FILE, FittedSequence, SequenceModality
from eir_seq.tokenizers.cache import TokenizerCache

MODALITIES: dict[str, tuple[Any, Any]] = {
    "sequence": (SequenceModality, FittedSequence),
    "documents": (DocumentsModality, FittedDocuments),
    "seq2seq": (Seq2SeqModality, FittedSeq2Seq),
    "image": (ImageModality, FittedImage),
}


def build_modality(
    name: str,
    config: InputConfig,
    layout: DocumentLayout | None = None,
    written: Seq2SeqLmOutputConfig | None = None,
    sentinels: int = 0,
    cache: TokenizerCache | None = None,
) -> Modality:
    """The input called `name`, not yet fitted.

    `layout`: it is the documents of a language model, in rows of tokens. `written`: the output whose texts are written
    from it. `sentinels`: tokens for gaps that a tokenizer gets which is trained here. `cache`: where its vocabulary is
    kept.
    """
    if written is not None:
        assert isinstance(config, SequenceInputConfig)
        return Seq2SeqModality(name, config, output=written, cache=cache)
    if layout is not None:
        assert isinstance(config, SequenceInputConfig)
        return DocumentsModality(name, config, layout, cache=cache)
    if isinstance(config, SequenceInputConfig):
        return SequenceModality(name, config, sentinels=sentinels, cache=cache)
    modality: Modality = MODALITIES[config.type][0](name, config)
    return modality


def load_modality(folder: str | Path) -> FittedModality:
    """A fitted input that `save` wrote; raises `UserError` where the folder holds none."""
    path = Path(folder) / STATE_FILE
    try:
        kind = read_json(path)["type"]
        fitted = MODALITIES[kind][1]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(Fault(str(path), f"no fitted input ({type(error).__name__}: {error})")) from None
    loaded: FittedModality = fitted.load(folder)
    return loaded
