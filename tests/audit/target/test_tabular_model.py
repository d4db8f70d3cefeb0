"""Classifiers of scikit-learn, and others with `predict_proba`, on rows of a table."""

from types import SimpleNamespace

import numpy as np
import pandas
import pytest
from scipy.sparse import csr_array
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import bitleak
from bitleak.audit.target.record_lists import Known, known_records, parted
from bitleak.audit.target.tabular_model import StoredProbabilities, tabular_records
from bitleak.core.probability_resolution import resolution_of
from bitleak.core.types import SIGNALS

RECORDS = 400


class Answering:
    """A model with fixed answers: row r of the data holds the number r."""

    def __init__(self, probabilities, classes=None):
        self.probabilities = np.asarray(probabilities)
        if classes is not None:
            self.classes_ = np.array(classes)

    def predict_proba(self, rows):
        return self.probabilities[np.asarray(rows)[:, 0].astype(int)]


@pytest.fixture(scope="module")
def world():
    """Rows, text labels that depend on them with noise, members, and a forest of 50 trees that was fitted on these."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(RECORDS, 5))
    labels = np.where(rows[:, 0] + rng.normal(size=RECORDS) > 0, "yes", "no")
    members = np.sort(rng.permutation(RECORDS)[: RECORDS // 2])
    forest = RandomForestClassifier(50, random_state=0).fit(rows[members], labels[members])
    return SimpleNamespace(rows=rows, labels=labels, members=members, forest=forest)


@pytest.fixture(scope="module")
def audit(world):
    return bitleak.audit_model(world.forest, world.rows, world.labels, world.members, fpr=(0.1,))


def auc_of_confidences(world, model, rows, trees):
    """AUC of the probability of the true class, over the records that an audit evaluates."""
    pool = parted(known_records(world.members, None, records=RECORDS), 0).pool
    truth = (world.labels[pool] == "yes").astype(int)
    right = model.predict_proba(rows)[pool, truth]
    right = np.round(trees * right) / trees  # the mean over trees, each of them sure
    return roc_auc_score(np.isin(pool, world.members), right)


def test_the_auc_of_a_forest_is_that_of_its_confidences(world, audit):
    expected = auc_of_confidences(world, world.forest, world.rows, 50)
    assert audit.figure("auc", attack="threshold").value == pytest.approx(expected, abs=1e-12)
    assert expected > 0.8


def test_the_summary_says_how_coarse_the_answers_are_and_how_many_are_tied(world, audit):
    known = world.forest.predict_proba(world.rows)
    zeros = 100 * (known == 0).mean()
    place = (world.labels == "yes").astype(int)
    _, counts = np.unique(np.round(50 * known[np.arange(RECORDS), place]), return_counts=True)
    sentence = next(note for note in audit.facts.notes if "RandomForestClassifier answers" in note)
    assert "fp32: RandomForestClassifier answers in steps of 0.02." in sentence
    assert (
        f"{zeros:.1f} % of the probabilities are exactly 0, which is read as half a step"
        in sentence
    )
    assert (
        f"{counts[counts > 1].sum()} of 400 records share their confidence with another" in sentence
    )
    assert f"the largest group has {counts.max()}:" in sentence
    assert "It fits 10 clones: audit_model(..., tier=1)" in audit.summary()
    assert "epochs" not in audit.summary()
    assert "A shift of one column by 0.3 deviations would be found" in audit.summary()


@pytest.mark.usefixtures("without_figures")
def test_the_report_of_a_forest_is_written(audit, tmp_path):
    audit.report(tmp_path / "forest")
    page = (tmp_path / "forest" / "report.html").read_text()
    assert "RandomForestClassifier answers in steps of 0.02" in page


def test_a_pipeline_on_a_data_frame_with_text_is_asked_with_the_frame(world):
    """Columns of text, which the pipeline turns into those that the forest of the arrays has."""
    frame = pandas.DataFrame(world.rows, columns=list("abcde"))
    frame["town"] = np.where(world.rows[:, 1] > 0, "Ulm", "Bonn")
    encode = make_column_transformer((OneHotEncoder(), ["town"]), remainder="passthrough")
    model = make_pipeline(encode, RandomForestClassifier(20, random_state=0))
    model.fit(frame.iloc[world.members], world.labels[world.members])
    audit = bitleak.audit_model(
        model, frame, pandas.Series(world.labels), world.members, fpr=(0.1,)
    )
    expected = auc_of_confidences(world, model, frame, 20)
    assert audit.figure("auc", attack="threshold").value == pytest.approx(expected, abs=1e-12)
    assert "Pipeline answers in steps of 0.05" in audit.summary()
    table = tabular_records(model, frame, world.labels)
    assert table.numbers[:, 5].tolist() == (frame["town"] == "Ulm").tolist()


def test_8_bit_rows_are_given_as_they_are():
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 256, (200, 4), np.uint8)
    labels = rng.integers(0, 3, 200)
    forest = RandomForestClassifier(30, random_state=0).fit(rows[:100], labels[:100])
    audit = bitleak.audit_model(forest, rows, labels, np.arange(100), fpr=(0.1,))
    assert "The target is right on 100.0 % of 100 of its members." in audit.facts.notes


def test_a_0_is_read_as_half_a_step_and_a_1_likewise():
    values = np.array(
        [[0.0, 1.0], [0.25, 0.75], [0.5, 0.5]] + [[k / 100, 1 - k / 100] for k in range(100)]
    )
    values = np.round(values, 2)
    stored = StoredProbabilities("Model", values, resolution_of([values]))
    assert stored.resolution.step == 0.01
    signals = stored.signals(np.array([0, 1, 0] + [0] * 100), np.arange(3))
    confidence = signals[:, SIGNALS.index("logit_scaled")]
    assert np.allclose(confidence, [np.log(0.005 / 1), np.log(0.75 / 0.25), 0])
    assert signals[:, SIGNALS.index("correct")].tolist() == [0, 1, 1]


def test_releases_whose_classes_are_in_another_order_answer_about_the_same_classes():
    rng = np.random.default_rng(2)
    values = rng.dirichlet([1, 1, 1], 60)
    rows = np.arange(60.0)[:, None]
    table = tabular_records(
        Answering(values, ["a", "b", "c"]), rows, rng.choice(["a", "b", "c"], 60)
    )
    known = Known(np.arange(30), np.arange(30, 50))
    models = {
        "one": Answering(values, ["a", "b", "c"]),
        "two": Answering(values[:, ::-1], ["c", "b", "a"]),
    }
    asked, sentences = table.with_answers(models, known, lambda done, stage: None)
    for name in models:
        assert np.array_equal(asked[name].values[:50], values[:50])
        assert np.isnan(asked[name].values[50:]).all()
    assert sentences[0].startswith("one: Answering answers as float64.")


ROWS, LABELS, HALF = np.arange(40.0)[:, None], np.arange(40) % 2, np.full((40, 2), 0.5)
WRONG = {
    "network: expected a torch.nn.Module or a classifier with predict_proba, got Ridge": {"network": Ridge()},
    "rows must be an array or a data frame, got a sparse matrix": {"images": csr_array(ROWS)},
    "labels: expected one per record .40., got shape": {"labels": LABELS[:3]},
    "record 1 has the label 1, which is none of the model's classes: 0, 2": {"network": Answering(HALF, [0, 2])},
    "fp32: Answering.predict_proba must answer 40 rows with shape .40, 2., got .40, 3.": {
        "network": Answering(np.full((40, 3), 1 / 3))
    },
    "must answer with probabilities that sum to 1, got .* for 40 of 40 rows": {"network": Answering(2 * HALF)},
    "answers with 2 arrays, one per output": {
        "network": SimpleNamespace(predict_proba=lambda rows: [HALF, HALF], classes_=[0, 1])
    },
    "small: Answering knows the classes 0, 3, and the audited model 0, 1": {
        "releases": {"small": Answering(HALF, [0, 3])}
    },
    "factory: Answering cannot be cloned": {"tier": 1},
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_a_mistake_is_refused_before_the_attacks(message):
    arguments = {
        "network": Answering(HALF), "images": ROWS, "labels": LABELS, "members": np.arange(20), **WRONG[message],
    }  # fmt: skip
    with pytest.raises(bitleak.BitleakError, match=message):
        bitleak.audit_model(**arguments)
