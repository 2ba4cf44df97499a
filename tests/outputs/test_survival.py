"""Survival: likelihoods, curves and metrics agree with other packages; predictions, calibration and bad input.

Numbers in capitals are what scikit-survival 0.28.0 (SKSURV), lifelines 0.30.3 (LIFELINES) and torchsurv 0.2.0
(TORCHSURV) give for `simulated`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eir_seq.config.validation import validate_experiment
from eir_seq.errors import UserError
from eir_seq.outputs import build_output, load_output
from eir_seq.outputs.reporting.sections import Predicted, WorstRow
from eir_seq.outputs.survival.config import SurvivalOutputConfig
from eir_seq.outputs.survival.curves import Steps, breslow, incidence, kaplan_meier
from eir_seq.outputs.survival.likelihood import cox_terms, hazard_terms, interval_hazards, intervals
from eir_seq.outputs.survival.report import section
from eir_seq.outputs.survival.scores import (
    area_under_curves,
    brier_scores,
    concordance,
    integrated,
    inverse_probability,
)

GRID = np.array([5.0, 10.0, 15.0, 20.0, 30.0])


def simulated(rows: int, seed: int) -> tuple[Any, Any, Any]:
    """Scores, times with many ties, and events."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=rows)
    time, censored = np.ceil(20 * draw.exponential(np.exp(-x))), np.ceil(draw.uniform(1, 60, size=rows))
    return np.round(x + draw.normal(size=rows) / 2, 1), np.minimum(time, censored), time <= censored


TRAIN_X, TRAIN_TIME, TRAIN_EVENT = simulated(200, 1)
X, TIME, EVENT = simulated(80, 2)
CENSORING = kaplan_meier(TRAIN_TIME, TRAIN_EVENT, censoring=True)
WEIGHT = inverse_probability(CENSORING, TIME)
EVENTS = EVENT.astype(int)
CAUSE = np.where(EVENT, 1 + np.arange(80) % 2, 0)
SKSURV: dict[str, Any] = {
    "c_index": 0.7357894736842105,
    "c_index_ipcw": 0.7395415329129391,
    "auc": [0.7518665362909425, 0.7905602506959145, 0.8338059965877337, 0.8322569928861655, 0.8734678972279993],
    "mean_auc": 0.8009639020090737,
    "brier": [0.1648919044096096, 0.17909811322506425, 0.15752271728312142, 0.14931623555177714, 0.12032562342370774],
    "integrated_brier": 0.1526733518928728,
    "breslow": [0.28176084464497975, 0.5705785105098158, 0.81823095500735, 1.0130340343659718, 1.4969606555328072],
    "incidence": [0.18966607639767263, 0.2587763389491354, 0.3411268655235649, 0.3802698727506245, 0.40099264128259726],
}
LIFELINES: dict[str, Any] = {
    "kaplan_meier": [
        0.7082974955729833,
        0.5846326375667644,
        0.4100695995215769,
        0.35228706504353646,
        0.24102173861802123,
    ],
    "coefficient": 0.7319592520827806,
    "log_likelihood": -600.1456554151785,
}
TORCHSURV: dict[str, Any] = {"c_index": 0.7357894778251648}


def test_concordance_is_that_of_scikit_survival() -> None:
    assert concordance(X, TIME, EVENT) == pytest.approx(SKSURV["c_index"], abs=1e-12)
    assert concordance(X, TIME, EVENT, WEIGHT) == pytest.approx(SKSURV["c_index_ipcw"], abs=1e-12)
    assert concordance(X, TIME, EVENT) == pytest.approx(TORCHSURV["c_index"], abs=1e-6)


def test_concordance_counts_pairs() -> None:
    pairs = [
        (X[i] > X[j]) + (X[i] == X[j]) / 2
        for i in np.flatnonzero(EVENT)
        for j in range(80)
        if TIME[j] > TIME[i] or (TIME[j] == TIME[i] and not EVENT[j])
    ]
    assert concordance(X, TIME, EVENT) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert concordance(X, TIME, np.zeros(80, bool)) is None


