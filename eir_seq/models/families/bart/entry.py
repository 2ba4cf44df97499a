"""The catalogue's entries of bart, blenderbot, blenderbot-small, marian, mbart, pegasus, plbart."""

from eir_seq.models.entry import PAIR_TASKS, Entry

ENTRIES = {
    "bart": Entry(
        config="options:BartConfig",
        architecture="architecture:BART",
        paper="https://arxiv.org/abs/1910.13461",
        summary="Encoder-decoder pretrained to restore corrupted text (masked, deleted and permuted spans).",
        tasks=(*PAIR_TASKS, "sequence-classification", "question-answering"),
    ),
    "blenderbot": Entry(
        config="options:BlenderbotConfig",
        architecture="architecture:BLENDERBOT",
        paper="https://arxiv.org/abs/2004.13637",
        summary="Encoder-decoder for conversation with a shallow encoder and a deep decoder.",
        tasks=PAIR_TASKS,
    ),
    "blenderbot-small": Entry(
        config="options:BlenderbotSmallConfig",
        architecture="architecture:BLENDERBOT_SMALL",
        paper="https://arxiv.org/abs/2004.13637",
        summary="Post-norm encoder-decoder for conversation; its decoder normalizes token embeddings on their own.",
        tasks=PAIR_TASKS,
    ),
    "marian": Entry(
        config="options:MarianConfig",
        architecture="architecture:MARIAN",
        paper="https://arxiv.org/abs/1804.00344",
        summary="Encoder-decoder for translation with sinusoidal positions; each side may have its own vocabulary.",
        tasks=PAIR_TASKS,
    ),
    "mbart": Entry(
        config="options:MBartConfig",
        architecture="architecture:MBART",
        paper="https://arxiv.org/abs/2001.08210",
        summary="Multilingual pre-norm bart; each target begins with a language token.",
        tasks=(*PAIR_TASKS, "sequence-classification", "question-answering"),
    ),
    "pegasus": Entry(
        config="options:PegasusConfig",
        architecture="architecture:PEGASUS",
        paper="https://arxiv.org/abs/1912.08777",
        summary="Encoder-decoder with sinusoidal positions, pretrained by generating the sentences that a text lacks.",
        tasks=PAIR_TASKS,
    ),
    "plbart": Entry(
        config="options:PLBartConfig",
        architecture="architecture:PLBART",
        paper="https://arxiv.org/abs/2103.06333",
        summary="Bart for source code and its documentation, in several languages.",
        tasks=(*PAIR_TASKS, "sequence-classification"),
    ),
}
