"""The table of bad configs: what the user wrote, and every line that comes out."""

# A row is a line, however long.
# ruff: noqa: E501
# fmt: off

from __future__ import annotations

from dataclasses import dataclass

from tests.config.project import MINE, with_line

CLI = "(command line)"
MODEL = "inputs.review.model"
OPTIONS = f"{MODEL}.model_init_config"


@dataclass(frozen=True)
class Bad:
    """Words of a command line (the experiment comes in front), the YAML of `mine`, and the expected lines."""

    id: str
    lines: tuple[str, ...]
    words: tuple[str, ...] = ()
    yaml: str | bytes = MINE


def cli(id: str, words: str | tuple[str, ...], *lines: str) -> Bad:
    """A fault on the command line."""
    words = (words,) if isinstance(words, str) else words
    return Bad(id, tuple(f"{line} {CLI}" for line in lines), words)


def inside(id: str, after: str, line: str, *lines: str) -> Bad:
    """A fault by a line added to the YAML file behind the one that ends with `after`."""
    return Bad(id, lines, yaml=with_line(MINE, after, line))


def text(id: str, yaml: str | bytes, *lines: str) -> Bad:
    """A fault of the YAML file as such."""
    return Bad(id, lines, yaml=yaml)


MISSPELT = [
    cli("key-top", "sed=3", "sed: unknown key; did you mean 'seed'?"),
    cli("key-top-plus", "+sed=3", "sed: unknown key; did you mean 'seed'?"),
    cli("key-data", "data.bach_size=8", "data.bach_size: unknown key; did you mean 'batch_size'?"),
    cli("key-trainer-plus", "+trainer.max_epoch=8", "trainer.max_epoch: unknown key; did you mean 'max_epochs'?"),
    cli("key-trainer-plus-plus", "++trainer.max_stps=8", "trainer.max_stps: unknown key; did you mean 'max_steps'?"),
    cli(
        "key-nested-trainer",
        "trainer.monitor.metrik=f1",
        "trainer.monitor.metrik: unknown key; did you mean 'metric'?",
    ),
    cli("key-input", "inputs.review.max_lenght=8", "inputs.review.max_lenght: unknown key; did you mean 'max_length'?"),
    cli("key-model", f"{MODEL}.pol=avg", f"{MODEL}.pol: unknown key; did you mean 'pool'?"),
    cli(
        "key-tokenizer",
        "inputs.review.tokenizer.min_frq=1",
        "inputs.review.tokenizer.min_frq: unknown key; did you mean 'min_freq'?",
    ),
    cli(
        "key-output",
        "outputs.sentiment.label_smoothin=0.1",
        "outputs.sentiment.label_smoothin: unknown key; did you mean 'label_smoothing'?",
    ),
    cli("key-optimizer", "optimizer.wieght_decay=0", "optimizer.wieght_decay: unknown key; did you mean 'weight_decay'?"),
    cli("key-fusion", "fusion.num_layer=1", "fusion.num_layer: unknown key; did you mean 'num_layers'?"),
    cli("key-tracker", ("tracker=wandb", "tracker.projekt=x"), "tracker.projekt: unknown key; did you mean 'project'?"),
    cli("key-run", "run.drr=x", "run.drr: unknown key; did you mean 'dir'?"),
    cli("option", f"{OPTIONS}.hiden_size=8", f"{OPTIONS}.hiden_size: not an option of 'longformer'; did you mean 'hidden_size'?"),
    cli("option-plus", f"+{OPTIONS}.atention_window=8", f"{OPTIONS}.atention_window: not an option of 'longformer'; did you mean 'attention_window'?"),
    cli("key-of-another-section", "trainer.batch_size=8", "trainer.batch_size: unknown key; did you mean data.batch_size?"),
    cli("key-without-its-section", "lr=0.1", "lr: unknown key; did you mean optimizer.lr?"),
    cli("option-one-level-off", "inputs.review.hidden_size=8", f"inputs.review.hidden_size: unknown key; did you mean {OPTIONS}.hidden_size?"),
    cli("key-like-nothing", "scheduler.zzz=1", "scheduler.zzz: unknown key; keys here: type, warmup, final_ratio, extend"),
    cli(
        "required-key-misspelt",
        "inputs={b: {type: sequence, colum: text, model: {model_type: bert}}}",
        "inputs.b.colum: unknown key; did you mean 'column', which is missing?",
    ),
    inside("yaml-key-top", "max_epochs: 1", "sed: 3", "sed: unknown key; did you mean 'seed'? (conf/experiment/mine.yaml:29)"),
    inside("yaml-key-data", "batch_size: 8", "  bach_size: 9", "data.bach_size: unknown key; did you mean 'batch_size'? (conf/experiment/mine.yaml:27)"),
    inside("yaml-key-input", "column: text", "    max_lenght: 9", "inputs.review.max_lenght: unknown key; did you mean 'max_length'? (conf/experiment/mine.yaml:10)"),
    inside("yaml-option", "hidden_size: 64", "        hiden_size: 9", f"{OPTIONS}.hiden_size: not an option of 'longformer'; did you mean 'hidden_size'? (conf/experiment/mine.yaml:16)"),
    inside("yaml-key-output", "column: stars", "    los: mse", "outputs.stars.los: unknown key; did you mean 'loss'? (conf/experiment/mine.yaml:25)"),
]

