"""Which files a config is made of, what overrides do to it, and where each key came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eir_seq.config.compose import Composed, compose_experiment
from eir_seq.config.folders import conf_dir, options_of
from eir_seq.config.fusion import ConcatFusionConfig, MlpResidualFusionConfig
from eir_seq.config.optimization import AdafactorConfig, SgdConfig
from eir_seq.config.schema import ExperimentConfig
from eir_seq.config.tokenizers import PublishedTokenizerConfig
from eir_seq.config.trackers import WandbTrackerConfig
from eir_seq.errors import Fault, UserError
from tests.config.project import MINE, make_project, with_line


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EIR_SEQ_CONF", raising=False)
    return tmp_path


def compose(*words: str) -> ExperimentConfig:
    return compose_experiment(words).config


def test_with_and_without_a_plus() -> None:
    assert compose("experiment=mine") == compose("+experiment=mine")
    plain = compose("experiment=mine", "trainer.max_steps=3", "data=imdb", "optimizer=sgd")
    assert plain == compose("+experiment=mine", "+trainer.max_steps=3", "+data=imdb", "+optimizer=sgd")
    assert plain.trainer.max_steps == 3
    assert plain.data.rename == {"label": "sentiment"}


@pytest.mark.parametrize("name", ["imdb_longformer", "imdb_bert_tiny", "imdb_combined"])
def test_shipped_experiments_are_valid_as_they_stand_and_on_other_data(name: str, project: Path) -> None:
    assert compose(f"experiment={name}").data.source == "sample"
    assert compose(f"experiment={name}", "data=imdb").data.source == "hub"
    (project / "rows.csv").write_text("text,sentiment\n")
    assert compose(f"experiment={name}", "data=table", "data.train=rows.csv").data.name is None


def test_every_option_of_every_group_can_be_chosen(project: Path) -> None:
    (project / "rows.csv").write_text("text,sentiment\n")
    for group in ("fusion", "optimizer", "scheduler", "trainer", "tracker"):
        for option in options_of(group):
            several = option == "cross-attention"
            config = compose(f"experiment=imdb_{'combined' if several else 'longformer'}", f"{group}={option}")
            if group in ("fusion", "optimizer", "scheduler", "tracker"):
                assert getattr(config, group).type == option
    assert compose("experiment=sst2_from_table", "data.train=rows.csv").data.train == "rows.csv"
    assert compose("experiment=sst2_from_table", "data=sst2").data.validation == "validation"


def test_a_fraction_of_the_training_rows_as_validation_and_test(project: Path) -> None:
    (project / "rows.csv").write_text("text,sentiment\n")
    words = ("experiment=imdb_longformer", "data.validation=rows.csv", "data.split_seed=3")
    data = compose(*words, "data.test=0.15").data
    assert (data.validation, data.test, data.split_seed) == ("rows.csv", 0.15, 3)
    with pytest.raises(UserError, match=r"data\.split_seed: has no effect when data\.validation names a file"):
        compose(*words)


def test_the_name_is_that_of_the_experiment(project: Path) -> None:
    make_project(project, MINE, "deep/one")
    assert compose("experiment=mine").name == "mine"
    assert compose("experiment=deep/one").name == "deep-one"
    assert compose("experiment=mine", "name=other").name == "other"


def test_the_users_files_are_found_first(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = (conf_dir() / "experiment" / "imdb_longformer.yaml").read_text() + "\nseed: 77\n"
    make_project(project, own, "imdb_longformer")
    assert compose("experiment=imdb_longformer").seed == 77

    other = project / "elsewhere" / "experiment"
    other.mkdir(parents=True)
    (other / "imdb_longformer.yaml").write_text(own.replace("77", "78"))
    monkeypatch.setenv("EIR_SEQ_CONF", str(project / "elsewhere"))
    assert compose("experiment=imdb_longformer").seed == 78
    assert compose("experiment=mine").name == "mine"

    monkeypatch.setenv("EIR_SEQ_CONF", str(project / "nowhere"))
    with pytest.raises(UserError, match=r"EIR_SEQ_CONF: .* is not a folder"):
        compose("experiment=mine")


def test_the_users_groups_stand_beside_the_shipped_ones(project: Path) -> None:
    (project / "conf" / "optimizer").mkdir()
    (project / "conf" / "optimizer" / "slow.yaml").write_text("type: sgd\nlr: 0.001\nmomentum: 0.5\n")
    optimizer = compose("experiment=mine", "optimizer=slow").optimizer
    assert isinstance(optimizer, SgdConfig)
    assert optimizer.momentum == 0.5
    assert isinstance(compose("experiment=mine", "optimizer=adafactor").optimizer, AdafactorConfig)


def test_a_variant_from_the_command_line_replaces_the_files(project: Path) -> None:
    make_project(project, with_line(MINE, "max_epochs: 1", "fusion: {num_layers: 3, hidden_size: 32}"))
    fusion = compose("experiment=mine").fusion
    assert isinstance(fusion, MlpResidualFusionConfig)
    assert fusion.num_layers == 3
    assert compose("experiment=mine", "fusion=concat").fusion == ConcatFusionConfig()
    assert compose("experiment=mine", "fusion.type=concat").fusion == ConcatFusionConfig()
    gated = compose("experiment=mine", "fusion=gated-experts").fusion
    assert gated.model_dump()["hidden_size"] == 32


def test_a_choice_that_a_file_overrules_is_refused(project: Path) -> None:
    make_project(project, with_line(MINE, "max_epochs: 1", "fusion: {type: mlp-residual}"))
    with pytest.raises(UserError) as caught:
        compose("experiment=mine", "fusion=concat")
    message = "has no effect, as fusion.type is set to 'mlp-residual'; write fusion.type=concat"
    assert caught.value.faults == (Fault("fusion=concat", message, "conf/experiment/mine.yaml:29"),)
    assert compose("experiment=mine", "fusion=concat", "fusion.type=concat").fusion == ConcatFusionConfig()


def test_files_leave_keys_open_for_the_command_line(project: Path) -> None:
    make_project(project, MINE.replace("batch_size: 8", "batch_size: ???"))
    assert compose("experiment=mine", "data.batch_size=4").data.batch_size == 4


def test_only_harmless_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EIR_SEQ_DATA", "sand")
    assert compose("experiment=mine", "note=${oc.env:EIR_SEQ_DATA}").note == "sand"
    assert compose("experiment=mine", "note=${oc.env:EIR_SEQ_OTHER,stone}").note == "stone"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    with pytest.raises(UserError) as caught:
        compose("experiment=mine", "note=${oc.env:AWS_SECRET_ACCESS_KEY}")
    assert "canary" not in str(caught.value)


def test_each_key_knows_where_it_came_from() -> None:
    composed = compose_experiment(["experiment=mine", "tracker=wandb", "optimizer={lr: 0.5}", "seed=1"])
    assert isinstance(composed.config.tracker, WandbTrackerConfig)
    source = composed.origin.source_of
    assert source("inputs.review.max_length") == "conf/experiment/mine.yaml:10"
    assert source("inputs.review.pair_column") == "conf/experiment/mine.yaml:7"
    assert source("seed") == "command line"
    assert source("optimizer.lr") == "command line"
    assert str(source("tracker.type")).endswith("conf/tracker/wandb.yaml:2")
    assert source("trainer.max_epochs") == "conf/experiment/mine.yaml:28"
    assert source("nothing") is None


def test_faults_of_data_name_the_file_that_named_the_column() -> None:
    composed: Composed = compose_experiment(["experiment=mine"])
    error = UserError(Fault("outputs.stars.column", "no column 'stars'"), Fault("rows.csv row 3", "empty"))
    assert [fault.source for fault in composed.with_sources(error).faults] == ["conf/experiment/mine.yaml:24", None]


def test_a_pretrained_folder_is_checked_by_its_config(project: Path) -> None:
    folder = project / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert", "max_position_embeddings": 64, "hidden_size": 36}')
    model = "inputs.review.model"
    words = ["experiment=mine", f"{model}.pretrained_model=true", f"{model}.model_type=tiny"]
    with pytest.raises(UserError) as caught:
        compose(*words, f"{model}.model_init_config.attention_window=8")
    assert [fault.message for fault in caught.value.faults] == [
        "not an option of 'bert' (it is one of led, longformer)",
    ]
    dropped = words  # options that the file gives describe another model, and are left out
    with pytest.raises(UserError) as caught:
        compose(*dropped)
    assert [fault.place for fault in caught.value.faults] == ["inputs.review.max_length"]
    assert "more than the 64 positions of 'bert'" in str(caught.value)
    assert compose(*dropped, "inputs.review.max_length=64").inputs["review"].model.pretrained_model

    (folder / "config.json").write_text('{"model_type": "bert", "hidden_size": 37}')
    with pytest.raises(UserError, match=r"model_type: hidden_size of its config\.json: 37 is not divisible by"):
        compose(*dropped)
    turned = {"rope_theta": 500.0, "rope_type": "yarn", "factor": 4.0}
    longer = {"model_type": "qwen2", "max_position_embeddings": 64, "rope_parameters": turned}
    (folder / "config.json").write_text(json.dumps(longer))
    assert compose(*dropped, "inputs.review.max_length=256").inputs["review"].max_length == 256
    with pytest.raises(UserError, match="257 tokens are more than the 256 positions of 'qwen2'"):
        compose(*dropped, "inputs.review.max_length=257")
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match="checkpoint of null, which is not in the catalogue"):
        compose(*dropped)


def test_nothing_of_hydra_stays_behind(project: Path) -> None:
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    before = HydraConfig.instance().cfg  # another test may have left one
    compose("experiment=mine")
    assert not GlobalHydra.instance().is_initialized()
    assert HydraConfig.instance().cfg is before
    assert {path.name for path in project.iterdir()} == {"conf"}


def test_another_model_on_the_command_line_leaves_foreign_options_of_the_file() -> None:
    key = "inputs.review.model"
    composed = compose_experiment(["experiment=imdb_longformer", f"{key}.model_type=roberta"])
    options = composed.config.inputs["review"].model.model_init_config
    assert options["hidden_size"] == 64
    assert "attention_window" not in options
    assert composed.notes == (
        "inputs.review.model: roberta has no use for attention_window of the experiment's file; left out",
    )
    unchanged = compose_experiment(["experiment=imdb_longformer"])
    assert "attention_window" in unchanged.config.inputs["review"].model.model_init_config
    assert unchanged.notes == ()


def test_a_type_beyond_the_catalogue_on_the_command_line_leaves_all_options_of_the_file() -> None:
    key = "inputs.review.model"
    words = [f"{key}.model_type=auto", f"+{key}.model_init_config.model_type=qwen3"]
    composed = compose_experiment(["experiment=imdb_longformer", *words])
    assert composed.config.inputs["review"].model.model_init_config == {"model_type": "qwen3"}
    assert len(composed.notes) == 1


def test_an_option_of_the_command_line_is_never_left_out() -> None:
    words = ["inputs.review.model.model_type=roberta", "inputs.review.model.model_init_config.attention_window=8"]
    with pytest.raises(UserError) as caught:
        compose_experiment(["experiment=imdb_longformer", *words])
    assert [fault.place for fault in caught.value.faults] == ["inputs.review.model.model_init_config.attention_window"]


def test_published_weights_on_the_command_line_leave_all_options_of_the_file() -> None:
    words = ["inputs.review.model.model_type=some/folder", "inputs.review.model.pretrained_model=true"]
    composed = compose_experiment(["experiment=imdb_longformer", *words])
    assert composed.config.inputs["review"].model.model_init_config == {}
    assert composed.config.inputs["review"].tokenizer is None
    assert len(composed.notes) == 2
    with pytest.raises(UserError, match="'byte' gives other ids than the pretrained model was trained with"):
        compose_experiment(["experiment=imdb_longformer", *words, "inputs.review.tokenizer={type: byte}"])


def test_options_of_a_tokenizer_on_the_command_line_are_those_of_the_pretrained_model() -> None:
    words = ["inputs.source.model.model_type=some/folder", "inputs.source.model.pretrained_model=true"]
    options = "+inputs.source.tokenizer.options={src_lang: en, tgt_lang: de}"
    composed = compose_experiment(["experiment=translate_m2m100", *words, options])
    assert composed.config.inputs["source"].tokenizer == PublishedTokenizerConfig(
        options={"src_lang": "en", "tgt_lang": "de"}
    )
    assert any("tokenizer: the pretrained model brings its own tokenizer" in note for note in composed.notes)
    with pytest.raises(UserError, match=r"tokenizer.vocab_size: unknown key"):
        compose("experiment=translate_m2m100", *words, "inputs.source.tokenizer.vocab_size=500")


def test_a_tokenizer_without_a_type_is_the_published_one_of_a_pretrained_model() -> None:
    words = ["inputs.review.model.model_type=some/folder", "+inputs.review.tokenizer.options={do_lower_case: false}"]
    config = compose("experiment=imdb_bert_tiny", *words)
    assert config.inputs["review"].tokenizer == PublishedTokenizerConfig(options={"do_lower_case": False})
