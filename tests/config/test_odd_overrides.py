"""Whatever stands on a command line composes, or is one line per fault; a suggested form means what was written."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from eir_seq.config.compose import compose_experiment, compose_in_hydra, hydra_ready
from eir_seq.config.folders import conf_dir
from eir_seq.config.overrides import normalized, parse_overrides
from eir_seq.errors import UserError
from eir_seq.outputs.classification.config import ClassificationOutputConfig
from tests.config.project import make_project

KEYS = (
    "data", "experiment", "fusion", "optimizer", "scheduler", "tracker", "trainer", "run", "seed", "note", "inputs",
    "inputs.review.model", "outputs", "outputs.stars", "trainer.monitor", "data.rename", "name", "defaults", "hydra",
    "hydra/launcher", "hydra.job.name", "hydra.searchpath", "scheduler@x", "data@_global_", "a b", "é", "",
)  # fmt: skip
PARTS = (
    "null", "true", "1", "1e999", "nan", "x", "linear", "cosine", "mine", "1,2", "[", "]", "{", "}", ",", ":", "'", '"',
    "\\", "$", "${", "}", "=", "(", ")", "choice(", "range(", "glob(", " ", "\n", "\t", "\0", "é", "~", "@", "/", "..",
    "*", "%", "oc.env:HOME", "now:", "hydra:", "_self_", "???", "_target_",
)  # fmt: skip
VALUES = st.one_of(st.lists(st.sampled_from(PARTS), max_size=4).map("".join), st.text(max_size=6))
WORDS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(("", "", "", "+", "++", "~")),
    st.sampled_from(KEYS),
    st.sampled_from(("=", "=", "=", "=", "", ":", "@x=")),
    VALUES,
)
FEW = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EIR_SEQ_CONF", raising=False)


@pytest.fixture
def hydra(project: None) -> Iterator[None]:
    with hydra_ready():
        yield


def faults_of(words: list[str]) -> list[str]:
    try:
        compose_in_hydra(normalized(["experiment=mine", *words]))
    except UserError as error:
        return [str(fault) for fault in error.faults]
    return []


@FEW
@given(st.lists(WORDS, min_size=1, max_size=2))
@example(["scheduler=null"])
@example(["hydra=null"])
@example(["hydra.searchpath=3"])
@example(["defaults=null"])
@example(["note=\ud800"])
@example(["note=\n"])
def test_odd_words_compose_or_are_told_in_one_line_each(hydra: None, words: list[str]) -> None:
    for line in faults_of(words):
        assert len(line.splitlines()) == 1
        assert "Error while" not in line
        assert "Error raised" not in line


@settings(FEW, max_examples=100)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=("C", "Z")), min_size=1))
@example("reviews (1).csv")
@example('it\'s "so"')
@example("a\\")
@example("f1(pos)")
@example("1,")
@example(",a,,b")
@example("[unclosed")
def test_a_text_is_taken_or_its_quoted_form_is_told(value: str) -> None:
    assume("${" not in value and "???" not in value)
    try:
        parse_overrides([f"note={value}"])
    except UserError as error:
        (fault,) = error.faults
        told = re.search(r"(?:; |, or for a text )write (.*)$", fault.message)
        if told is None:  # a call of one of Hydra's own functions, a list
            assert value.startswith(("[", "{")) or "(" in value
            return
        (form,) = shlex.split(told[1])
        (override,) = parse_overrides([form])
        assert override.value() == value


def test_the_quoted_form_of_a_file_name_composes() -> None:
    Path("reviews (1).csv").write_text("text,sentiment\n")
    with pytest.raises(UserError) as caught:
        compose_experiment(["experiment=mine", "data=table", "data.train=reviews (1).csv"])
    form = shlex.split(str(caught.value.faults[0].message).rpartition("; write ")[2])
    config = compose_experiment(["experiment=mine", "data=table", *form]).config
    assert config.data.train == "reviews (1).csv"


def test_a_key_that_is_a_number_composes_as_it_is_told() -> None:
    with pytest.raises(UserError) as caught:
        compose_experiment(["experiment=mine", "outputs.sentiment.class_weights={0: 1.0}"])
    told = re.search(r"on the command line: (\S+)=VALUE", str(caught.value))
    assert told is not None
    output = compose_experiment(["experiment=mine", f"{told[1]}=1.0"]).config.outputs["sentiment"]
    assert isinstance(output, ClassificationOutputConfig)
    assert output.class_weights == {"0": 1.0}


@pytest.mark.parametrize("path", ["conf/experiment/other.yml", "conf/other.yaml", "experiment/other.yaml"])
def test_an_experiment_in_the_wrong_place_is_found(path: str) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text("# @package _global_\n")
    with pytest.raises(UserError) as caught:
        compose_experiment(["experiment=other"])
    assert f"; looked in conf/experiment, {conf_dir() / 'experiment'})" in str(caught.value)
    assert f"; {path} must be conf/experiment/other.yaml" in str(caught.value)


def test_where_there_is_no_folder_conf_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"and .*elsewhere has no folder conf"):
        compose_experiment(["experiment=mine"])
