"""What is predicted: targets, heads, losses, metrics and prediction columns, one module per kind of output.

Importing this package is cheap; torch is imported when an output is built.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eir_seq.config.outputs import (
    CausalLmOutputConfig,
    ClassificationOutputConfig,
    CorruptedOutputBase,
    OutputConfig,
    RegressionOutputConfig,
    Seq2SeqLmOutputConfig,
    TokenClassificationOutputConfig,
)

if TYPE_CHECKING:
    from eir_seq.outputs.base import FittedOutput, Output


def build_output(name: str, config: OutputConfig) -> Output:
    """The output that `config` declares under `outputs.NAME`; still to be fitted on the training rows."""
    from eir_seq.outputs.causal_lm import CausalLm
    from eir_seq.outputs.classification import Classification
    from eir_seq.outputs.pretraining import Pretraining
    from eir_seq.outputs.regression import Regression
    from eir_seq.outputs.seq2seq_lm import Seq2SeqLm
    from eir_seq.outputs.token_classification import TokenClassification

    if isinstance(config, ClassificationOutputConfig):
        return Classification(name, config)
    if isinstance(config, CausalLmOutputConfig):
        return CausalLm(name, config)
    if isinstance(config, Seq2SeqLmOutputConfig):
        return Seq2SeqLm(name, config)
    if isinstance(config, CorruptedOutputBase):
        return Pretraining(name, config)
    if isinstance(config, TokenClassificationOutputConfig):
        return TokenClassification(name, config)
    assert isinstance(config, RegressionOutputConfig), type(config)
    return Regression(name, config)


def load_output(path: Path) -> FittedOutput:
    """The fitted output that `FittedOutput.save` wrote.

    Raises:
        UserError: the file is missing, truncated or not one of ours.
    """
    from eir_seq.outputs.base import read_state
    from eir_seq.outputs.causal_lm import CausalLmState, FittedCausalLm
    from eir_seq.outputs.classification import ClassificationState, FittedClassification
    from eir_seq.outputs.pretraining import STATES, fitted_pretraining
    from eir_seq.outputs.regression import FittedRegression, RegressionState
    from eir_seq.outputs.seq2seq_lm import FittedSeq2SeqLm, Seq2SeqLmState
    from eir_seq.outputs.token_classification import FittedTokenClassification, TokenClassificationState

    kinds = (ClassificationState, RegressionState, CausalLmState, TokenClassificationState, Seq2SeqLmState, *STATES)
    state = read_state(path, kinds)
    if isinstance(state, STATES):
        return fitted_pretraining(state)
    if isinstance(state, TokenClassificationState):
        return FittedTokenClassification(state)
    if isinstance(state, Seq2SeqLmState):
        return FittedSeq2SeqLm(state)
    if isinstance(state, ClassificationState):
        return FittedClassification(state)
    if isinstance(state, CausalLmState):
        return FittedCausalLm(state)
    assert isinstance(state, RegressionState), type(state)
    return FittedRegression(state)