def test_auc_and_brier_score_are_those_of_scikit_survival() -> None:
    auc, mean = area_under_curves(np.repeat(X[:, None], 5, axis=1), TIME, EVENT, GRID, WEIGHT)
    assert auc == pytest.approx(SKSURV["auc"], abs=1e-12)
    assert mean == pytest.approx(SKSURV["mean_auc"], abs=1e-12)
    risk = -np.expm1(-np.exp(X)[:, None] * breslow(TRAIN_X, TRAIN_TIME, TRAIN_EVENT)(GRID))
    scores = brier_scores(risk, TIME, EVENT, EVENT, GRID, CENSORING)
    assert scores == pytest.approx(SKSURV["brier"], abs=1e-12)
    assert integrated(scores, GRID) == pytest.approx(SKSURV["integrated_brier"], abs=1e-12)


def test_curves_are_those_of_lifelines_and_scikit_survival() -> None:
    assert kaplan_meier(TIME, EVENT)(GRID) == pytest.approx(LIFELINES["kaplan_meier"], abs=1e-12)
    assert breslow(TRAIN_X, TRAIN_TIME, TRAIN_EVENT)(GRID) == pytest.approx(SKSURV["breslow"], abs=1e-12)
    assert incidence(TIME, CAUSE == 1, CAUSE > 0)(GRID) == pytest.approx(SKSURV["incidence"], abs=1e-12)
    assert incidence(TIME, EVENT, EVENT)(GRID) == pytest.approx(1 - kaplan_meier(TIME, EVENT)(GRID), abs=1e-12)


def test_partial_likelihood_treats_ties_as_lifelines_does() -> None:
    x, time, event = (torch.tensor(values) for values in (TRAIN_X, TRAIN_TIME, TRAIN_EVENT))
    terms = cox_terms(x * LIFELINES["coefficient"], time, event)
    assert float(terms.sum()) == pytest.approx(-LIFELINES["log_likelihood"], rel=1e-12)
    assert not terms[~event].any()
    # rows in another order, and log hazards that exp would overflow
    shuffled = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    again = cox_terms(x[shuffled] * LIFELINES["coefficient"] + 800, time[shuffled], event[shuffled])
    assert float(again.sum()) == pytest.approx(-LIFELINES["log_likelihood"], rel=1e-12)


def test_partial_likelihood_has_the_gradient_of_its_values() -> None:
    x = torch.tensor(X[:12], requires_grad=True)
    time, event = torch.tensor(np.ceil(TIME[:12] / 8)), torch.tensor(EVENT[:12])
    assert torch.autograd.gradcheck(lambda x: cox_terms(x, time, event).sum(), x)


def test_likelihood_of_intervals() -> None:
    edges = torch.tensor([1.0, 2.0, 4.0])
    time = torch.tensor([1.0, 1.5, 2.0, 3.0, 5.0, 5.0, 0.5])
    event = torch.tensor([True, True, False, False, False, True, False])
    survived, failed = intervals(time, event, edges)
    assert survived.sum(dim=1).tolist() == [0, 1, 2, 2.5, 3, 3, 0.5]
    assert failed.tolist() == [0, 1, -1, -1, -1, -1, -1]
    logits = torch.tensor([0.3, -1.0, 2.0])
    hazard = logits.sigmoid()
    two = (1 - hazard[:2]).prod()
    wanted = [hazard[0], (1 - hazard[0]) * hazard[1], two, two * (1 - hazard[2]).sqrt()]
    wanted += [(1 - hazard).prod(), (1 - hazard).prod(), (1 - hazard[0]).sqrt()]
    assert (-hazard_terms(logits.expand(7, 3), survived, failed)).exp() == pytest.approx(torch.stack(wanted))
    # the life table has the highest likelihood
    table = interval_hazards(time, event, edges).clamp(1e-6, 1 - 1e-6)
    losses = [float(hazard_terms(x.logit().expand(7, 3), survived, failed).sum()) for x in (table, table * 0.9, hazard)]
    assert losses[0] == min(losses)


def rows(events: Any = EVENTS, time: Any = TIME) -> dict[str, list[Any]]:
    return {"days": list(time), "died": [str(event) for event in events]}


