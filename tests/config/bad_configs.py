"""The table of bad configs: what the user wrote, and every line that comes out."""

# A row is a line, however long.
# ruff: noqa: E501
# fmt: off

from __future__ import annotations

from dataclasses import dataclass

from eir_seq.config.folders import conf_dir
from eir_seq.registry import INPUTS
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
    inside("key-number-top", "  max_epochs: 1", "1: 3", "1: unknown key; keys here: name, note, seed, data, inputs, fusion, outputs, broker, adversaries, optimizer, scheduler, trainer, callbacks, tracker, start_from, run, cache (conf/experiment/mine.yaml:29)"),
    inside("key-hydra", "  max_epochs: 1", "hydra: { run: { dir: x } }", "hydra.run.dir: has no effect in a file; run.dir and run.root say where a run goes (conf/experiment/mine.yaml:29)"),
    inside("no-home", "  max_epochs: 1", "run: { dir: ~nouser/x }", "run.dir: '~nouser/x': no home folder is known for '~nouser'; write ./~nouser for a folder of that name (conf/experiment/mine.yaml:29)"),
    text(
        "key-number-input",
        MINE.replace("review:", "5:"),
        "inputs[5]: is not a name of letters, digits, '-' and '_' that begins with a letter (conf/experiment/mine.yaml:7)",
    ),
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
    cli("key-like-nothing", "scheduler.zzz=1", "scheduler.zzz: unknown key; keys here: extend, type, warmup, final_ratio"),
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
    cli("text-for-number", "data.batch_size=eight", "data.batch_size: 'eight' is not an integer >= 1"),
    cli("zero", "data.batch_size=0", "data.batch_size: 0 is not an integer >= 1"),
    cli("negative", "data.batch_size=-1", "data.batch_size: -1 is not an integer >= 1"),
    cli("fraction", "data.batch_size=1.5", "data.batch_size: 1.5 is not an integer >= 1"),
    cli("boolean", "data.batch_size=true", "data.batch_size: true is not an integer >= 1"),
    cli("null", "data.batch_size=null", "data.batch_size: null is not an integer >= 1"),
    cli("quoted-number", "optimizer.lr='1e-3'", "optimizer.lr: '1e-3' is not a number > 0 and <= 100; write it without quotes"),
    cli("nan", "optimizer.lr=nan", "optimizer.lr: nan is not a number > 0 and <= 100"),
    cli("infinite", "outputs.stars.loss_weight=inf", "outputs.stars.loss_weight: inf is not a number > 0"),
    cli("seed-negative", "seed=-1", "seed: -1 is not an integer >= 0 and < 2**63"),
    cli("seed-large", f"seed={2**70}", f"seed: {2**70} is not an integer >= 0 and < 2**63"),
    cli("too-many-workers", "data.num_workers=1000000", "data.num_workers: 1000000 is not an integer >= 0 and <= 256"),
    cli("number-for-text", "data.id=7", "data.id: 7 is not text; put it in quotes"),
    cli("text-for-character", "data.quote=ab", "data.quote: 'ab' is not a single character"),
    cli("text-for-list", "data.missing_labels=none", "data.missing_labels: 'none' is not a list of values, each text; write [none]"),
    cli("number-for-metric", "trainer.monitor=3", "trainer.monitor: 3 is not a mapping"),
    cli("number-for-mapping", "trainer.early_stopping=3", "trainer.early_stopping: 3 is not a mapping; write trainer.early_stopping.patience=3, in YAML early_stopping: {patience: 3}"),
    cli("truth-for-mapping", "trainer.early_stopping=true", "trainer.early_stopping: true is not a mapping"),
    cli("fraction-in-quotes", ("data=table", "data.train=conf", "data.validation='0.2'"), "data.validation: no such file or folder: '0.2'; write a fraction such as 0.2 without quotes"),
    cli("file-beside-folder", ("data=table", "data.train=conf/experiment/mine.yaml", "data.validation=conf"), "data.train: conf/experiment/mine.yaml is a file, and data.validation is a folder of text files; give only files, or only folders"),
    cli("number-of-rows-in-quotes", ("data=table", "data.train=conf", "data.validation='500'"), "data.validation: no such file or folder: '500'; write a number of rows without quotes"),
    cli("one-row-or-all", "data.validation=1", "data.validation: 1 is neither a fraction of the rows, such as 0.1, nor a number of rows, such as 500"),
    cli("one-fold", "data.folds=1", "data.folds: 1 is not an integer >= 2"),
    cli("fold-without-folds", "data.fold=1", "data.fold: has no effect without data.folds"),
    cli("fold-beyond", ("data.folds=3", "data.fold=3"), "data.fold: 3 is not one of the 3 folds, 0 to 2"),
    cli("folds-and-test", ("data.folds=3", "data.test=0.1"), "data.test: cannot be combined with data.folds: the rows of each fold are its test rows"),
    cli("buffer-without-streaming", "data.shuffle_buffer=5", "data.shuffle_buffer: has no effect without data.streaming"),
    cli("streamed-sample", "data.streaming=true", "data.streaming: a shipped sample is too small to be streamed; give files or a Hub dataset"),
    cli("streamed-folds", ("data=table", "data.train=conf", "data.streaming=true", "data.folds=3"), "data.folds: cannot be combined with data.streaming: folds are drawn from the whole table"),
    cli("streamed-limit", ("data=table", "data.train=conf", "data.streaming=true", "data.limit=5"), "data.limit: cannot be combined with data.streaming: rows are drawn from the whole table (trainer.limit_train_batches shortens epochs)"),
    cli("streamed-sampling", ("data=table", "data.train=conf", "data.streaming=true", "data.weighted_sampling=sentiment"), "data.weighted_sampling: cannot be combined with data.streaming: rows are drawn by the classes of the whole table"),
    cli("streamed-labels", ("data=table", "data.train=conf", "data.streaming=true", "data.labels=conf"), "data.labels: cannot be combined with data.streaming: a folder is read as shards of one table"),
    cli("streamed-strata", ("data=table", "data.train=conf", "data.streaming=true", "data.stratify=stars"), "data.stratify: cannot be combined with data.streaming: rows are held out by a hash of their id"),
    cli("streamed-groups", ("data=table", "data.train=conf", "data.streaming=true", "data.validation=50", "data.group=who"), "data.group: needs fractions for data.validation and data.test, as whole groups are held out"),
    cli("streamed-parts", ("data=table", "data.train=conf", "data.streaming=true", "data.validation=50", "data.test=0.1"), "data.test: give fractions or numbers of rows for both data.validation and data.test"),
    Bad("streamed-tokens", tuple(f"{line} (conf/experiment/mine.yaml:27)" for line in ("trainer.max_steps: is missing: the number of batches per epoch with data.streaming and data.max_tokens is not known beforehand", "trainer.validate_every: is missing: the number of batches per epoch with data.streaming and data.max_tokens is not known beforehand; give the steps between evaluations")), ("data=table", "data.train=conf", "data.streaming=true", "data.max_tokens=500")),
    cli("streamed-hub", ("data=imdb", "data.streaming=true", "data.validation=0.1", "trainer.max_steps=5", "trainer.validate_every=1", "trainer.overfit_batches=1"), "data.validation: 0.1 of a streamed Hub split cannot be drawn; name a split, or write null", "trainer.overfit_batches: cannot be used: the number of batches per epoch of a streamed Hub split is not known beforehand"),
    cli("no-file", ("data=table", "data.train="), "data.train: is empty; name a file or folder"),
    cli("union", "inputs.review.max_length=true", "inputs.review.max_length: true is neither an integer >= 3 nor one of 'average', 'max'"),
    cli("union-near", "inputs.review.max_length=averag", "inputs.review.max_length: 'averag' is neither an integer >= 3 nor one of 'average', 'max'; did you mean 'average'?"),
    cli("choice", f"{MODEL}.pool=avrg", f"{MODEL}.pool: 'avrg' is not one of 'avg', 'max', 'first', 'last', 'pooler', 'none'; did you mean 'avg'?"),
    cli("precision", "trainer.precision=fp17", "trainer.precision: 'fp17' is not one of '32', 'tf32', 'bf16-mixed', '16-mixed'"),
    cli("list-length", "optimizer.betas=[0.9]", "optimizer.betas: [0.9] is not a list of 2 values, each a number >= 0 and < 1"),
    cli("list-item", "optimizer.betas=[0.9,2]", "optimizer.betas[1]: 2 is not a number >= 0 and < 1"),
    cli("mapping-null", "inputs=null", "inputs: null is not a mapping"),
    cli("mapping-empty", "~inputs.review", "inputs: must hold at least one entry"),
    cli("not-a-mapping", f"{MODEL}=longformer", f"{MODEL}: 'longformer' is not a mapping; write {MODEL}.model_type=longformer, in YAML model: {{model_type: longformer}}"),
    cli("input-name", "+inputs={2x: {type: sequence, column: a, model: {model_type: bert}}}", "inputs.2x: is not a name of letters, digits, '-' and '_' that begins with a letter"),
    cli("input-type", "inputs.review.type=sequenc", f"inputs.review.type: 'sequenc' is not one of {', '.join(map(repr, INPUTS))}; did you mean 'sequence'?"),
    cli("tokenizer-type", "inputs.review.tokenizer.type=wrd", "inputs.review.tokenizer.type: 'wrd' is not one of 'word', 'character', 'byte', 'bpe', 'wordpiece', 'unigram', 'published'; did you mean 'word'?"),
    cli("output-type", "outputs.stars.type=regresion", "outputs.stars.type: 'regresion' is not one of 'classification', 'regression', 'multi_label', 'ordinal', 'survival', 'similarity', 'causal_lm', 'preference', 'token_classification', 'span', 'seq2seq_lm', 'masked_lm', 'replaced_token_detection', 'span_corruption', 'denoising', 'array', 'image'; did you mean 'regression'?"),
    cli("fusion-type", "fusion.type=mlp", "fusion.type: 'mlp' is not one of 'auto', 'concat', 'identity', 'linear', 'pass-through', 'mlp-residual', 'mlp-residual-sum', 'attention', 'cross-attention', 'gated-experts'; did you mean 'mlp-residual'?"),
    cli("optimizer-type", "optimizer.type=adamv", "optimizer.type: 'adamv' is not one of 'adamw', 'sgd', 'adafactor', 'adam', 'nadam', 'radam', 'adamax', 'adabelief', 'rmsprop', 'adagrad', 'adadelta', 'asgd', 'muon'; did you mean 'adam'?"),
    cli("scheduler-type", "scheduler.type=cosin", "scheduler.type: 'cosin' is not one of 'constant', 'linear', 'cosine', 'one-cycle', 'plateau'; did you mean 'cosine'?"),
    cli("loss-of-another-output", "outputs.stars.loss=focal", "outputs.stars.loss: 'focal' is not one of 'mse', 'mae', 'smooth-l1', 'huber', 'poisson', 'quantile', 'gaussian'"),
    cli("option-type", f"{OPTIONS}.hidden_size=big", f"{OPTIONS}.hidden_size: 'big' is not an integer"),
    cli("option-range", f"{OPTIONS}.hidden_dropout_prob=1.5", f"{OPTIONS}.hidden_dropout_prob: 1.5 is above the greatest value 1.0"),
    cli("option-zero", f"{OPTIONS}.num_hidden_layers=0", f"{OPTIONS}.num_hidden_layers: 0 is below the least value 1"),
    cli("unknown-model", f"{MODEL}.model_type=longfomer", f"{MODEL}.model_type: 'longfomer' is not in the catalogue; did you mean 'longformer'?"),
    Bad("model-for-checkpoint", words=(f"{MODEL}.pretrained_model=true",), lines=(f"{MODEL}.model_type: 'longformer' is an architecture; with pretrained_model: true name a folder or Hub id (OWNER/NAME) (conf/experiment/mine.yaml:13)", "inputs.review.tokenizer: 'word' gives other ids than the pretrained model was trained with; leave tokenizer out (conf/experiment/mine.yaml:11)",)),
    cli("checkpoint-for-model", f"{MODEL}.model_type=prajjwal1/bert-tiny", f"{MODEL}.model_type: 'prajjwal1/bert-tiny' names a checkpoint, not an architecture; load it with pretrained_model: true"),
    cli("no-such-folder", (f"{MODEL}.pretrained_model=true", f"{MODEL}.model_type=./nowhere"), f"{MODEL}.model_type: ./nowhere: no such folder"),
]