VALUES = [
    cli("text-for-number", "data.batch_size=eight", "data.batch_size: 'eight' is not a whole number >= 1"),
    cli("zero", "data.batch_size=0", "data.batch_size: 0 is not a whole number >= 1"),
    cli("negative", "data.batch_size=-1", "data.batch_size: -1 is not a whole number >= 1"),
    cli("fraction", "data.batch_size=1.5", "data.batch_size: 1.5 is not a whole number >= 1"),
    cli("boolean", "data.batch_size=true", "data.batch_size: true is not a whole number >= 1"),
    cli("null", "data.batch_size=null", "data.batch_size: null is not a whole number >= 1"),
    cli("quoted-number", "optimizer.lr='1e-3'", "optimizer.lr: '1e-3' is not a number > 0 and <= 100; write it without quotes"),
    cli("nan", "optimizer.lr=nan", "optimizer.lr: nan is not a number > 0 and <= 100"),
    cli("infinite", "outputs.stars.loss_weight=inf", "outputs.stars.loss_weight: inf is not a number > 0"),
    cli("seed-negative", "seed=-1", "seed: -1 is not a whole number >= 0 and < 2**63"),
    cli("seed-large", f"seed={2**70}", f"seed: {2**70} is not a whole number >= 0 and < 2**63"),
    cli("too-many-workers", "data.num_workers=1000000", "data.num_workers: 1000000 is not a whole number >= 0 and <= 256"),
    cli("number-for-text", "data.id=7", "data.id: 7 is not text; put it in quotes"),
    cli("union", "inputs.review.max_length=true", "inputs.review.max_length: true is neither a whole number >= 3 nor one of 'average', 'max'"),
    cli("union-near", "inputs.review.max_length=averag", "inputs.review.max_length: 'averag' is neither a whole number >= 3 nor one of 'average', 'max'; did you mean 'average'?"),
    cli("choice", f"{MODEL}.pool=avrg", f"{MODEL}.pool: 'avrg' is not one of 'avg', 'max', 'first', 'last', 'pooler'; did you mean 'avg'?"),
    cli("precision", "trainer.precision=fp17", "trainer.precision: 'fp17' is not one of '32', 'bf16-mixed', '16-mixed'"),
    cli("list-length", "optimizer.betas=[0.9]", "optimizer.betas: [0.9] is not a list of 2 values, each a number >= 0 and < 1"),
    cli("list-item", "optimizer.betas=[0.9,2]", "optimizer.betas[1]: 2 is not a number >= 0 and < 1"),
    cli("mapping-null", "inputs=null", "inputs: null is not a mapping"),
    cli("mapping-empty", "~inputs.review", "inputs: must hold at least one entry"),
    cli("not-a-mapping", f"{MODEL}=longformer", f"{MODEL}: 'longformer' is not a mapping"),
    cli("input-name", "+inputs={2x: {type: sequence, column: a, model: {model_type: bert}}}", "inputs.2x: is not a name of letters, digits, '-' and '_' that begins with a letter"),
    cli("input-type", "inputs.review.type=sequenc", "inputs.review.type: 'sequenc' is not one of 'sequence', 'image'; did you mean 'sequence'?"),
    cli("tokenizer-type", "inputs.review.tokenizer.type=wrd", "inputs.review.tokenizer.type: 'wrd' is not one of 'word', 'character', 'byte', 'bpe', 'wordpiece', 'unigram', 'published'; did you mean 'word'?"),
    cli("output-type", "outputs.stars.type=regresion", "outputs.stars.type: 'regresion' is not one of 'classification', 'regression', 'causal_lm', 'token_classification', 'seq2seq_lm', 'masked_lm', 'replaced_token_detection', 'span_corruption', 'denoising'; did you mean 'regression'?"),
    cli("fusion-type", "fusion.type=mlp", "fusion.type: 'mlp' is not one of 'concat', 'mlp-residual', 'attention', 'gated-experts'; did you mean 'mlp-residual'?"),
    cli("optimizer-type", "optimizer.type=adamv", "optimizer.type: 'adamv' is not one of 'adamw', 'sgd', 'adafactor'; did you mean 'adamw'?"),
    cli("scheduler-type", "scheduler.type=cosin", "scheduler.type: 'cosin' is not one of 'constant', 'linear', 'cosine', 'one-cycle'; did you mean 'cosine'?"),
    cli("loss-of-another-output", "outputs.stars.loss=focal", "outputs.stars.loss: 'focal' is not one of 'mse', 'mae', 'huber'"),
    cli("option-type", f"{OPTIONS}.hidden_size=big", f"{OPTIONS}.hidden_size: 'big' is not a whole number"),
    cli("option-range", f"{OPTIONS}.hidden_dropout_prob=1.5", f"{OPTIONS}.hidden_dropout_prob: 1.5 is above the greatest value 1.0"),
    cli("option-zero", f"{OPTIONS}.num_hidden_layers=0", f"{OPTIONS}.num_hidden_layers: 0 is below the least value 1"),
    cli("unknown-model", f"{MODEL}.model_type=longfomer", f"{MODEL}.model_type: 'longfomer' is not in the catalogue; did you mean 'longformer'?"),
    Bad("model-for-checkpoint", words=(f"{MODEL}.pretrained_model=true",), lines=(f"{MODEL}.model_type: 'longformer' is an architecture; with pretrained_model: true name a folder or Hub id (OWNER/NAME) (conf/experiment/mine.yaml:13)", "inputs.review.tokenizer: 'word' gives other ids than the pretrained model learnt; leave tokenizer out (conf/experiment/mine.yaml:11)",)),
    cli("checkpoint-for-model", f"{MODEL}.model_type=prajjwal1/bert-tiny", f"{MODEL}.model_type: 'prajjwal1/bert-tiny' names a checkpoint, not an architecture; load it with pretrained_model: true"),
    cli("no-such-folder", (f"{MODEL}.pretrained_model=true", f"{MODEL}.model_type=./nowhere"), f"{MODEL}.model_type: there is no folder './nowhere', and it is not a Hub id (OWNER/NAME)"),
]