def fitted(**options: Any) -> Any:
    return build_output("life", SurvivalOutputConfig(time="days", event="died", **options)).fit(
        rows(TRAIN_EVENT.astype(int), TRAIN_TIME)
    )


def test_a_cox_model_predicts_by_its_baseline(tmp_path: Path) -> None:
    output = fitted(times=[10, 20], horizon=20)
    raw, target = torch.tensor(TRAIN_X)[:, None].float(), output.targets(rows(TRAIN_EVENT.astype(int), TRAIN_TIME))
    assert output.decode(raw)["life"] == [""] * 200  # without a baseline there is no risk
    assert "integrated_brier" not in output.evaluate(raw, target)
    output = output.calibrated(raw, target)
    output.save(tmp_path / "life.json")
    output = load_output(tmp_path / "life.json")
    new = torch.tensor(X)[:, None].float()
    columns = output.decode(new)
    assert list(columns) == ["life", "life_survival(10)", "life_survival(20)", "life_log_hazard"]
    hazard = np.exp(np.float32(X).astype(float))[:, None] * breslow(TRAIN_X, TRAIN_TIME, TRAIN_EVENT)([10, 20])
    assert columns["life_survival(10)"] == pytest.approx(np.exp(-hazard[:, 0]), rel=1e-5)
    assert columns["life"] == pytest.approx(-np.expm1(-hazard[:, 1]), rel=1e-5)
    measured = output.evaluate(new, output.targets(rows()))
    assert measured["c_index"] == pytest.approx(SKSURV["c_index"], abs=1e-6)
    assert measured.keys() == {"loss", "c_index", "c_index_ipcw", "auc", "integrated_brier"}


def test_a_discrete_model_interpolates_its_hazards() -> None:
    output = fitted(model="discrete", bins=4, times=[10, 20, 58])
    [event] = output.events
    edges = np.array(event.edges)
    assert set(edges) <= set(TRAIN_TIME[TRAIN_EVENT])
    assert edges[-1] == TRAIN_TIME[TRAIN_EVENT].max()
    raw = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    survival = torch.cat([torch.ones(7, 1), (1 - raw.double().sigmoid()).cumprod(dim=1)], dim=1)
    at = np.searchsorted(edges, 10.0)
    start = 0.0 if at == 0 else edges[at - 1]
    share = (10 - start) / (edges[at] - start)
    wanted = survival[:, at] ** (1 - share) * survival[:, at + 1] ** share
    assert output.decode(raw)["life_survival(10)"] == pytest.approx(wanted.tolist())
    falling = np.array([output.decode(raw)[f"life_survival({time})"] for time in (10, 20, 58)])
    assert (np.diff(falling, axis=0) <= 0).all()
    # a head without weights predicts the life table, which is near the Kaplan-Meier curve
    head = output.build_head(3)
    predicted = output.decode(head(torch.zeros(1, 3)).detach())["life_survival(20)"][0]
    assert predicted == pytest.approx(event.survival([20.0])[0], abs=0.03)


def test_a_loss_is_a_mean_over_events_or_rows() -> None:
    raw, target = torch.tensor(X)[:, None].float(), fitted().targets(rows())
    output = fitted()
    count = output.loss_counts({}, target)
    assert float(count.sum()) == EVENT.sum()
    wanted = cox_terms(torch.tensor(X), torch.tensor(TIME), torch.tensor(EVENT)).sum() / EVENT.sum()
    assert output.evaluate(raw, target)["loss"] == pytest.approx(float(wanted), rel=1e-5)
    assert float(fitted(model="discrete").loss_counts({}, target).sum()) == 80


def competing(model: str) -> Any:
    config = SurvivalOutputConfig(time="days", event="died", causes=["heart", "other"], model=model, times=[10, 20])  # type: ignore[arg-type]
    names = np.array(["0", "heart", "other"])
    return build_output("life", config).fit({"days": list(TIME), "died": list(names[CAUSE])})


