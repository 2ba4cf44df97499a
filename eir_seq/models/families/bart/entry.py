"""The catalogue's entries of bart, blenderbot, blenderbot-small, marian, mbart, pegasus, plbart."""

from eir_seq.models.entry import PAIR_TASKS, Entry

ENTRIES = {
    "bart": Entry(
        config="options:BartConfig",
        architecture="architecture:BART",
        paper="https://arxiv.org/abs/1910.13461",
        summary="Encoder-decoder pretrained to restore texts of which parts were masked, dropped or moved.",
        tasks=(*PAIR_TASKS, "sequence-classification", "question-answering"),
    ),
    "blenderbot": Entry(
        config="options:BlenderbotConfig",
        architecture="architecture:BLENDERBOT",
        paper="https://arxiv.org/abs/2004.13637",
        summary="Encoder-decoder for conversation, whose encoder is shallow and whose decoder is deep.",
        tasks=PAIR_TASKS,
    ),
    "blenderbot-small": Entry(
        config="options:BlenderbotSmallConfig",
        architecture="architecture:BLENDERBOT_SMALL",
        paper="https://arxiv.org/abs/2004.13637",
        summary=(
            "Encoder-decoder for conversation with norms behind each sublayer; its decoder norms tokens by themselves."
        ),
        tasks=PAIR_TASKS,
    ),
    "marian": Entry(
        config="options:MarianConfig",
        architecture="architecture:MARIAN",
        paper="https://arxiv.org/abs/1804.00344",
        summary="Encoder-decoder with sinusoids for positions that translates; each side may have its own vocabulary.",
        tasks=PAIR_TASKS,
    ),
    "mbart": Entry(
        config="options:MBartConfig",
        architecture="architecture:MBART",
        paper="https://arxiv.org/abs/2001.08210",
        summary="Bart for many languages, with norms in front of the sublayers; a language's token begins each target.",
        tasks=(*PAIR_TASKS, "sequence-classification", "question-answering"),
    ),
    "pegasus": Entry(
        config="options:PegasusConfig",
        architecture="architecture:PEGASUS",
        paper="https://arxiv.org/abs/1912.08777",
        summary="Encoder-decoder with sinusoids for positions, pretrained to write the sentences that a text lacks.",
        tasks=PAIR_TASKS,
    ),
    "plbart": Entry(
        config="options:PLBartConfig",
        architecture="architecture:PLBART",
        paper="https://arxiv.org/abs/2103.06333",
        summary="Bart for programs and what is said of them, in several languages.",
        tasks=(*PAIR_TASKS, "sequence-classification"),
    ),
}
