"""The groups `debug` and `callbacks`."""

from __future__ import annotations

import pytest

from eir_seq.config.compose import compose_experiment
from eir_seq.config.folders import options_of
from eir_seq.config.schema import ExperimentConfig

EXPERIMENT = "experiment=imdb_longformer"


def composed(*words: str) -> ExperimentConfig:
    return compose_experiment(words).config


@pytest.mark.parametrize("option", options_of("debug"))
def test_debug_wins_over_the_experiment_and_loses_to_single_keys(option: str) -> None:
    plain = composed(EXPERIMENT).trainer
    first, last = composed(f"debug={option}", EXPERIMENT).trainer, composed(EXPERIMENT, f"debug={option}").trainer
    assert first == last != plain
    changed = composed("trainer.detect_anomaly=true", f"debug={option}", "trainer.max_epochs=7", EXPERIMENT).trainer
    assert (changed.max_epochs, changed.detect_anomaly) == (7, True)


def test_debug_options_do_what_they_are_called() -> None:
    assert composed(EXPERIMENT, "debug=fast_run").trainer.limit_train_batches == 3
    assert composed(EXPERIMENT, "debug=overfit").trainer.overfit_batches == 2
    assert composed(EXPERIMENT, "debug=profiler").trainer.profiler == "simple"
    assert composed(EXPERIMENT, "debug=anomaly").trainer.detect_anomaly


def test_callbacks_add_up() -> None:
    options = options_of("callbacks")
    assert options == ["device_stats", "learning_rate_monitor", "rich_progress"]
    chosen = composed(EXPERIMENT, f"callbacks=[{','.join(options)}]", "callbacks.rich_progress.refresh_rate=5")
    assert {name: callback.type for name, callback in chosen.callbacks.items()} == {name: name for name in options}
    assert chosen.callbacks["rich_progress"].options() == {"refresh_rate": 5, "leave": False}