COMBINATIONS = [
    cli("heads", f"{OPTIONS}.hidden_size=65", f"{OPTIONS}.hidden_size: 65 is not divisible by num_attention_heads 2"),
    cli("max-length", "inputs.review.max_length=513", "inputs.review.max_length: 513 tokens are more than the 512 positions of 'longformer'; lower it or raise model_init_config.max_position_embeddings"),
    cli("no-end", "trainer.max_epochs=null", "trainer.max_epochs: is null and so is max_steps; the run would never end"),
    cli("monitor-output", "trainer.monitor.output=sentimen", "trainer.monitor.output: 'sentimen' is not an output (there are: 'sentiment', 'stars'); did you mean 'sentiment'?"),
    cli("monitor-metric", ("trainer.monitor.output=stars", "trainer.monitor.metric=acuracy"), "trainer.monitor.metric: 'acuracy' is not a metric of a regression output ('loss', 'mae', 'rmse', 'r2', 'pearson', 'spearman')"),
    cli("monitor-mode", ("trainer.monitor.output=stars", "trainer.monitor.metric=r2", "trainer.monitor.mode=min"), "trainer.monitor.mode: 'min' would keep the lowest r2, which is its worst value"),
    cli("sampling-output", "data.weighted_sampling=star", "data.weighted_sampling: 'star' is not an output (there are: 'sentiment', 'stars'); did you mean 'stars'?"),
    cli("sampling-regression", "data.weighted_sampling=stars", "data.weighted_sampling: output 'stars' has no classes; it is a regression"),
    cli("target-as-input", "inputs.review.column=stars", "inputs.review.column: column 'stars' is the target of outputs.stars"),
    cli("scheduler-extend", "scheduler.extend=rescal", "scheduler.extend: 'rescal' is not one of 'rescale', 'continue'; did you mean 'rescale'?"),
    cli("keep-optimizer-state", "trainer.keep_optimizer_state=3", "trainer.keep_optimizer_state: 3 is not true or false"),
    cli("ignored-final-ratio", ("scheduler=one-cycle", "scheduler.final_ratio=0.1"), "scheduler.final_ratio: has no effect with type 'one-cycle' (linear and cosine have it)"),
    cli("ignored-gamma", "outputs.sentiment.focal_gamma=1", "outputs.sentiment.focal_gamma: has no effect with loss 'cross-entropy'"),
    cli("ignored-freeze", f"{MODEL}.freeze_pretrained_model=true", f"{MODEL}.freeze_pretrained_model: has no effect without pretrained_model: true"),
    cli("lora-from-scratch", f"{MODEL}.lora.rank=4", f"{MODEL}.lora: needs pretrained_model: true; it keeps the other weights, which would be random"),
    cli("lora-keys", (f"{MODEL}.lora.rnak=4", f"{MODEL}.lora.dropout=1"), f"{MODEL}.lora.dropout: 1 is not a number >= 0 and < 1", f"{MODEL}.lora.rnak: unknown key; did you mean 'rank'?"),
    cli("lora-without-layers", f"{MODEL}.lora.target_modules=[]", f"{MODEL}.lora: needs pretrained_model: true; it keeps the other weights, which would be random", f"{MODEL}.lora.target_modules: is empty; name layers, or leave it out for all linear ones"),
    cli("no-file-for-the-sample", "data.train=x.csv", "data.train: no such file or folder: 'x.csv'"),
    cli("ignored-root", ("run.dir=a", "run.root=b"), "run.root: has no effect with run.dir"),
    cli("ignored-key-of-variant", ("fusion=concat", "fusion.num_layers=2"), "fusion.num_layers: unknown key; keys here: type"),
    cli("sample-name", "data.name=review", "data.name: 'review' is not a shipped sample ('reviews', 'stories', 'translations', 'long_documents', 'reviews_test'); did you mean 'reviews'?"),
    cli("no-such-file", ("data=table", "data.train=cnf"), "data.train: no such file or folder: 'cnf'; did you mean 'conf'?"),
    cli("early-stopping", ("data.validation=null", "trainer.early_stopping.patience=2"), "trainer.early_stopping: cannot work as there are no validation rows (data.validation: null)"),
]

