"""The catalogue's entry of megatron-bert."""

from eir_seq.models.entry import BERT_TASKS, Entry

ENTRIES = {
    "megatron-bert": Entry(
        config="options:MegatronBertConfig",
        architecture="architecture:MEGATRON_BERT",
        paper="https://arxiv.org/abs/1909.08053",
        summary="Pre-norm bert with a final norm and no norm on the embeddings.",
        tasks=BERT_TASKS,
        pooler=True,
    ),
}