COMBINATIONS = [
    cli("heads", f"{OPTIONS}.hidden_size=65", f"{OPTIONS}.hidden_size: 65 is not divisible by num_attention_heads 2"),
    cli("max-length", "inputs.review.max_length=513", "inputs.review.max_length: 513 tokens are more than the 512 positions of 'longformer'; lower it or raise model_init_config.max_position_embeddings"),
    cli("no-end", "trainer.max_epochs=null", "trainer.max_epochs: is null and so is max_steps; the run would never end"),
    cli("limit-share", "trainer.limit_val_batches=0", "trainer.limit_val_batches: 0 is neither an integer >= 1 nor a number > 0 and <= 1"),
    cli("overfit-and-limit", ("trainer.overfit_batches=2", "trainer.limit_train_batches=3"), "trainer.limit_train_batches: has no effect with trainer.overfit_batches"),
    cli("deterministic-benchmark", ("trainer.deterministic=true", "trainer.benchmark=true"), "trainer.benchmark: cannot be combined with trainer.deterministic: what is fastest would decide"),
    cli("callback-type", "callbacks.x.type=rich_progres", "callbacks.x.type: 'rich_progres' is not one of 'rich_progress', 'learning_rate_monitor', 'device_stats'; did you mean 'rich_progress'?"),
    cli("callback-option", ("callbacks.x.type=rich_progress", "callbacks.x.refresh_rat=2"), "callbacks.x.refresh_rat: unknown key; did you mean 'refresh_rate'?"),
    cli("debug-option", "debug=fast", "debug: no option 'fast' (there are anomaly, fast_run, overfit, profiler; looked in conf/debug); did you mean 'fast_run'?"),
    cli("monitor-output", "trainer.monitor.output=sentimen", "trainer.monitor.output: 'sentimen' is not an output (there are: 'sentiment', 'stars'); did you mean 'sentiment'?"),
    cli("monitor-metric", ("trainer.monitor.output=stars", "trainer.monitor.metric=acuracy"), "trainer.monitor.metric: 'acuracy' is not a metric of a regression output ('loss', 'mae', 'rmse', 'mape', 'r2', 'explained_variance', 'pearson', 'spearman')"),
    cli("monitor-mode", ("trainer.monitor.output=stars", "trainer.monitor.metric=r2", "trainer.monitor.mode=min"), "trainer.monitor.mode: 'min' would keep the lowest r2, which is its worst value"),
    cli("sampling-output", "data.weighted_sampling=star", "data.weighted_sampling: 'star' is not an output (there are: 'sentiment', 'stars'); did you mean 'stars'?"),
    cli("sampling-regression", "data.weighted_sampling=stars", "data.weighted_sampling: output 'stars' has no classes; it is a regression"),
    cli("target-as-input", "inputs.review.column=stars", "inputs.review.column: column 'stars' is the target of outputs.stars"),
    cli("scheduler-extend", "scheduler.extend=rescal", "scheduler.extend: 'rescal' is not one of 'rescale', 'continue'; did you mean 'rescale'?"),
    cli("keep-optimizer-state", "trainer.keep_optimizer_state=3", "trainer.keep_optimizer_state: 3 is not true or false"),
    cli("ignored-final-ratio", ("scheduler=one-cycle", "scheduler.final_ratio=0.1"), "scheduler.final_ratio: has no effect with type 'one-cycle' (linear and cosine have it)"),
    cli("column-and-columns", "outputs.stars.columns=[a,b]", "outputs.stars.columns: cannot be combined with column; keep one of them"),
    cli("columns-text", "outputs.stars.columns=stars", "outputs.stars.columns: 'stars' is not a list of values, each text; write [stars]"),
    cli("columns-misspelt", "outputs.stars.colums=[a]", "outputs.stars.colums: unknown key; did you mean 'columns'?"),
    cli("no-column", "outputs.stars.column=null", "outputs.stars.column: is missing; name the column of the number, or several by columns"),
    cli("columns-empty", ("outputs.stars.column=null", "outputs.stars.columns=[]"), "outputs.stars.column: is missing; name the column of the number, or several by columns"),
    cli("order-short", ("outputs.stars.type=ordinal", "outputs.stars.order=[a]"), "outputs.stars.order: ['a'] has fewer than two levels"),
    cli("column-is-id", ("outputs.stars.column=stars", "data.id=stars"), "outputs.stars.column: 'stars' is the id of the rows (data.id), not a number"),
    cli("head-misspelt", "outputs.stars.head=mlp_residual", "outputs.stars.head: 'mlp_residual' is not one of 'linear', 'mlp-residual', 'shared'; did you mean 'mlp-residual'?"),
    cli("head-of-nobody", "outputs.stars.head=shared", "outputs.stars.head: no other output has a shared head of group 'shared'; 'mlp-residual' is one for itself"),
    cli("heads-differ", ("outputs.stars.head={type: shared, num_experts: 2}", "outputs.sentiment.head=shared"), "outputs.stars.head: differs from outputs.sentiment.head, with which it shares its layers (group 'shared')"),
    cli("thresholds", "outputs.sentiment.thresholds=auroc", "outputs.sentiment.thresholds: 'auroc' is not one of 'accuracy', 'balanced_accuracy', 'f1', 'mcc', 'f1(CLASS)'; did you mean 'accuracy'?"),
    cli("thresholds-without-validation", ("outputs.sentiment.thresholds=f1", "data.validation=null"), "outputs.sentiment.thresholds: cannot be chosen as there are no validation rows (data.validation: null)"),
    cli("unmeasured", ("trainer.monitor.output=stars", "trainer.monitor.metric=calibration_error"), "trainer.monitor.metric: 'calibration_error' of outputs.stars is not measured with loss 'mse', which predicts no intervals"),
    cli("quantiles", ("outputs.stars.loss=quantile", "outputs.stars.quantiles=[0.9,0.1]"), "outputs.stars.quantiles: [0.9, 0.1] are not in ascending order, each once, with 0.5 among them, as [0.1, 0.5, 0.9]"),
    cli("ignored-delta", "outputs.stars.delta=2", "outputs.stars.delta: has no effect with loss 'mse'"),
    cli("ignored-beta", "outputs.sentiment.effective_beta=0.9", "outputs.sentiment.effective_beta: has no effect without class_weights: effective"),
    cli("order-twice", ("outputs.stars.type=ordinal", "outputs.stars.order=[a,b,a]"), "outputs.stars.order: names 'a' twice"),
    cli("one-label", ("outputs.stars.type=multi_label", "outputs.stars.column=null", "outputs.stars.columns=[a]"), "outputs.stars.columns: has one label; for one use type: classification"),
    cli("ignored-gamma", "outputs.sentiment.focal_gamma=1", "outputs.sentiment.focal_gamma: has no effect with loss 'cross-entropy'"),
    cli("ignored-freeze", f"{MODEL}.freeze_pretrained_model=true", f"{MODEL}.freeze_pretrained_model: has no effect without pretrained_model: true"),
    cli("lora-from-scratch", f"{MODEL}.lora.rank=4", f"{MODEL}.lora: needs pretrained_model: true; it keeps the other weights, which would be random"),
    cli("lora-keys", (f"{MODEL}.lora.rnak=4", f"{MODEL}.lora.dropout=1"), f"{MODEL}.lora.dropout: 1 is not a number >= 0 and < 1", f"{MODEL}.lora.rnak: unknown key; did you mean 'rank'?"),
    cli("lora-without-layers", f"{MODEL}.lora.target_modules=[]", f"{MODEL}.lora: needs pretrained_model: true; it keeps the other weights, which would be random", f"{MODEL}.lora.target_modules: is empty; name layers, or leave it out for all linear ones"),
    cli("no-file-for-the-sample", "data.train=x.csv", "data.train: no such file or folder: 'x.csv'"),
    cli("cache-size", "cache.max_size=20XB", "cache.max_size: '20XB' is not a size; write for example 20GB, 500MB or 1.5TiB"),
    cli("cache-size-type", "cache.max_size=true", "cache.max_size: true is not a size; write for example 20GB, or null for no limit"),
    cli("cache-names", ("cache.dir=a", "data.cache_dir=b"), "data.cache_dir: is the earlier name of cache.dir, which is 'a'; give one of them"),
    cli("ignored-root", ("run.dir=a", "run.root=b"), "run.root: has no effect with run.dir"),
    cli("ignored-key-of-variant", ("fusion=concat", "fusion.num_layers=2"), "fusion.num_layers: unknown key; keys here: type"),
    Bad("cross-attention-alone", words=("fusion=cross-attention",), lines=("fusion.type: 'cross-attention' needs a second input that the first can attend to (conf/fusion/cross-attention.yaml:2)",)),
    cli("cross-attention-query", ("fusion=cross-attention", "fusion.query=revew"), "fusion.query: 'revew' is not an input (there are: 'review'); did you mean 'review'?"),
    cli("pass-through-names", ("fusion=pass-through", "fusion.inputs={star: review, stars: text}"), "fusion.inputs: 'star' is not an output (there are: 'sentiment', 'stars'); did you mean 'stars'?", "fusion.inputs.stars: 'text' is not an input (there are: 'review')"),
    cli("ignored-stochastic-depth", ("fusion=gated-experts", "fusion.stochastic_depth=0.2"), "fusion.stochastic_depth: has no effect without blocks (fusion.num_layers)"),
    cli("mixing-keys", ("trainer.mixing.type=mixupp", "trainer.mixing.alpha=0"), "trainer.mixing.type: 'mixupp' is not one of 'mixup', 'cutmix', 'cutmix-block', 'cutmix-uniform', 'manifold'; did you mean 'mixup'?", "trainer.mixing.alpha: 0 is not a number > 0 and <= 1000"),
    cli("mixing-inputs", ("trainer.mixing.inputs={revew: mixup}", "trainer.mixing.layers=[fusion]"), "trainer.mixing.layers: has no effect with type 'mixup' (manifold has it)", "trainer.mixing.inputs: 'revew' is not an input (there are: 'review'); did you mean 'review'?"),
    cli("mixing-layers", ("trainer.mixing.type=manifold", "trainer.mixing.layers=[inputs.revew.body]"), "trainer.mixing.layers: 'inputs.revew.body' is in none of inputs.review, fusion"),
    cli("sample-name", "data.name=review", "data.name: 'review' is not a shipped sample ('reviews', 'stories', 'translations', 'long_documents', 'reviews_test'); did you mean 'reviews'?"),
    cli("no-such-file", ("data=table", "data.train=cnf"), "data.train: no such file or folder: 'cnf'; did you mean 'conf'?"),
    cli("early-stopping", ("data.validation=null", "trainer.early_stopping.patience=2"), "trainer.early_stopping: cannot work as there are no validation rows (data.validation: null)"),
]