WORDS = [
    cli("group", "data=reviews_sampl", "data: no option 'reviews_sampl' (there are imdb, long_documents, multi30k, reviews_sample, sst2, stories_sample, table, translations_sample); did you mean 'reviews_sample'?"),
    cli("no-equals", "seed", "seed: not of the form key=value"),
    cli("sweep-without-m", "seed=1,2", "seed: 1,2 stands for several jobs; add -m to run them all, or write [1,2] for a list"),
    cli("delete", "~data.nam", "~data.nam: there is no such key to delete"),
    cli("target", "hydra.callbacks.x._target_=os.system", "hydra.callbacks.x._target_=os.system: code cannot be named in a config; choose by 'type' or 'model_type'"),
    cli("target-inside", "note={a: [{_target_: os.system}]}", "note={a: [{_target_: os.system}]}: code cannot be named in a config; choose by 'type' or 'model_type'"),
    cli("hydra-key", "hydra.jobb=3", "hydra.jobb: unknown key"),
    cli("secret", "note=${oc.env:AWS_SECRET}", "note: $AWS_SECRET may not be read from a config; allowed are EIR_SEQ_*, HOME, USER, TMPDIR, SCRATCH"),
    cli("interpolation", "note=${nowhere.at.all}", "note: Interpolation key 'nowhere.at.all' not found"),
    cli("interpolation-circle", "note=${note}", "note: Recursive interpolation detected"),
    cli("all-at-once", ("seed=x", "data.bach_size=1", f"{OPTIONS}.hiden_size=8", "trainer.monitor.output=sta"),
        "seed: 'x' is not a whole number >= 0 and < 2**63",
        "data.bach_size: unknown key; did you mean 'batch_size'?",
        f"{OPTIONS}.hiden_size: not an option of 'longformer'; did you mean 'hidden_size'?",
        "trainer.monitor.output: 'sta' is not an output (there are: 'sentiment', 'stars'); did you mean 'stars'?"),
]

