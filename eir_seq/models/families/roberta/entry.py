"""The catalogue's entries of camembert, data2vec-text, roberta, xlm-roberta."""

from eir_seq.models.entry import ROBERTA_TASKS, Entry

ENTRIES = {
    "camembert": Entry(
        config="options:CamembertConfig",
        architecture="architecture:CAMEMBERT",
        paper="https://arxiv.org/abs/1911.03894",
        summary="Roberta under the name of its French weights.",
        tasks=ROBERTA_TASKS,
        pooler=True,
    ),
    "data2vec-text": Entry(
        config="options:Data2VecTextConfig",
        architecture="architecture:DATA2VEC_TEXT",
        paper="https://arxiv.org/abs/2202.03555",
        summary="Roberta pretrained to predict the states of a slowly updated copy of itself.",
        tasks=ROBERTA_TASKS,
        pooler=True,
    ),
    "roberta": Entry(
        config="options:RobertaConfig",
        architecture="architecture:ROBERTA",
        paper="https://arxiv.org/abs/1907.11692",
        summary="Bert with positions counted over non-padding tokens and another classification head.",
        tasks=ROBERTA_TASKS,
        pooler=True,
    ),
    "xlm-roberta": Entry(
        config="options:XLMRobertaConfig",
        architecture="architecture:XLM_ROBERTA",
        paper="https://arxiv.org/abs/1911.02116",
        summary="Roberta under the name of its weights for a hundred languages.",
        tasks=ROBERTA_TASKS,
        pooler=True,
    ),
}