@pytest.mark.parametrize("model", ["cox", "discrete"])
def test_risks_of_competing_causes_are_incidences(model: str) -> None:
    output = competing(model)
    target = output.targets({"days": list(TIME), "died": list(np.array(["0", "heart", "other"])[CAUSE])})
    assert target.shape == (80, 2, 2)
    assert target[:, :, 1].sum(dim=0).tolist() == [(CAUSE == 1).sum(), (CAUSE == 2).sum()]
    raw = torch.zeros(80, output.output_size)
    if model == "discrete":
        raw += output.build_head(2)[1].bias.detach()
    output = output.calibrated(raw, target)
    columns = output.decode(raw)
    assert set(columns["life"]) <= {"heart", "other"}
    # Without covariates the cause-specific model gives the Aalen-Johansen curve, up to 1 - h in place of exp(-h), and
    # up to the intervals of a discrete one.
    for number, name in enumerate(("heart", "other"), start=1):
        curve = incidence(TIME, number == CAUSE, CAUSE > 0)
        for time in (10, 20):
            assert columns[f"life_risk({name}, {time})"][0] == pytest.approx(curve([time])[0], abs=0.03)
    together = sum(columns[f"life_risk({name}, 20)"][0] for name in ("heart", "other"))
    assert together == pytest.approx(1 - kaplan_meier(TIME, EVENT)([20])[0], abs=0.04)
    measured = output.evaluate(torch.randn(raw.shape, generator=torch.Generator().manual_seed(0)), target)
    of_causes = [measured[f"c_index({name})"] for name in ("heart", "other")]
    assert measured["c_index"] == pytest.approx(np.mean(of_causes))
    assert output.parts == ["heart", "other"]


def test_several_events_have_times_of_their_own() -> None:
    config = SurvivalOutputConfig(time=["days", "weeks"], event=["died", "ill"], model="discrete", bins=3)
    given = {**rows(), "weeks": list(np.ceil(TIME / 7)), "ill": ["true" if event else "False" for event in ~EVENT]}
    output = build_output("ends", config).fit(given)
    target = output.targets(given)
    assert target[:, 1, 0].tolist() == np.ceil(TIME / 7).tolist()
    assert target[:, 1, 1].tolist() == (~EVENT).astype(float).tolist()
    raw = torch.randn(80, output.output_size, generator=torch.Generator().manual_seed(0))
    measured = output.evaluate(raw, target)
    assert {"c_index(died)", "c_index(ill)", "integrated_brier(ill)"} <= measured.keys()
    assert float(output.loss_terms(raw, target).sum()) == pytest.approx(80 * measured["loss"], rel=1e-5)
    assert output.truth(given)["ends_event(ill)"] == target[:, 1, 1].long().tolist()


def test_metrics_without_events_are_left_out_with_the_reason() -> None:
    for output in (fitted(), fitted(model="discrete")):
        target = output.targets(rows(np.zeros(80, int)))
        raw = torch.zeros(80, output.output_size)
        measured, reasons = output.evaluate(raw, target), output.undefined(target)
        assert measured.keys() == ({"loss"} if output.config.model == "discrete" else set())
        assert reasons["c_index"] == "none of the 80 rows has an event"
        assert measured.keys() | reasons.keys() == {"loss", "c_index", "c_index_ipcw", "auc", "integrated_brier"}