WORDS = [
    cli("group", "data=reviews_sampl", "data: no option 'reviews_sampl' (there are imdb, long_documents, multi30k, reviews_sample, sst2, stories_sample, table, translations_sample; looked in conf/data); did you mean 'reviews_sample'?"),
    cli("no-equals", "seed", "seed: not of the form key=value"),
    cli("sweep-without-m", "seed=1,2", "seed: 1,2 describes several jobs; add -m to run them all, or write [1,2] for a list, 'seed=\"1,2\"' for a text"),
    cli("delete", "~data.nam", "~data.nam: there is no such key to delete"),
    cli("target", "hydra.callbacks.x._target_=os.system", "hydra.callbacks.x._target_=os.system: code cannot be named in a config; choose by 'type' or 'model_type'"),
    cli("target-inside", "note={a: [{_target_: os.system}]}", "note={a: [{_target_: os.system}]}: code cannot be named in a config; choose by 'type' or 'model_type'"),
    cli("hydra-key", "hydra.jobb=3", "hydra.jobb: unknown key"),
    cli("secret", "note=${oc.env:AWS_SECRET}", "note: $AWS_SECRET may not be read from a config; allowed are EIR_SEQ_*, HOME, USER, TMPDIR, SCRATCH"),
    cli("interpolation", "note=${nowhere.at.all}", "note: Interpolation key 'nowhere.at.all' not found"),
    cli("interpolation-circle", "note=${note}", "note: Recursive interpolation detected"),
    cli("all-at-once", ("seed=x", "data.bach_size=1", f"{OPTIONS}.hiden_size=8", "trainer.monitor.output=sta"),
        "seed: 'x' is not an integer >= 0 and < 2**63",
        "data.bach_size: unknown key; did you mean 'batch_size'?",
        f"{OPTIONS}.hiden_size: not an option of 'longformer'; did you mean 'hidden_size'?",
        "trainer.monitor.output: 'sta' is not an output (there are: 'sentiment', 'stars'); did you mean 'stars'?"),
]

