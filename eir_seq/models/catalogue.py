"""Every architecture by its published `model_type`: where its options and its construction are declared.

Plain data: importing this module imports neither torch nor any architecture.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

from eir_seq.errors import Fault, UserError, nearest

if TYPE_CHECKING:
    from eir_seq.models.architecture import Architecture
    from eir_seq.models.options import ModelConfig


class Entry(NamedTuple):
    """Where an architecture lives (``module:name`` below ``eir_seq.models``), what its page says first, its tasks."""

    config: str
    architecture: str
    paper: str
    summary: str
    tasks: tuple[str, ...] = ("base",)


TEXT_TASKS = ("sequence-classification", "token-classification", "question-answering", "multiple-choice")
ROBERTA_TASKS = ("base", "masked-lm", "causal-lm", *TEXT_TASKS)
BERT_TASKS = ("base", "masked-lm", "causal-lm", "next-sentence", "pretraining", *TEXT_TASKS)
PAIR_TASKS = ("base", "encoder", "seq2seq-lm", "causal-lm")
T5_TASKS = ("base", "encoder", "seq2seq-lm", *TEXT_TASKS[:3])
XLM_TASKS = ("base", "masked-lm", *TEXT_TASKS[:3], "answer-search", "multiple-choice")

CATALOGUE: dict[str, Entry] = {
    "albert": Entry(
        "configs.bert_like:AlbertConfig",
        "architectures.albert:ALBERT",
        "https://arxiv.org/abs/1909.11942",
        "Bert with narrow tables and one group of layers (or a few) that runs again and again.",
        ("base", "masked-lm", "pretraining", *TEXT_TASKS),
    ),
    "bart": Entry(
        "configs.bart_like:BartConfig",
        "architectures.bart_like:BART",
        "https://arxiv.org/abs/1910.13461",
        "Encoder-decoder pretrained to restore texts of which parts were masked, dropped or moved.",
        (*PAIR_TASKS, "sequence-classification", "question-answering"),
    ),
    "bert": Entry(
        "configs.bert:BertConfig",
        "architectures.bert:BERT",
        "https://arxiv.org/abs/1810.04805",
        "Bidirectional encoder with learned positions and segments, norms behind each sublayer, and a tanh pooler.",
        BERT_TASKS,
    ),
    "bert-generation": Entry(
        "configs.bert_like:BertGenerationConfig",
        "architectures.bert_like:BERT_GENERATION",
        "https://arxiv.org/abs/1907.12461",
        "Bert without segments and pooler, to be the encoder or the decoder of a text generator.",
        ("base", "causal-lm"),
    ),
    "big_bird": Entry(
        "configs.big_bird:BigBirdConfig",
        "architectures.big_bird:BIG_BIRD",
        "https://arxiv.org/abs/2007.14062",
        "Bert for long texts: blocks of tokens look at their neighbours, the ends of the text and random blocks.",
        ("base", "masked-lm", "causal-lm", "pretraining", *TEXT_TASKS),
    ),
    "bigbird_pegasus": Entry(
        "configs.big_bird:BigBirdPegasusConfig",
        "architectures.big_bird:BIGBIRD_PEGASUS",
        "https://arxiv.org/abs/2007.14062",
        "Encoder-decoder that writes of long texts: norms in front, big_bird's attention in its encoder.",
        (*PAIR_TASKS, "sequence-classification", "question-answering"),
    ),
    "biogpt": Entry(
        "configs.opt:BioGptConfig",
        "architectures.opt:BIOGPT",
        "https://arxiv.org/abs/2210.10341",
        "Causal decoder with scaled tokens and learned positions, pretrained on abstracts of biomedical papers.",
        ("base", "causal-lm", "sequence-classification", "token-classification"),
    ),
    "blenderbot": Entry(
        "configs.bart_like:BlenderbotConfig",
        "architectures.bart_like:BLENDERBOT",
        "https://arxiv.org/abs/2004.13637",
        "Encoder-decoder for conversation, whose encoder is shallow and whose decoder is deep.",
        PAIR_TASKS,
    ),
    "blenderbot-small": Entry(
        "configs.bart_like:BlenderbotSmallConfig",
        "architectures.bart_like:BLENDERBOT_SMALL",
        "https://arxiv.org/abs/2004.13637",
        "Encoder-decoder for conversation with norms behind each sublayer; its decoder norms tokens by themselves.",
        PAIR_TASKS,
    ),
    "bloom": Entry(
        "configs.bloom:BloomConfig",
        "architectures.bloom:BLOOM",
        "https://arxiv.org/abs/2211.05100",
        "Causal decoder whose scores fall with the distance of the key, so that a text may have any length.",
        ("base", "causal-lm", *TEXT_TASKS[:3]),
    ),
    "camembert": Entry(
        "configs.bert_like:CamembertConfig",
        "architectures.roberta_like:CAMEMBERT",
        "https://arxiv.org/abs/1911.03894",
        "Roberta under the name that its French weights are published by.",
        ROBERTA_TASKS,
    ),
    "cohere": Entry(
        "configs.stablelm_like:CohereConfig",
        "architectures.stablelm_like:COHERE",
        "https://cohere.com/blog/command-r",
        "Causal decoder whose sublayers read the same normed state, with rotations of neighbouring channels.",
        ("base", "causal-lm"),
    ),
    "ctrl": Entry(
        "configs.gpt_like:CTRLConfig",
        "architectures.gpt_like:CTRL",
        "https://arxiv.org/abs/1909.05858",
        "Causal decoder with fixed waves for positions, whose first token is a code for the kind of text.",
        ("base", "causal-lm", "sequence-classification"),
    ),
    "data2vec-text": Entry(
        "configs.bert_like:Data2VecTextConfig",
        "architectures.roberta_like:DATA2VEC_TEXT",
        "https://arxiv.org/abs/2202.03555",
        "Roberta, pretrained to predict the states of a slowly following copy of itself.",
        ROBERTA_TASKS,
    ),
    "codegen": Entry(
        "configs.gptj:CodeGenConfig",
        "architectures.gptj:CODEGEN",
        "https://arxiv.org/abs/2203.13474",
        "Gptj with another order of its projections, trained on programs.",
        ("base", "causal-lm"),
    ),
    "deberta": Entry(
        "configs.deberta:DebertaConfig",
        "architectures.deberta:DEBERTA",
        "https://arxiv.org/abs/2006.03654",
        "Encoder whose scores compare contents with contents and, apart from that, contents with distances.",
        ("base", "masked-lm", "sequence-classification", "token-classification", "question-answering"),
    ),
    "deberta-v2": Entry(
        "configs.deberta:DebertaV2Config",
        "architectures.deberta_v2:DEBERTA_V2",
        "https://arxiv.org/abs/2111.09543",
        "Deberta with distances in logarithmic buckets and an optional convolution; versions 2 and 3.",
        ("base", "masked-lm", *TEXT_TASKS),
    ),
    "distilbert": Entry(
        "configs.bert:DistilBertConfig",
        "architectures.distilbert:DISTILBERT",
        "https://arxiv.org/abs/1910.01108",
        "Bert at half the depth, without segments and pooler.",
        ("base", "masked-lm", *TEXT_TASKS),
    ),
    "electra": Entry(
        "configs.bert_like:ElectraConfig",
        "architectures.electra:ELECTRA",
        "https://openreview.net/pdf?id=r1xMH1BtvB",
        "Bert with narrower tables and no pooler, pretrained to tell which tokens were replaced.",
        ("base", "masked-lm", "causal-lm", "pretraining", *TEXT_TASKS),
    ),
    "ernie": Entry(
        "configs.bert_like:ErnieConfig",
        "architectures.bert_like:ERNIE",
        "https://arxiv.org/abs/1904.09223",
        "Bert that can also be told what kind of task a text belongs to (task_type_ids).",
        BERT_TASKS,
    ),
    "falcon": Entry(
        "configs.falcon:FalconConfig",
        "architectures.falcon:FALCON",
        "https://arxiv.org/abs/2311.16867",
        "Causal decoder with one head of keys and values (or a few), side by side with its feed-forward block.",
        ("base", "causal-lm", *TEXT_TASKS[:3]),
    ),
    "flaubert": Entry(
        "configs.xlm:FlaubertConfig",
        "architectures.xlm:FLAUBERT",
        "https://arxiv.org/abs/1912.05372",
        "Xlm for French, optionally with norms in front of the sublayers and with layers left out in training.",
        XLM_TASKS,
    ),
    "fnet": Entry(
        "configs.special_inputs:FNetConfig",
        "architectures.fnet:FNET",
        "https://arxiv.org/abs/2105.03824",
        "Bert with a Fourier transform in place of attention; it has no mask, so padding is mixed in as published.",
        (
            "base",
            "masked-lm",
            "next-sentence",
            "pretraining",
            "sequence-classification",
            "token-classification",
            "question-answering",
            "multiple-choice",
        ),
    ),
    "gemma": Entry(
        "configs.llama_like:GemmaConfig",
        "architectures.llama_like:GEMMA",
        "https://arxiv.org/abs/2403.08295",
        "Llama with scaled embeddings, heads of any width, and norms that learn how far their scale is from one.",
        ("base", "causal-lm", "sequence-classification", "token-classification"),
    ),
    "git": Entry(
        "configs.images:GitConfig",
        "architectures.git:GIT",
        "https://arxiv.org/abs/2205.14100",
        "Causal decoder of a text about an image or a video, whose patches stand in front of the text (pixel_values).",
        ("base", "causal-lm"),
    ),
    "gpt2": Entry(
        "configs.gpt2:GPT2Config",
        "architectures.gpt2:GPT2",
        "https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf",
        "Causal decoder with learned positions and norms in front of each sublayer.",
        ("base", "causal-lm", "double-heads", "sequence-classification", "token-classification", "question-answering"),
    ),
    "gpt_bigcode": Entry(
        "configs.gpt_bigcode:GPTBigCodeConfig",
        "architectures.gpt_bigcode:GPT_BIGCODE",
        "https://arxiv.org/abs/2301.03988",
        "Gpt2 whose query heads share one head of keys and values, trained on programs.",
        ("base", "causal-lm", "sequence-classification", "token-classification"),
    ),
    "gpt_neox": Entry(
        "configs.gpt_neox:GPTNeoXConfig",
        "architectures.gpt_neox:GPT_NEOX",
        "https://arxiv.org/abs/2204.06745",
        "Causal decoder with rotations of part of each head, attention and feed-forward block side by side.",
        ("base", "causal-lm", *TEXT_TASKS[:3]),
    ),
    "gpt_neox_japanese": Entry(
        "configs.gpt_neox:GPTNeoXJapaneseConfig",
        "architectures.gpt_neox:GPT_NEOX_JAPANESE",
        "https://github.com/tanreinama/gpt-neox-japanese",
        "Gpt_neox for Japanese, almost without biases, its sublayers one behind the other.",
        ("base", "causal-lm"),
    ),
    "gptj": Entry(
        "configs.gptj:GPTJConfig",
        "architectures.gptj:GPTJ",
        "https://github.com/kingoflolz/mesh-transformer-jax",
        "Causal decoder whose attention and feed-forward block read one normed state; it turns neighbouring channels.",
        ("base", "causal-lm", "sequence-classification", "question-answering"),
    ),
    "ibert": Entry(
        "configs.ibert:IBertConfig",
        "architectures.ibert:IBERT",
        "https://arxiv.org/abs/2101.01321",
        "Roberta that can compute with whole numbers only (quant_mode), for hardware without floating point.",
        (
            "base",
            "masked-lm",
            "sequence-classification",
            "token-classification",
            "question-answering",
            "multiple-choice",
        ),
    ),
    "imagegpt": Entry(
        "configs.images:ImageGPTConfig",
        "architectures.imagegpt:IMAGEGPT",
        "https://cdn.openai.com/papers/Generative_Pretraining_from_Pixels_V2.pdf",
        "Gpt2 over the colours of an image's pixels, with root-mean-square norms.",
        ("base", "causal-lm", "image-classification"),
    ),
    "layoutlm": Entry(
        "configs.special_inputs:LayoutLMConfig",
        "architectures.layoutlm:LAYOUTLM",
        "https://arxiv.org/abs/1912.13318",
        "Bert that also reads the box of every token on its page (bbox).",
        (
            "base",
            "masked-lm",
            "sequence-classification",
            "token-classification",
            "question-answering",
        ),
    ),
    "llama": Entry(
        "configs.llama_like:LlamaConfig",
        "architectures.llama_like:LLAMA",
        "https://arxiv.org/abs/2302.13971",
        "Causal decoder with rotations, root-mean-square norms, shared keys and values, and gates; also code_llama.",
        ("base", "causal-lm", *TEXT_TASKS[:3]),
    ),
    "led": Entry(
        "configs.longformer:LEDConfig",
        "architectures.led:LED",
        "https://arxiv.org/abs/2004.05150",
        "Bart for long texts: its encoder has longformer's windows and global tokens (global_attention_mask).",
        (*PAIR_TASKS[:3], "sequence-classification", "question-answering"),
    ),
    "longformer": Entry(
        "configs.longformer:LongformerConfig",
        "architectures.longformer:LONGFORMER",
        "https://arxiv.org/abs/2004.05150",
        "Roberta with attention in a sliding window and global tokens that have projections of their own.",
        ("base", "masked-lm", *TEXT_TASKS),
    ),
    "longt5": Entry(
        "configs.t5:LongT5Config",
        "architectures.longt5:LONGT5",
        "https://arxiv.org/abs/2112.07916",
        "T5 for long texts: its encoder sees the tokens nearby, optionally also sums of blocks of tokens.",
        T5_TASKS[:3],
    ),
    "luke": Entry(
        "configs.special_inputs:LukeConfig",
        "architectures.luke:LUKE",
        "https://arxiv.org/abs/2010.01057",
        "Roberta that reads entities of a text beside its words (entity_ids, entity_position_ids ...).",
        (
            "base",
            "masked-lm",
            "entity-classification",
            "entity-pair-classification",
            "entity-span-classification",
            "sequence-classification",
            "token-classification",
            "question-answering",
            "multiple-choice",
        ),
    ),
    "m2m_100": Entry(
        "configs.m2m_100:M2M100Config",
        "architectures.m2m_100:M2M_100",
        "https://arxiv.org/abs/2010.11125",
        "Encoder-decoder that translates between any two of a hundred languages, named by tokens; waves for positions.",
        PAIR_TASKS[:3],
    ),
    "mamba": Entry(
        "configs.recurrent:MambaConfig",
        "architectures.mamba:MAMBA",
        "https://arxiv.org/abs/2312.00752",
        "Causal decoder of selective state spaces: mixers alone, with states that fade as each token decides.",
        ("base", "causal-lm"),
    ),
    "marian": Entry(
        "configs.bart_like:MarianConfig",
        "architectures.bart_like:MARIAN",
        "https://arxiv.org/abs/1804.00344",
        "Encoder-decoder with waves for positions that translates; each side may have its own vocabulary.",
        PAIR_TASKS,
    ),
    "markuplm": Entry(
        "configs.special_inputs:MarkupLMConfig",
        "architectures.markuplm:MARKUPLM",
        "https://arxiv.org/abs/2110.08518",
        "Bert that also reads the xpath of every token's node (xpath_tags_seq, xpath_subs_seq).",
        (
            "base",
            "sequence-classification",
            "token-classification",
            "question-answering",
        ),
    ),
    "mbart": Entry(
        "configs.bart_like:MBartConfig",
        "architectures.bart_like:MBART",
        "https://arxiv.org/abs/2001.08210",
        "Bart for many languages, with norms in front of the sublayers; a language's token begins each target.",
        (*PAIR_TASKS, "sequence-classification", "question-answering"),
    ),
    "mega": Entry(
        "configs.mega:MegaConfig",
        "architectures.mega:MEGA",
        "https://arxiv.org/abs/2209.10655",
        "Gated attention with one head that reads moving averages; linear in the length, if it looks at chunks.",
        ROBERTA_TASKS,
    ),
    "megatron-bert": Entry(
        "configs.bert_like:MegatronBertConfig",
        "architectures.pre_norm_encoders:MEGATRON_BERT",
        "https://arxiv.org/abs/1909.08053",
        "Bert with norms in front of the sublayers and one behind the last layer, none on the embeddings.",
        BERT_TASKS,
    ),
    "mixtral": Entry(
        "configs.llama_like:MixtralConfig",
        "architectures.qwen2_like:MIXTRAL",
        "https://arxiv.org/abs/2401.04088",
        "Llama whose feed-forward blocks are experts, of which every token goes through a few.",
        ("base", "causal-lm", *TEXT_TASKS[:3]),
    ),
    "mobilebert": Entry(
        "configs.special_inputs:MobileBertConfig",
        "architectures.mobilebert:MOBILEBERT",
        "https://arxiv.org/abs/2004.02984",
        "Thin bert: tokens are read with their neighbours, layers have a bottleneck and several feed-forward blocks.",
        (
            "base",
            "masked-lm",
            "next-sentence",
            "pretraining",
            "sequence-classification",
            "token-classification",
            "question-answering",
            "multiple-choice",
        ),
    ),
    "mpnet": Entry(
        "configs.relative:MPNetConfig",
        "architectures.mpnet:MPNET",
        "https://arxiv.org/abs/2004.09297",
        "Roberta without segments, with learned biases by distance that all layers share.",
        ("base", "masked-lm", *TEXT_TASKS),
    ),
    "mpt": Entry(
        "configs.bloom:MptConfig",
        "architectures.bloom:MPT",
        "https://www.databricks.com/blog/mpt-7b",
        "Causal decoder without a single bias, whose scores fall with the distance of the key.",
        ("base", "causal-lm", *TEXT_TASKS[:3]),
    ),
    "mra": Entry(
        "configs.approximate_attention:MraConfig",
        "architectures.approximate_attention:MRA",
        "https://arxiv.org/abs/2207.10284",
        "Bert for long texts: blocks of tokens look at each other, and tokens do where that matters most.",
        ("base", "masked-lm", *TEXT_TASKS),
    ),
    "mt5": Entry(
        "configs.t5:MT5Config",
        "architectures.t5:MT5",
        "https://arxiv.org/abs/2010.11934",
        "T5 for a hundred languages, with a gate in the feed-forward blocks and a head of its own.",
        T5_TASKS,
    ),
    "mvp": Entry(
        "configs.bart_like:MvpConfig",
        "architectures.mvp:MVP",
        "https://arxiv.org/abs/2206.12131",
        "Bart pretrained on labelled data of many tasks, with learned keys and values per task if wanted.",
        (*PAIR_TASKS, "sequence-classification", "question-answering"),
    ),
    "nezha": Entry(
        "configs.bert_like:NezhaConfig",
        "architectures.nezha:NEZHA",
        "https://arxiv.org/abs/1909.00204",
        "Bert without a table of positions: fixed waves of the distance enter keys and values.",
        ("base", "masked-lm", "next-sentence", "pretraining", *TEXT_TASKS),
    ),
    "nllb-moe": Entry(
        "configs.m2m_100:NllbMoeConfig",
        "architectures.nllb_moe:NLLB_MOE",
        "https://arxiv.org/abs/2207.04672",
        "M2m_100 for two hundred languages with sparse experts, of which a token takes the best two.",
        PAIR_TASKS[:3],
    ),
    "nystromformer": Entry(
        "configs.approximate_attention:NystromformerConfig",
        "architectures.approximate_attention:NYSTROMFORMER",
        "https://arxiv.org/abs/2102.03902",
        "Bert for long texts: a few means of its tokens stand between queries and keys.",
        ("base", "masked-lm", *TEXT_TASKS),
    ),
    "openai-gpt": Entry(
        "configs.gpt_like:OpenAIGPTConfig",
        "architectures.gpt_like:OPENAI_GPT",
        "https://s3-us-west-2.amazonaws.com/openai-assets/research-covers/language-unsupervised/language_understanding_paper.pdf",
        "The first gpt: causal decoder with learned positions and norms behind each sublayer.",
        ("base", "causal-lm", "double-heads", "sequence-classification"),
    ),
    "opt": Entry(
        "configs.opt:OPTConfig",
        "architectures.opt:OPT",
        "https://arxiv.org/abs/2205.01068",
        "Causal decoder with learned positions of the tokens that are not masked, whose token vectors may be narrower.",
        ("base", "causal-lm", "sequence-classification", "question-answering"),
    ),
    "pegasus": Entry(
        "configs.bart_like:PegasusConfig",
        "architectures.bart_like:PEGASUS",
        "https://arxiv.org/abs/1912.08777",
        "Encoder-decoder with waves for positions, pretrained to write the sentences that a text lacks.",
        PAIR_TASKS,
    ),
    "pegasus_x": Entry(
        "configs.bart_like:PegasusXConfig",
        "architectures.pegasus_x:PEGASUS_X",
        "https://arxiv.org/abs/2208.04347",
        "Pegasus for long texts: its encoder reads them in blocks, staggered from layer to layer, with global tokens.",
        PAIR_TASKS[:3],
    ),
    "persimmon": Entry(
        "configs.stablelm_like:PersimmonConfig",
        "architectures.stablelm_like:PERSIMMON",
        "https://www.adept.ai/blog/persimmon-8b",
        "Causal decoder that turns half of every head, norms queries and keys, and squares its activations.",
        ("base", "causal-lm", "sequence-classification", "token-classification"),
    ),
    "phi": Entry(
        "configs.stablelm_like:PhiConfig",
        "architectures.stablelm_like:PHI",
        "https://arxiv.org/abs/2306.11644",
        "Causal decoder whose sublayers read the same normed state, with rotations of half of every head.",
        ("base", "causal-lm", "sequence-classification", "token-classification"),
    ),
    "plbart": Entry(
        "configs.bart_like:PLBartConfig",
        "architectures.bart_like:PLBART",
        "https://arxiv.org/abs/2103.06333",
        "Bart for programs and what is said of them, in several languages.",
        (*PAIR_TASKS, "sequence-classification"),
    ),
    "prophetnet": Entry(
        "configs.prophetnet:ProphetNetConfig",
        "architectures.prophetnet:PROPHETNET",
        "https://arxiv.org/abs/2001.04063",
        "Encoder-decoder that predicts several tokens at once by streams beside the one that reads the text.",
        PAIR_TASKS,
    ),
    "qwen2": Entry(
        "configs.llama_like:Qwen2Config",
        "architectures.qwen2_like:QWEN2",
        "https://arxiv.org/abs/2407.10671",
        "Llama with biases on queries, keys and values, whose upper layers may see a window only.",
        ("base", "causal-lm", *TEXT_TASKS[:3]),
    ),
    "reformer": Entry(
        "configs.reformer:ReformerConfig",
        "architectures.reformer:REFORMER",
        "https://arxiv.org/abs/2001.04451",
        "Encoder or decoder for long texts: tokens look at near ones or at those of like hashes; layers are undone.",
        ("base", "masked-lm", "causal-lm", "sequence-classification", "question-answering"),
    ),
    "rembert": Entry(
        "configs.bert_like:RemBertConfig",
        "architectures.bert_like:REMBERT",
        "https://arxiv.org/abs/2010.12821",
        "Bert with narrow tables at its input and a wide one of its own at the output.",
        ROBERTA_TASKS,
    ),
    "roberta": Entry(
        "configs.bert:RobertaConfig",
        "architectures.roberta:ROBERTA",
        "https://arxiv.org/abs/1907.11692",
        "Bert with positions counted over real tokens only and another classification head.",
        ROBERTA_TASKS,
    ),
    "roberta-prelayernorm": Entry(
        "configs.bert_like:RobertaPreLayerNormConfig",
        "architectures.pre_norm_encoders:ROBERTA_PRELAYERNORM",
        "https://arxiv.org/abs/1904.01038",
        "Roberta with norms in front of the sublayers and one behind the last layer.",
        ROBERTA_TASKS,
    ),
    "roc_bert": Entry(
        "configs.bert_like:RoCBertConfig",
        "architectures.roc_bert:ROC_BERT",
        "https://aclanthology.org/2022.acl-long.65.pdf",
        "Chinese bert that also reads how signs look and sound (input_shape_ids, input_pronunciation_ids).",
        ("base", "masked-lm", "causal-lm", "pretraining", *TEXT_TASKS),
    ),
    "roformer": Entry(
        "configs.relative:RoFormerConfig",
        "architectures.roformer:ROFORMER",
        "https://arxiv.org/abs/2104.09864",
        "Bert without a table of positions: queries and keys (and values, if asked) are rotated by their positions.",
        ROBERTA_TASKS,
    ),
    "rwkv": Entry(
        "configs.recurrent:RwkvConfig",
        "architectures.rwkv:RWKV",
        "https://arxiv.org/abs/2305.13048",
        "Causal decoder without attention (version 4): fading averages of values, kept in a state of fixed size.",
        ("base", "causal-lm"),
    ),
    "sequence-default": Entry(
        "configs.sequence_default:SequenceDefaultConfig",
        "architectures.sequence_default:SEQUENCE_DEFAULT",
        "https://arxiv.org/abs/1706.03762",
        "This project's own encoder: RMS norms in front, rotary positions, gated feed-forward, optional windows.",
    ),
    "splinter": Entry(
        "configs.bert_like:SplinterConfig",
        "architectures.splinter:SPLINTER",
        "https://arxiv.org/abs/2101.00438",
        "Bert without pooler whose question tokens select the spans that answer them.",
        ("base", "pretraining", "question-answering"),
    ),
    "squeezebert": Entry(
        "configs.squeezebert:SqueezeBertConfig",
        "architectures.squeezebert:SQUEEZEBERT",
        "https://arxiv.org/abs/2006.11316",
        "Bert whose linear layers mix channels within groups only.",
        ("base", "masked-lm", *TEXT_TASKS),
    ),
    "stablelm": Entry(
        "configs.stablelm_like:StableLmConfig",
        "architectures.stablelm_like:STABLELM",
        "https://arxiv.org/abs/2402.17834",
        "Llama with norms that centre and rotations of a quarter of every head.",
        ("base", "causal-lm", "sequence-classification", "token-classification"),
    ),
    "starcoder2": Entry(
        "configs.stablelm_like:Starcoder2Config",
        "architectures.stablelm_like:STARCODER2",
        "https://arxiv.org/abs/2402.19173",
        "Causal decoder for code: rotations, shared keys and values, norms that centre, optionally a window.",
        ("base", "causal-lm", "sequence-classification", "token-classification"),
    ),
    "switch_transformers": Entry(
        "configs.t5:SwitchTransformersConfig",
        "architectures.switch_transformers:SWITCH_TRANSFORMERS",
        "https://arxiv.org/abs/2101.03961",
        "T5 in which every token of some layers goes through one of many feed-forward blocks.",
        T5_TASKS[:3],
    ),
    "t5": Entry(
        "configs.t5:T5Config",
        "architectures.t5:T5",
        "https://arxiv.org/abs/1910.10683",
        "Encoder and decoder with relative position biases shared by all layers, RMS norms in front, no linear biases.",
        T5_TASKS,
    ),
    "t5gemma": Entry(
        "configs.t5gemma:T5GemmaConfig",
        "architectures.t5gemma:T5GEMMA",
        "https://arxiv.org/abs/2504.06225",
        "Encoder and decoder of any two sizes; layers with bounded scores, rotations, windows and four or six norms.",
        T5_TASKS[:5],
    ),
    "visual_bert": Entry(
        "configs.special_inputs:VisualBertConfig",
        "architectures.visual_bert:VISUAL_BERT",
        "https://arxiv.org/abs/1908.03557",
        "Bert over a text and the regions of an image behind it (visual_embeds ...).",
        (
            "base",
            "pretraining",
            "visual-question-answering",
            "visual-reasoning",
            "region-to-phrase-alignment",
            "multiple-choice",
        ),
    ),
    "xglm": Entry(
        "configs.opt:XGLMConfig",
        "architectures.opt:XGLM",
        "https://arxiv.org/abs/2112.10668",
        "Causal decoder of many languages, with scaled tokens and fixed waves for positions.",
        ("base", "causal-lm"),
    ),
    "xlm": Entry(
        "configs.xlm:XLMConfig",
        "architectures.xlm:XLM",
        "https://arxiv.org/abs/1901.07291",
        "Bert without segments and pooler that may add a vector per language (langs) to each token.",
        XLM_TASKS,
    ),
    "xlm-prophetnet": Entry(
        "configs.prophetnet:XLMProphetNetConfig",
        "architectures.prophetnet:XLM_PROPHETNET",
        "https://arxiv.org/abs/2001.04063",
        "Prophetnet with a multilingual vocabulary.",
        PAIR_TASKS,
    ),
    "xlm-roberta": Entry(
        "configs.bert_like:XLMRobertaConfig",
        "architectures.roberta_like:XLM_ROBERTA",
        "https://arxiv.org/abs/1911.02116",
        "Roberta under the name that its weights for a hundred languages are published by.",
        ROBERTA_TASKS,
    ),
    "xlm-roberta-xl": Entry(
        "configs.bert_like:XLMRobertaXLConfig",
        "architectures.pre_norm_encoders:XLM_ROBERTA_XL",
        "https://arxiv.org/abs/2105.00572",
        "Larger xlm-roberta with norms in front of the sublayers, one behind the last layer, none on the embeddings.",
        ROBERTA_TASKS,
    ),
    "xlnet": Entry(
        "configs.xlnet:XLNetConfig",
        "architectures.xlnet:XLNET",
        "https://arxiv.org/abs/1906.08237",
        "Encoder by distances and segments that keeps states between texts and predicts tokens in any order.",
        ("base", "causal-lm", *TEXT_TASKS[:3], "answer-search", "multiple-choice"),
    ),
    "yoso": Entry(
        "configs.approximate_attention:YosoConfig",
        "architectures.approximate_attention:YOSO",
        "https://arxiv.org/abs/2111.09714",
        "Bert for long texts: weights are chances that hashes of queries and keys agree, expected or estimated.",
        ("base", "masked-lm", *TEXT_TASKS),
    ),
}


REPLACED_TOKENS = ("electra",)
"""Those whose task pretraining is to tell which tokens were replaced."""

POOLERS = (
    "albert", "bert", "big_bird", "camembert", "data2vec-text", "ernie", "fnet", "ibert", "layoutlm", "longformer",
    "luke", "markuplm", "mega", "megatron-bert", "mobilebert", "mpnet", "nezha", "rembert", "roberta",
    "roberta-prelayernorm", "roc_bert", "squeezebert", "visual_bert", "xlm-roberta", "xlm-roberta-xl",
)  # fmt: skip
"""Those whose base model has a pooler: one vector per text that a learnt layer makes of its states."""

TENSORS: dict[str, tuple[str, ...]] = {
    "bbox": ("layoutlm",),
    "xpaths": ("markuplm",),
    "entities": ("luke",),
    "visual_embeds": ("visual_bert",),
    "pixel_values": ("git",),
    "global_attention_mask": ("led", "longformer"),
    "langs": ("flaubert", "xlm"),
    "task_type_ids": ("ernie",),
    "input_shape_ids": ("roc_bert",),
    "input_pronunciation_ids": ("roc_bert",),
}
"""For each input beside tokens, those that take it, some of them with the options that switch it on."""

SYNONYMS = {"code_llama": "llama", "gpt-sw3": "gpt2"}
"""Documented names of models that are another architecture, tokenizer apart."""


def find(model_type: str) -> Entry:
    """The catalogue's entry of `model_type`, or of what it is a synonym of.

    Raises:
        UserError: there is no such model type (the nearest name is shown).
    """
    model_type = SYNONYMS.get(model_type, model_type)
    if model_type not in CATALOGUE:
        raise UserError(Fault("model_type", f"{model_type!r} is not in the catalogue{nearest(model_type, CATALOGUE)}"))
    return CATALOGUE[model_type]


def list_models() -> list[str]:
    """The published `model_type` strings of all architectures."""
    return sorted(CATALOGUE)


def config_class(model_type: str) -> type[ModelConfig]:
    """The dataclass of an architecture's options (torch-free)."""
    loaded: type[ModelConfig] = _load(find(model_type).config)
    return loaded


def architecture(model_type: str) -> Architecture:
    """How an architecture is built (imports torch)."""
    loaded: Architecture = _load(find(model_type).architecture)
    return loaded


def _load(place: str) -> Any:
    module, name = place.split(":")
    return getattr(importlib.import_module(f"eir_seq.models.{module}"), name)