FILES = [
    text("yaml-twice", with_line(MINE, "batch_size: 8", "  batch_size: 9"), "data.batch_size: set twice, on lines 26 and 27 (conf/experiment/mine.yaml:27)"),
    text("yaml-broken", with_line(MINE, "batch_size: 8", " nope: 1"), "conf/experiment/mine.yaml:27:2: expected <block end>, but found '<block mapping start>'"),
    text("yaml-tab", with_line(MINE, "data:", "\tseed: 1"), "conf/experiment/mine.yaml:26:1: a tab character; indent with spaces"),
    text("yaml-list", "- 1\n- 2\n", "conf/experiment/mine.yaml:1: a config is a mapping of keys, not a list"),
    text("yaml-scalar", "longformer\n", "conf/experiment/mine.yaml:1: a config is a mapping of keys, not a single value"),
    text("yaml-empty", "# @package _global_\n", "inputs: is missing", "outputs: is missing", "data.train: is missing; name the file or folder to train on"),
    text("yaml-latin-1", MINE.replace("My own", "Mein für").encode("latin-1"), "conf/experiment/mine.yaml:2: byte 0xfc at offset 28 is not UTF-8; save the file as UTF-8"),
    text("yaml-tag", with_line(MINE, "max_epochs: 1", "note: !!python/object/apply:os.system [ls]"), "note: the YAML tag !!python/object/apply:os.system is not allowed; write plain values (conf/experiment/mine.yaml:29)"),
    text("yaml-target", with_line(MINE, "max_epochs: 1", "  monitor: {_target_: os.system}"), "trainer.monitor._target_: code cannot be named in a config; choose by 'type' or 'model_type' (conf/experiment/mine.yaml:29)"),
    text("yaml-hydra-target", with_line(MINE, "max_epochs: 1", "hydra: {callbacks: {x: {_target_: os.system}}}"), "hydra.callbacks.x._target_: code cannot be named in a config; choose by 'type' or 'model_type' (conf/experiment/mine.yaml:29)"),
    text("yaml-bomb", "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)), "conf/experiment/mine.yaml:1: its aliases expand to more than 100000 values"),
    text("yaml-group", MINE.replace("/data: reviews_sample", "/data: reviews_sampl"), "data: no option 'reviews_sampl' (there are imdb, long_documents, multi30k, reviews_sample, sst2, stories_sample, table, translations_sample); did you mean 'reviews_sample'? (conf/experiment/mine.yaml:4)"),
    text("yaml-unset", MINE.replace("batch_size: 8", "batch_size: ???"), "data.batch_size: must be given (it is ??? where it is declared) (conf/experiment/mine.yaml:26)"),
    text("yaml-mapping-null", MINE.replace("column: text\n", "column: text\n    tokenizer: {type: word, min_freq: none}\n").replace("    tokenizer: {type: word, min_freq: 2}\n", ""), "inputs.review.tokenizer.min_freq: 'none' is not a whole number >= 1 (conf/experiment/mine.yaml:10)"),
    text("yaml-no-outputs", MINE[: MINE.index("outputs:")] + MINE[MINE.index("data:\n") :], "outputs: is missing"),
]

BAD = [*MISSPELT, *VALUES, *COMBINATIONS, *WORDS, *FILES]