@pytest.mark.parametrize(
    ("options", "days", "died", "place", "message"),
    [
        ({}, [1.0, -2.0], ["1", "0"], "time", "column 'days' is -2.0, not a time of 0 or more (row 1)"),
        ({}, [1.0, np.inf], ["1", "0"], "time", "column 'days' is inf, not a time of 0 or more (row 1)"),
        ({}, [1.0, 2.0], ["1", "2"], "event", "column 'died' is '2', not 1 or 0 (an event, or none) (row 1)"),
        ({}, [1.0, 2.0], ["0", "0"], "event", "column 'died' has no event in the 2 training rows"),
        ({}, [0.0, 2.0], ["1", "0"], "time", "all events of 'died' are at time 0"),
        ({"times": [1.0, 9.0]}, [1.0, 2.0], ["1", "0"], "times", "9 is beyond the last time of the training rows, 2"),
        (
            {"causes": ["heart", "lung"]},
            [1.0, 2.0],
            ["lung", "haert"],
            "event",
            "column 'died' is 'haert', not 0 (no event) or one of 'heart', 'lung'; did you mean 'heart'? (row 1)",
        ),
        (
            {"causes": ["heart", "lung"]},
            [1.0, 2.0],
            ["lung", "0"],
            "event",
            "'heart' in column 'died' has no event in the 2 training rows",
        ),
    ],
)
def test_bad_rows(options: Any, days: Any, died: Any, place: str, message: str) -> None:
    config = SurvivalOutputConfig(time="days", event="died", **options)
    with pytest.raises(UserError) as raised:
        build_output("life", config).fit({"days": days, "died": died})
    assert f"outputs.life.{place}: {message}" in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 5}, "outputs.life.bins: has no effect with model: cox"),
        ({"time": ["a", "b"]}, "outputs.life.time: has 2 columns, and event has 1; give one for each"),
        ({"event": ["d", "d"]}, "outputs.life.event: 'd' is there twice"),
        ({"event": "t"}, "outputs.life.event: column 't' holds the times already"),
        ({"causes": ["a", "0"]}, "outputs.life.causes: '0' means that there was no event"),
        ({"event": ["d", "e"], "causes": ["a", "b"]}, "outputs.life.causes: needs one column of events"),
        ({"times": [-1]}, "outputs.life.times"),
    ],
)
def test_bad_options(options: Any, message: str) -> None:
    config = experiment({"time": "t", "event": "d", **options})
    with pytest.raises(UserError) as raised:
        validate_experiment(config)
    assert message in str(raised.value)


def test_what_a_cox_model_cannot_do() -> None:
    config = experiment({"time": "t", "event": "d"})
    config["data"]["batch_size"] = 1
    config["trainer"] = {"monitor": {"metric": "integrated_brier"}}
    with pytest.raises(UserError) as raised:
        validate_experiment(config)
    assert "data.batch_size: is 1; outputs.life (model: cox) compares the rows of a batch" in str(raised.value)
    assert "'integrated_brier' of outputs.life is not measured during training" in str(raised.value)


def experiment(output: dict[str, Any], **data: Any) -> dict[str, Any]:
    model = {"model_type": "bert", "model_init_config": {"hidden_size": 16, "num_hidden_layers": 1}}
    model["model_init_config"] |= {"num_attention_heads": 2, "intermediate_size": 16}  # type: ignore[operator]
    return {
        "data": {"source": "table", "train": __file__, "batch_size": 32, **data},
        "inputs": {"text": {"type": "sequence", "column": "text", "model": model}},
        "outputs": {"life": {"type": "survival", **output}},
    }


@pytest.mark.parametrize("several", [False, True])
def test_report(several: bool) -> None:
    output = competing("cox") if several else fitted(times=[10, 20])
    given = {"days": list(TIME), "died": list(np.array(["0", "heart", "other"])[CAUSE])} if several else rows()
    target, raw = output.targets(given), torch.tensor(X)[:, None].float().expand(-1, output.output_size)
    output = output.calibrated(raw, target)
    columns = {name: [str(x) for x in xs] for name, xs in (output.truth(given) | output.decode(raw)).items()}
    worst = [WorstRow(id="3", error=0.9, inputs={})]
    ids = [str(number) for number in range(80)]
    found = section(Predicted("life", "test", ids, columns, output.describe(), {}, worst))
    assert found is not None
    assert len(found.plots) == (4 if several else 2)
    table = found.tables[0].rows
    assert [row[0] for row in table] == ["lowest risk", "group 2", "group 3", "highest risk"]
    assert sum(int(row[2]) for row in table) == ((CAUSE == 1).sum() if several else EVENT.sum())  # type: ignore[arg-type]
    assert [row[3] for row in table] == sorted(row[3] for row in table)  # type: ignore[type-var]
    assert found.worst[0].row.id == "3"
    for name in output.truth(given):
        columns[name] = [""] * 80
    assert section(Predicted("life", "test", ids, columns, output.describe(), {}, [])) is None


def test_steps() -> None:
    steps = Steps(start=1.0, times=[1.0, 2.0, 3.0], values=[0.9, 0.8, 0.7])
    assert steps.subsampled(2).times == [1.0, 3.0]
    assert steps([0.5, 1.0, 9.0]).tolist() == [1.0, 0.9, 0.7]
