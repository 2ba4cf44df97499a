"""Micro-batches give the optimizer step of one batch of all their rows, whatever the losses are divided by."""

from __future__ import annotations

import copy
import itertools
import json
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import MixedPrecision

from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.validation import validate_experiment
from eir_seq.data.dataset import Batch, BatchKey
from eir_seq.training import fit as fit_module
from eir_seq.training.assemble import Parts, assemble
from eir_seq.training.console import Console
from eir_seq.training.evaluation import evaluate, evaluation_mode
from eir_seq.training.fit import fit
from eir_seq.training.loop import RunLoop
from eir_seq.training.losses import loss_counts, mean_loss
from eir_seq.training.metrics_file import read_metrics
from eir_seq.training.module import TrainingModule
from eir_seq.training.monitor import monitor_of
from eir_seq.training.signals import SignalGuard
from tests.training.harness import Watcher

BERT: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
BERT |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
BART = {"d_model": 8, "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
BART |= {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads", "ffn_dim")}
GPT = {"n_embd": 8, "n_layer": 1, "n_head": 2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
T5 = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
SIDE: dict[str, Any] = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
}
SIDE |= {"intermediate_size": 8, "query_pre_attn_scalar": 4, "attention_dropout": 0.0}
GEMMA = {"encoder": SIDE, "decoder": SIDE, "dropout_rate": 0.0, "attention_dropout": 0.0}

MOOD = {"type": "classification", "column": "mood", "dropout": 0.0, "class_weights": {"good": 1.0, "bad": 3.0}}
SCORE = {"type": "regression", "column": "score", "dropout": 0.0}
TAGS = {"type": "token_classification", "column": "tags", "dropout": 0.0}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "classification": ("bert", BERT, {"y": MOOD}),
    "regression": ("bert", BERT, {"y": SCORE}),
    "token_classification": ("bert", BERT, {"y": TAGS}),
    "causal_lm": ("gpt2", GPT, {"y": {"type": "causal_lm", "documents": "separate"}}),
    "packed": ("gpt2", GPT, {"y": {"type": "causal_lm"}}),
    "seq2seq_lm": ("bart", BART, {"y": {"type": "seq2seq_lm", "column": "copy", "label_smoothing": 0.1}}),
    "begun": ("t5gemma", GEMMA, {"y": {"type": "seq2seq_lm", "column": "copy"}}),
    "masked_lm": ("bert", BERT, {"y": {"type": "masked_lm"}}),
    "replaced_token_detection": (
        "electra",
        {**BERT, "embedding_size": 8},
        {"y": {"type": "replaced_token_detection", "detection_weight": 5.0}},
    ),
    "span_corruption": ("t5", T5, {"y": {"type": "span_corruption"}}),
    "denoising": ("bart", BART, {"y": {"type": "denoising"}}),
    "several": (
        "bert",
        BERT,
        {"a": {**TAGS, "loss_weight": 0.5}, "b": {**MOOD, "loss_weight": 2.0}, "c": {**SCORE, "loss_weight": 0.1}},
    ),
    "language and class": (
        "gpt2",
        GPT,
        {"a": {"type": "causal_lm", "loss_weight": 0.5}, "b": {**MOOD, "loss_weight": 2.0}},
    ),
}
MOE = {**{f"num_{what}": 2 for what in ("attention_heads", "key_value_heads", "local_experts")}, "hidden_size": 8}
MOE |= {"num_hidden_layers": 1, "intermediate_size": 8, "output_router_logits": True, "head_dim": 4}
SWITCH = {**T5, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "num_experts": 2, "expert_capacity": 64}
SWITCH |= {"router_jitter_noise": 0.0, "router_ignore_padding_tokens": True, "router_z_loss_coef": 0.0}
SWITCH |= {"router_aux_loss_coef": 1.0, "num_decoder_layers": 1}
CASES |= {
    "experts": ("mixtral", {**MOE, "router_aux_loss_coef": 0.0}, {"y": {"type": "causal_lm", "documents": "separate"}}),
    "balanced by texts": ("switch_transformers", SWITCH, {"y": {"type": "seq2seq_lm", "column": "copy"}}),
}
INEXACT: dict[str, tuple[str, dict[str, Any], dict[str, Any], float]] = {
    "mixtral": ("mixtral", MOE, {"y": {"type": "causal_lm", "documents": "separate"}}, 0.01),
    "z loss": (
        "switch_transformers",
        {**SWITCH, "router_z_loss_coef": 0.001, "router_aux_loss_coef": 0.001},
        {"y": {"type": "seq2seq_lm", "column": "copy"}},
        0.01,
    ),
}
"""Losses of routers that are means over what a micro-batch holds: how far a step may be off (see docs/decisions)."""
CASES_AND_INEXACT = {**CASES, **{f"{name}, inexact": case[:3] for name, case in INEXACT.items()}}
ROWS = range(8)


pytestmark = pytest.mark.usefixtures("one_thread_throughout")


@pytest.fixture(scope="module")
def parts_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What an experiment of a case is made of; rows of 1 to 22 words."""
    folder = tmp_path_factory.mktemp("rows")
    draw = random.Random(0)
    with (folder / "train.jsonl").open("w") as file:
        for row in range(12):
            words = draw.choices(["aa", "bb", "cc", "dd", "ee"], k=1 + 2 * row if row < 8 else 30)
            text = " ".join(words)
            tags = ["X" if word < "c" else "O" for word in words]
            values = {"id": f"r{row}", "text": text, "words": words, "copy": text[: 3 * row + 2], "tags": tags}
            file.write(json.dumps({**values, "mood": ["good", "bad"][row % 2], "score": draw.random()}) + "\n")

    @cache
    def built(case: str) -> tuple[ExperimentConfig, Parts]:
        model_type, options, outputs = CASES_AND_INEXACT[case]
        tags = any(output["type"] == "token_classification" for output in outputs.values())
        split = {"column": "words", "is_split_into_words": True} if tags else {"column": "text"}
        tokenizer = {"type": "word", "min_freq": 1}
        model = {"model_type": model_type, "model_init_config": options}
        config = validate_experiment(
            {
                "data": {"train": str(folder / "train.jsonl"), "id": "id", "batch_size": 8, "validation": None},
                "inputs": {
                    "x": {"type": "sequence", **split, "max_length": 24, "tokenizer": tokenizer, "model": model}
                },
                "fusion": {"type": "mlp-residual", "hidden_size": 8, "dropout": 0.0, "stochastic_depth": 0.0},
                "outputs": outputs,
                "optimizer": {"type": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0},
                "scheduler": {"type": "constant", "warmup": 0},
                "trainer": {"max_epochs": 1, "accelerator": "cpu", "gradient_clip": None},
            }
        )
        with Console() as console:
            return config, assemble(config, console)

    return built


class Data:
    """Training batches of these sizes, one behind the other."""

    def __init__(self, parts: Parts, sizes: Sequence[int]) -> None:
        self.parts, self.sizes = parts, sizes
        self.batches_per_epoch = len(sizes)

    def set_position(self, epoch: int, batches_done: int, window: Any = ()) -> None:
        assert (epoch, batches_done) == (0, 0)

    def costliest_batches(self, *position: Any, **beyond: Any) -> tuple[None, None]:
        return None, None

    def train_dataloader(self) -> list[Batch]:
        rows = iter(ROWS)
        keys = [tuple(next(rows) for _ in range(size)) for size in self.sizes]
        return [self.parts.data.encoded["train"][BatchKey(key, 0)] for key in keys]

    def val_dataloader(self) -> Any:
        raise AssertionError


def trained(config: ExperimentConfig, parts: Parts, sizes: Sequence[int], folder: Path, **trainer: Any) -> RunLoop:
    """What is left of an epoch of such micro-batches."""
    config = config.model_copy(update={"trainer": config.trainer.model_copy(update=trainer)})
    folder.mkdir()
    with SignalGuard(lambda _: None) as signals:
        return fit(
            config,
            copy.deepcopy(parts.network),
            parts.outputs,
            Data(parts, sizes),
            run_dir=folder,
            device=torch.device("cpu"),
            monitor=monitor_of(config),
            progress=Watcher(),
            signals=signals,
            validate=False,
        )


def moved(loop: RunLoop, parts: Parts) -> torch.Tensor:
    """How far all weights went, as one vector."""
    start = parts.network.state_dict()
    steps = [value - start[name] for name, value in loop.module.network.state_dict().items()]
    return torch.cat([step.double().flatten() for step in steps])


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert expected.norm() > 1e-3, "something was learnt"
    return float((found - expected).norm() / expected.norm())


def training_losses(folder: Path) -> dict[tuple[str, str], float]:
    lines = read_metrics(folder / "metrics.csv")
    return {(m.output, m.metric): m.value for m in lines if m.split == "train"}


@pytest.mark.parametrize("case", CASES)
def test_micro_batches_make_the_step_of_one_batch(case: str, parts_of: Any, tmp_path: Path) -> None:
    config, parts = parts_of(case)
    whole = trained(config, parts, [8], tmp_path / "whole")
    expected = moved(whole, parts)
    for name, sizes in {"4x2": [4, 4], "2x4": [2] * 4, "1x8": [1] * 8, "3x3": [3, 3, 2]}.items():
        loop = trained(config, parts, sizes, tmp_path / name, accumulate=len(sizes))
        assert loop.state.step == 1
        # Sums over the same rows in another order, in single precision: 1e-6 of the step, more where weights are
        # large beside it. Means of means are off by 0.1 to 1.
        assert relative_error(moved(loop, parts), expected) < 1e-4, name
        losses = training_losses(tmp_path / "whole")
        assert training_losses(tmp_path / name) == pytest.approx(losses, rel=1e-5), name


@pytest.mark.parametrize("case", INEXACT)
def test_losses_of_routers_are_near(case: str, parts_of: Any, tmp_path: Path) -> None:
    config, parts = parts_of(f"{case}, inexact")
    expected = moved(trained(config, parts, [8], tmp_path / "whole"), parts)
    for sizes in ([4, 4], [1] * 8):
        loop = trained(config, parts, sizes, tmp_path / str(len(sizes)), accumulate=len(sizes))
        assert relative_error(moved(loop, parts), expected) < INEXACT[case][3]


def test_the_last_group_of_an_epoch_may_be_incomplete(parts_of: Any, tmp_path: Path) -> None:
    config, parts = parts_of("several")
    for clip in (None, 0.05):
        folder = tmp_path / str(clip)
        folder.mkdir()
        two = trained(config, parts, [5, 3], folder / "two", gradient_clip=clip)
        small = trained(config, parts, [1] * 8, folder / "small", gradient_clip=clip, accumulate=5)
        assert two.state.step == small.state.step == 2
        assert relative_error(moved(small, parts), moved(two, parts)) < 1e-4


def test_micro_batches_in_bfloat16(parts_of: Any, tmp_path: Path) -> None:
    config, parts = parts_of("causal_lm")
    whole = trained(config, parts, [8], tmp_path / "whole", precision="bf16-mixed")
    small = trained(config, parts, [2] * 4, tmp_path / "small", precision="bf16-mixed", accumulate=4)
    # Each product of matrices is rounded to 8 bits, in other shapes in another order.
    assert relative_error(moved(small, parts), moved(whole, parts)) < 0.02


@pytest.mark.parametrize("case", CASES)
def test_training_divides_by_what_an_evaluation_counts(case: str, parts_of: Any) -> None:
    """The counts that are known before the forward pass are those of the tokens that heads score."""
    _, parts = parts_of(case)
    batch = parts.data.encoded["train"][BatchKey(tuple(ROWS))]
    measured = evaluate(parts.network, parts.outputs, [batch], device=torch.device("cpu")).values
    with torch.no_grad(), evaluation_mode(parts.network):
        raw = parts.network(batch["inputs"])
    counts = loss_counts(parts.network, parts.outputs, batch)
    for name, output in parts.outputs.items():
        loss = mean_loss(output.loss_terms(raw[name], batch["targets"][name]).sum(dim=0), counts[name])
        assert float(loss) == pytest.approx(measured[name, "loss"], rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_an_evaluation_does_not_depend_on_its_batches(case: str, parts_of: Any) -> None:
    _, parts = parts_of(case)
    train = parts.data.encoded["train"]
    found = []
    for size in (1, 3, 8):
        keys = [BatchKey(tuple(ROWS[i : i + size])) for i in range(0, 8, size)]
        batches = [train[key] for key in keys]
        found.append(evaluate(parts.network, parts.outputs, batches, device=torch.device("cpu")).values)
    assert found[0] == pytest.approx(found[2], rel=1e-5, abs=1e-6)
    assert found[1] == pytest.approx(found[2], rel=1e-5, abs=1e-6)


class TestUnderAGradientScaler:
    """16-mixed runs on GPUs only; its arithmetic is checked with the same scaler on the CPU, in float16, too."""

    HALF = 0.005
    """float16 rounds to 11 bits, and sums of such products are rounded in another order."""

    @pytest.fixture
    def scaled(self, parts_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        runs = itertools.count()

        def run(sizes: Sequence[int], *, scale: float = 2.0**12, case: str = "several", **trainer: Any) -> torch.Tensor:
            def on_cpu(*, precision: str, plugins: list[Any], **rest: Any) -> Trainer:
                assert precision == "16-mixed"
                scaler = torch.amp.GradScaler("cpu", init_scale=scale)
                return Trainer(plugins=[*plugins, MixedPrecision("16-mixed", "cpu", scaler)], **rest)

            monkeypatch.setattr(fit_module, "Trainer", on_cpu)
            given, made = parts_of(case)
            folder = tmp_path / str(next(runs))
            return moved(trained(given, made, sizes, folder, precision="16-mixed", **trainer), made)

        return run

    @pytest.mark.parametrize("case", ["several", "causal_lm", "seq2seq_lm"])
    def test_micro_batches(self, case: str, scaled: Any, parts_of: Any, tmp_path: Path) -> None:
        config, parts = parts_of(case)
        exact = moved(trained(config, parts, [8], tmp_path / "exact"), parts)
        whole = scaled([8], case=case)
        assert relative_error(whole, exact) < 2 * self.HALF
        for sizes in ([2] * 4, [1] * 8):
            assert relative_error(scaled(sizes, case=case, accumulate=len(sizes)), whole) < self.HALF

    def test_the_scale_does_not_matter(self, scaled: Any) -> None:
        steps = [scaled([2] * 4, scale=scale, accumulate=4) for scale in (2.0**10, 2.0**14)]
        assert relative_error(*steps) < self.HALF

    def test_gradients_are_clipped_without_their_scale(self, scaled: Any) -> None:
        for scale in (2.0**10, 2.0**14):
            assert float(scaled([4, 4], scale=scale, accumulate=2, gradient_clip=0.05).norm()) == pytest.approx(0.05)

    def test_a_scale_that_is_too_large_skips_the_step(self, scaled: Any) -> None:
        assert not scaled([4, 4], scale=2.0**100, accumulate=2).any()

    def test_one_overflow_skips_its_whole_group_and_nothing_else(
        self, scaled: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = TrainingModule.training_step

        def with_factors(factors: dict[int, float]) -> torch.Tensor:
            def step(self: TrainingModule, batch: Batch, batch_idx: int) -> torch.Tensor:
                return original(self, batch, batch_idx) * factors.get(batch_idx, 1.0)

            monkeypatch.setattr(TrainingModule, "training_step", step)
            found: torch.Tensor = scaled([2] * 4, accumulate=2)
            return found

        assert relative_error(with_factors({1: 1e30}), with_factors({0: 0.0, 1: 0.0})) < self.HALF
        assert relative_error(with_factors({1: 1e30}), with_factors({})) > 0.1
