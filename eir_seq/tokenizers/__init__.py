"""Text to token ids: vocabularies learned from training texts, and published ones."""

from __future__ import annotations

from eir_seq.tokenizers.backend import Encoding, SpecialTokens
from eir_seq.tokenizers.published import load_tokenizer
from eir_seq.tokenizers.tokenizer import Tokenizer
from eir_seq.tokenizers.training import train_tokenizer

Tokenizer.LOAD = staticmethod(load_tokenizer)

__all__ = ["Encoding", "SpecialTokens", "Tokenizer", "load_tokenizer", "train_tokenizer"]