FILES = [
    text("yaml-twice", with_line(MINE, "batch_size: 8", "  batch_size: 9"), "data.batch_size: set twice, on lines 26 and 27 (conf/experiment/mine.yaml:27)"),
    text("yaml-broken", with_line(MINE, "batch_size: 8", " nope: 1"), "conf/experiment/mine.yaml:27:2: expected <block end>, but found '<block mapping start>'; keys of one mapping have the same indentation"),
    text("yaml-tab", with_line(MINE, "data:", "\tseed: 1"), "conf/experiment/mine.yaml:26:1: a tab character; indent with spaces"),
    text("yaml-list", "- 1\n- 2\n", "conf/experiment/mine.yaml:1: a config is a mapping of keys, not a list"),
    text("yaml-scalar", "longformer\n", "conf/experiment/mine.yaml:1: a config is a mapping of keys, not a single value"),
    text("yaml-empty", "# @package _global_\n", "inputs: is missing", "outputs: is missing", "data.train: is missing; name the file or folder to train on"),
    text("yaml-latin-1", MINE.replace("My own", "Mein für").encode("latin-1"), "conf/experiment/mine.yaml:2: byte 0xfc at offset 28 is not UTF-8; save the file as UTF-8"),
    text("yaml-tag", with_line(MINE, "max_epochs: 1", "note: !!python/object/apply:os.system [ls]"), "note: the YAML tag !!python/object/apply:os.system is not allowed; write plain values (conf/experiment/mine.yaml:29)"),
    text("yaml-target", with_line(MINE, "max_epochs: 1", "  monitor: {_target_: os.system}"), "trainer.monitor._target_: code cannot be named in a config; choose by 'type' or 'model_type' (conf/experiment/mine.yaml:29)"),
    text("yaml-hydra-target", with_line(MINE, "max_epochs: 1", "hydra: {callbacks: {x: {_target_: os.system}}}"), "hydra.callbacks.x._target_: code cannot be named in a config; choose by 'type' or 'model_type' (conf/experiment/mine.yaml:29)"),
    text("yaml-bomb", "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)), "conf/experiment/mine.yaml:1: more than 100000 values (aliases are expanded)"),
    text("yaml-group", MINE.replace("/data: reviews_sample", "/data: reviews_sampl"), "data: no option 'reviews_sampl' (there are imdb, long_documents, multi30k, reviews_sample, sst2, stories_sample, table, translations_sample; looked in conf/data); did you mean 'reviews_sample'? (conf/experiment/mine.yaml:4)"),
    text("yaml-unset", MINE.replace("batch_size: 8", "batch_size: ???"), "data.batch_size: must be given (it is ??? where it is declared) (conf/experiment/mine.yaml:26)"),
    text("yaml-mapping-null", MINE.replace("column: text\n", "column: text\n    tokenizer: {type: word, min_freq: none}\n").replace("    tokenizer: {type: word, min_freq: 2}\n", ""), "inputs.review.tokenizer.min_freq: 'none' is not an integer >= 1 (conf/experiment/mine.yaml:10)"),
    text("yaml-no-outputs", MINE[: MINE.index("outputs:")] + MINE[MINE.index("data:\n") :], "outputs: is missing"),
]

DATA = "imdb, long_documents, multi30k, reviews_sample, sst2, stories_sample, table, translations_sample"
EXPERIMENTS = ", ".join(sorted([*(path.stem for path in (conf_dir() / "experiment").glob("*.yaml")), "mine"]))
KEYS = "name, note, seed, data, inputs, fusion, outputs, broker, adversaries, optimizer, scheduler, trainer, callbacks, tracker, start_from, run, cache"
PACKAGE = "# @package _global_\n"


def instead(id: str, old: str, new: str, *lines: str) -> Bad:
    """A fault of a YAML file in which a part is written otherwise."""
    assert old in MINE
    return Bad(id, lines, yaml=MINE.replace(old, new))


HERE = "conf/experiment/mine.yaml"
CHOICES = [
    *[cli(f"null-{group}", f"{group}=null", f"{group}: null is no option (there are {options}); ~{group} leaves the group out") for group, options in (
        ("data", DATA), ("fusion", "attention, auto, concat, cross-attention, gated-experts, identity, linear, mlp-residual, mlp-residual-sum, pass-through"), ("optimizer", "adabelief, adadelta, adafactor, adagrad, adam, adamax, adamw, asgd, muon, nadam, radam, rmsprop, sgd"), ("scheduler", "constant, cosine, linear, one-cycle, plateau"), ("tracker", "csv, mlflow, tensorboard, wandb"), ("trainer", "cpu, default, gpu, try"))],
    cli("no-options", "scheduler=[]", "scheduler: [] is no option (there are constant, cosine, linear, one-cycle, plateau); ~scheduler leaves the group out"),
    cli("several-options", "scheduler=[linear,cosine]", "scheduler: 'linear' and 'cosine' exclude each other; name one, or run a job with each: -m scheduler=linear,cosine"),
    cli("one-of-several", "scheduler=[linear,cosin]", "scheduler: no option 'cosin' (there are constant, cosine, linear, one-cycle, plateau; looked in conf/scheduler); did you mean 'cosine'?"),
    cli("null-in-a-sweep", ("-m", "scheduler=linear,null"), "scheduler: null is no option (there are constant, cosine, linear, one-cycle, plateau); ~scheduler leaves the group out"),
    cli("number", "scheduler=3", "scheduler: no option '3' (there are constant, cosine, linear, one-cycle, plateau; looked in conf/scheduler)"),
    cli("truth-value", "scheduler=true", "scheduler: no option 'true' (there are constant, cosine, linear, one-cycle, plateau; looked in conf/scheduler)"),
    cli("empty", "scheduler=", "scheduler: no option '' (there are constant, cosine, linear, one-cycle, plateau; looked in conf/scheduler)"),
    cli("group-twice", ("scheduler=linear", "scheduler=cosine"), "scheduler: is chosen twice (linear and cosine); name one"),
    cli("experiment-twice", "experiment=mine", "experiment: is chosen twice (mine and mine); name one"),
    cli("leave-out-what-is-not-there", "~fusio", "~fusio: there is no such key to delete"),
    cli("another-package", "scheduler@foo=linear", "scheduler@foo=linear: Could not override 'scheduler@foo'. Did you mean to override scheduler? To append to your default list use +scheduler@foo=linear"),
    cli("hydra-null", "hydra=null", "hydra=null: Config group override must be a string or a list. Got NoneType"),
    instead("no-package", PACKAGE, "", f"experiment: the first line must be '# @package _global_', or the keys land under 'experiment' ({HERE}:1)"),
    instead("package-below", PACKAGE, f"# Mine.\n{PACKAGE}", f"experiment: '# @package _global_' must be the first line; it is line 2 ({HERE}:2)"),
    instead("package-misspelt", "_global_", "global", f"experiment: the first line must be '# @package _global_', or the keys land under 'global' ({HERE}:1)"),
    instead("package-broken", "_global_", "_global_ x", f"{HERE}:1: Too many components in '@package _global_ x'; write '# @package _global_'"),
    text("nothing-in-it", "", f"experiment: the first line must be '# @package _global_', or the keys land under 'experiment' ({HERE}:1)"),
    instead("defaults-no-slash", "override /data", "override data", f"defaults: 'override data' is looked for below experiment; write '/data' with a slash ({HERE}:4)"),
    instead("defaults-no-override", "override /data", "/data", f"defaults: config.yaml chooses data already; write 'override /data: reviews_sample' ({HERE}:4)"),
    instead("defaults-mapping", "  - override /data: reviews_sample\n  - override /fusion: mlp-residual\n", "  override /data: reviews_sample\n", f"defaults: is a list: each entry on its own line, as in '- override /data: table' ({HERE}:3)"),
    instead("defaults-group", "override /data", "override /dta", f"defaults: no group 'dta' (there are data, fusion, optimizer, scheduler, tracker, trainer); did you mean 'data'? ({HERE}:4)"),
    instead("defaults-twice", "override /fusion: mlp-residual", "override /data: table", f"defaults: overrides data twice; leave one ({HERE}:5)"),
    instead("defaults-number", "override /fusion: mlp-residual", "3", f"defaults: 3 is no entry of it; write for example '- override /data: table' ({HERE}:3)"),
    instead("defaults-file-below", "override /fusion: mlp-residual", "base", f"defaults: 'base' must be above 'override /data'; overrides come last ({HERE}:3)"),
    instead("defaults-several", "/fusion: mlp-residual", "/fusion: [concat, attention]", f"defaults: 'concat' and 'attention' exclude each other; name one ({HERE}:5)"),
    instead("list-for-mapping", "  max_epochs: 1", "- max_epochs: 1", f"trainer: a list is not a mapping ({HERE}:27)"),
]

QUOTING = [
    *[cli(f"quotes-{value}", f"note={value}", f"note: {value!r} needs its own quotes; write 'note=\"{value}\"'") for value in ("reviews (1).csv", "é", "a;b", "a#b", "~/a", "a!b", "a&b", "a=b", "f1(pos)", "it)")],
    cli("quotes-inside", "trainer.monitor={output: sentiment, metric: f1(pos)}", "trainer.monitor: '{output: sentiment, metric: f1(pos)}' cannot be written so; write 'trainer.monitor={output: sentiment, metric: \"f1(pos)\"}'"),
    cli("json-keys", 'outputs.sentiment.class_weights={"0": 1, "1": 2.5}', "outputs.sentiment.class_weights: '{\"0\": 1, \"1\": 2.5}' cannot be written so; write outputs.sentiment.class_weights.0=1 outputs.sentiment.class_weights.1=2.5"),
    cli("cut-by-the-shell", ("scheduler={type:", "linear}"), "scheduler: the shell cuts it at the spaces; write 'scheduler={type: linear}'"),
    cli("spaces-around", "seed =3", "seed =3: 'seed ' is not a key such as trainer.max_epochs; did you mean seed=3?"),
    cli("brackets-in-key", "inputs[review].max_length=8", "inputs[review].max_length=8: 'inputs[review].max_length' is not a key such as trainer.max_epochs; did you mean inputs.review.max_length=8?"),
    cli("colon-for-equals", "seed:3", "seed:3: not of the form key=value; did you mean seed=3?"),
    cli("slash-for-dot", "trainer/max_epochs=3", "trainer/max_epochs: unknown key; write trainer: {max_epochs: ...}, or trainer.max_epochs=... on the command line"),
    cli("no-key", "=3", "=3: not of the form key=value; it has no key"),
    cli("open-interpolation", "note=${x", "note: '${x': '${' begins an interpolation such as ${data.batch_size}, which this is not"),
    cli("sweep-of-a-function", "seed=range(1,3)", "seed: range(1,3) describes several jobs; add -m to run them all"),
    cli("flag", "--seed=3", "--seed=3: not a flag; did you mean seed=3?"),
    cli("flag-abbreviated", "--experiment=mine", "--experiment=mine: not a flag; did you mean experiment=mine?"),
    cli("file-of-experiment", "conf/experiment/mine.yaml", "conf/experiment/mine.yaml: not of the form key=value; did you mean experiment=mine?"),
    cli("sweep-of-variants", "scheduler=linear,cosine", "scheduler: linear,cosine describes several jobs; add -m to run them all"),
]

NAMES = [
    *[cli(f"metric-{name}", ("trainer.monitor.output=sentiment", f"trainer.monitor.metric={name}"), f"trainer.monitor.metric: {name!r} is not a metric of a classification output ('loss', 'accuracy', 'balanced_accuracy', 'f1', 'mcc', 'auroc', 'average_precision'); did you mean {meant!r}?") for name, meant in (("acc", "accuracy"), ("val_acc", "accuracy"), ("AUC", "auroc"), ("f1_macro", "f1"), ("eval_loss", "loss"))],
    cli("metric-mse", ("trainer.monitor.output=stars", "trainer.monitor.metric=mse"), "trainer.monitor.metric: 'mse' is not a metric of a regression output ('loss', 'mae', 'rmse', 'mape', 'r2', 'explained_variance', 'pearson', 'spearman'); did you mean 'rmse'?"),
    *[cli(f"model-{name}", f"{MODEL}.model_type={name}", f"{MODEL}.model_type: {name!r} is not in the catalogue; did you mean {meant!r}?") for name, meant in (("BERT", "bert"), ("BertForMaskedLM", "bert"), ("deberta_v2", "deberta-v2"))],
    *[cli(f"model-{name}", f"{MODEL}.model_type={name}", f"{MODEL}.model_type: {name!r} is not in the catalogue; if it is a checkpoint, load it with pretrained_model: true; {meant!r} is the architecture, to train from scratch") for name, meant in (("bert-base-uncased", "bert"), ("t5-small", "t5"), ("roberta-large", "roberta"))],
    cli("pooler", (f"{MODEL}.model_type=electra", f"{MODEL}.pool=pooler", f"~{MODEL}.model_init_config"), f"{MODEL}.pool: 'electra' has no pooler; use avg, max, first or last"),
    cli("tensors", "+inputs.review.tensors.visual_embeds.column=boxes", "inputs.review.tensors.visual_embeds: 'longformer' takes no such tensor; it takes global_attention_mask"),
    cli("output-null", "outputs.stars=null", "outputs.stars: null is not a mapping; ~outputs.stars takes it away"),
    cli("output-text", "outputs.stars=regression", "outputs.stars: 'regression' is not a mapping; write outputs.stars.type=regression, in YAML stars: {type: regression}"),
    cli("column-of-two-outputs", "outputs.stars.column=sentiment", "outputs.stars.column: column 'sentiment' is already read as a class (outputs.sentiment.column)"),
    instead("keys-numbers", "column: sentiment}", "column: sentiment, class_weights: {0: 1.0, 1: 3.0}}",
        *(f"outputs.sentiment.class_weights[{n}]: the key {n} is a number in YAML; put it in quotes (on the command line: +outputs.sentiment.class_weights.{n}=VALUE) ({HERE}:21)" for n in (0, 1))),
    instead("keys-truth-values", "column: sentiment}", "column: sentiment, class_weights: {yes: 1.0, off: 3.0}}",
        *(f"outputs.sentiment.class_weights.{key}: the key {key} is a truth value in YAML (so are yes, no, on and off); put it in quotes ({HERE}:21)" for key in ("true", "false"))),
    instead("keys-null", "column: sentiment}", "column: sentiment, class_weights: {null: 1.0}}", f"outputs.sentiment.class_weights.null: the key null is no value in YAML; put it in quotes ({HERE}:21)"),
    instead("keys-of-rename", "batch_size: 8", "rename: {1: stars}", f"data.rename[1]: the key 1 is a number in YAML; put it in quotes (on the command line: +data.rename.1=VALUE) ({HERE}:26)"),
    cli("keys-of-command-line", "outputs.sentiment.class_weights={0: 1.0}", "outputs.sentiment.class_weights[0]: the key 0 is a number in YAML; put it in quotes (on the command line: +outputs.sentiment.class_weights.0=VALUE)"),
    cli("output-number", ("outputs.2.type=regression", "outputs.2.column=n"), "outputs[2]: is not a name of letters, digits, '-' and '_' that begins with a letter"),
    instead("keys-with-dots", "  max_epochs: 1", "  max_epochs: 1\ndata.limit: 4", f"data.limit: unknown key; write data: {{limit: ...}}, or data.limit=... on the command line ({HERE}:29)"),
]

BROKEN = [
    instead("no-space", "batch_size: 8", "batch_size:8\n  limit: 5", f"{HERE}:27:8: mapping values are not allowed here; a text with ': ' goes in quotes, and keys of one mapping have the same indentation"),
    instead("equals-sign", "  max_epochs: 1", "  max_epochs: 1\nseed=3", f"{HERE}:30:1: could not find expected ':'; write 'key: value' with a space after the colon, not 'seed=3'"),
    instead("backslash", "  batch_size: 8", '  train: "C:\\data.csv"', f"{HERE}:26:14: found unknown escape character 'd'; a backslash needs single quotes ('C:\\data\\x.csv')"),
    instead("two-documents", "trainer:", "---\ntrainer:", f"{HERE}:27:1: a second document begins here ('---'); a config file holds one"),
    instead("open-bracket", "column: sentiment}", "column: sentiment", f"{HERE}:22:8: expected ',' or '}}', but got ':'; a bracket is not closed, or a comma is missing"),
    instead("sign", "batch_size: 8", "id: @id", f"{HERE}:26:7: found character '@' that cannot start any token; put the value in quotes"),
    instead("non-breaking-space", "    column: text", "    column: text\n    \u00a0max_characters: 8", "inputs.review.\\xa0max_characters: unknown key; did you mean 'max_characters'? (conf/experiment/mine.yaml:10)"),
    instead("merge", "  batch_size: 8", "  <<: 3", f"data.<<: merges a mapping, or a list of them ({HERE}:26)"),
    instead("env", "  max_epochs: 1", "  max_epochs: 1\nnote: ${env:HOME}", f"note: ${{env:NAME}} is not known; write ${{oc.env:NAME}} ({HERE}:29)"),
    instead("env-missing", "  max_epochs: 1", "  max_epochs: 1\nnote: ${oc.env:EIR_SEQ_NOWHERE}", f"note: the environment variable EIR_SEQ_NOWHERE is not set ({HERE}:29)"),
    instead("open-brace", "  max_epochs: 1", "  max_epochs: 1\nnote: ${nope", f"note: no viable alternative at input '${{nope': not an interpolation such as ${{data.batch_size}} ({HERE}:29)"),
    text("utf-16", MINE.encode("utf-16"), f"{HERE}:1: byte 0xff at offset 0 is not UTF-8 (UTF-16); save the file as UTF-8"),
]

BAD = [*MISSPELT, *VALUES, *COMBINATIONS, *WORDS, *FILES, *CHOICES, *QUOTING, *NAMES, *BROKEN]
