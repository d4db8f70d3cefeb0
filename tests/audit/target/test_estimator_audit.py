"""Tiers 1 and 2 of scikit-learn's estimators: clones that are fitted, and kept as answers alone."""

import numpy as np
import pandas
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bitleak
from bitleak.core.errors import ConfigError, ExecutionError
from bitleak.train.given_estimator import seeded

RECORDS, MEMBERS = 1200, 400


@pytest.fixture(scope="module")
def table():
    """Rows with noisy labels of text, which a forest learns by heart."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(RECORDS, 5))
    names = np.array(["no", "yes"])
    labels = names[(rows[:, 0] + rng.normal(0, 1, RECORDS) > 0).astype(int)]
    members = np.sort(rng.permutation(RECORDS)[:MEMBERS])
    return pandas.DataFrame(rows, columns=list("abcde")), labels, members


@pytest.fixture(scope="module")
def forest(table):
    rows, labels, members = table
    return RandomForestClassifier(20, random_state=3).fit(rows.iloc[members], labels[members])


def audited(table, model, tier, **options):
    rows, labels, members = table
    given = {"fpr": (0.05,), "references": 3, "shadows": 6, **options}
    return bitleak.audit_model(model, rows, labels, members, tier=tier, **given)


def test_tiers_1_and_2_find_what_tier_0_finds_and_more_by_references(table, forest):
    tiers = {tier: audited(table, forest, tier) for tier in (0, 1, 2)}
    loud = [tiers[tier].figure("auc", attack="threshold").value for tier in (0, 1, 2)]
    # Tier 1 evaluates half of the others, tiers 0 and 2 the same three quarters.
    assert loud[0] == loud[2] == pytest.approx(loud[1], abs=0.03)
    assert loud[0] > 0.7
    offline = tiers[1].figure("auc", attack="rmia-offline-a0.3").value
    online = tiers[2].figure("auc", attack="rmia-online").value
    assert loud[0] + 0.03 < offline < online - 0.03
    assert "rmia-online" not in set(tiers[1].table.attack)
    assert tiers[1].summary().splitlines()[2].startswith("Next, tier 2: online attacks.")
    assert tiers[2].summary().startswith("Tier 2: one target among shadow models")
    assert "<table>" in tiers[2]._repr_html_()


def test_an_audit_goes_on_and_stores_no_estimator(table, forest, tmp_path):
    fits = []

    class Counted(RandomForestClassifier):
        def fit(self, rows, labels):
            fits.append(len(rows))
            if len(fits) == 3:
                raise MemoryError("no room")
            return super().fit(rows, labels)

    def make():
        return Counted(n_estimators=10)

    options = {"factory": make, "store": tmp_path / "store"}
    with pytest.raises(ExecutionError, match="tier 1: MemoryError: no room"):
        audited(table, forest, 1, **options)
    first = audited(table, forest, 1, **options)
    # Two of three were done; each is trained on 4/5 of the 400 records of the training part.
    assert fits == [320] * 4
    assert audited(table, forest, 1, **options).table.equals(first.table)
    assert fits == [320] * 4
    files = {path.suffix for path in (tmp_path / "store").rglob("*") if path.is_file()}
    assert files <= {".npy", ".json", ".safetensors", ".log", ""}


def test_seeds_of_parts_are_set_and_given_ones_are_kept():
    pipeline = make_pipeline(StandardScaler(), RandomForestClassifier())
    assert seeded(pipeline, 7).get_params()["randomforestclassifier__random_state"] == 7
    assert seeded(RandomForestClassifier(random_state=1), 7).random_state == 1


def test_a_linear_model_of_many_records_leaks_little(table):
    rows, labels, members = table
    model = LogisticRegression().fit(rows.iloc[members], labels[members])
    audit = audited((rows, labels, members), model, 2)
    assert audit.figure("auc", attack="lira-online-shrunk").value == pytest.approx(0.5, abs=0.08)
    assert audit.figure("auc", attack="lira-online-shrunk", variant="control").low < 0.5


def test_what_cannot_be_cloned_needs_a_factory(table, forest):
    class Wrapped:
        classes_ = forest.classes_

        def predict_proba(self, rows):
            return forest.predict_proba(rows)

    with pytest.raises(ConfigError, match=r"factory: Wrapped cannot be cloned .* pass factory="):
        audited(table, Wrapped(), 1)
    with pytest.raises(ConfigError, match="estimator with fit and predict_proba, got dict"):
        audited(table, forest, 1, factory=dict)
    with pytest.raises(ConfigError, match="shadows: expected an even number from 4"):
        audited(table, forest, 2, shadows=5)
    with pytest.raises(ConfigError, match="imitated: only networks can be distilled"):
        audited(table, forest, 1, imitated=True)


def test_rows_that_an_estimator_tells_apart_are_other_work():
    from sklearn.linear_model import LogisticRegression

    from bitleak.train.given_estimator import EstimatorWork, hold_estimator

    def digest(rows):
        return hold_estimator(EstimatorWork(LogisticRegression, rows, np.zeros(3, int), [0]))

    plain = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    missing, close = plain.copy(), plain.copy()
    missing[0, 0], close[1, 1] = np.nan, 3 + 1e-12
    frame = pandas.DataFrame({"kind": ["a", "b", "c"], "size": [1, 2, 3]})
    renamed = frame.assign(kind=["x", "y", "z"])
    others = [missing, close, plain.astype(np.float32), frame, renamed]
    others += [frame.rename(columns={"size": "width"}), frame[["size", "kind"]]]
    digests = [digest(rows) for rows in (plain, *others)]
    assert len(set(digests)) == len(digests)
    assert digest(plain.copy()) == digests[0]
    assert digest(frame.copy()) == digests[4]
