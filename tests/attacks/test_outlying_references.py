import numpy as np
import pytest

from bitleak.attacks import outlying_doubt, outlying_references

MODELS, RECORDS = 12, 400


def confidences(seed=0):
    """Confidences of models of one training: difficulties of records, memory of members, noise."""
    rng = np.random.default_rng(seed)
    member = rng.random((MODELS, RECORDS)) < 0.5
    difficulty, memory = 3 * rng.standard_t(3, RECORDS), rng.exponential(3, RECORDS)
    answers = difficulty + memory * member + rng.normal(0, 1.5, (MODELS, RECORDS))
    return [row[:, None] for row in answers]


@pytest.mark.parametrize("seed", range(5))
def test_models_of_one_training_are_not_outlying(seed):
    assert outlying_references(confidences(seed)) == {}


CHANGES = {
    "larger confidences": lambda f: 30 * f,
    "a constant more": lambda f: f + 60,
    "right where the others are wrong": lambda f: -5 * f,
    "300 on a tenth of the records": lambda f: np.where(np.arange(len(f))[:, None] % 10, f, 300),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_answers_far_off_the_others_is_named_with_its_distance(change):
    answers = confidences()
    answers[7] = CHANGES[change](answers[7])
    found = outlying_references(answers)
    assert list(found) == [7]

    # by hand: root mean squares around the medians
    table = np.array(answers)[..., 0]
    off = table - np.array([sorted(column) for column in table.T]).T[[5, 6]].mean(axis=0)
    distances = [float(np.sqrt(np.mean(row**2))) for row in off]
    assert found[7] == pytest.approx(distances[7] / np.median(distances))
    assert found[7] > 5


def test_a_difference_that_all_models_have_is_none():
    """Records with margins of hundreds move all models alike, and a factor is a matter of scale."""
    answers = [np.where(np.arange(RECORDS)[:, None] % 50, f, 300 * f) for f in confidences()]
    assert outlying_references(answers) == {}
    assert outlying_references([100 * f for f in confidences()]) == {}


def test_too_few_models_and_models_that_all_agree_name_nobody():
    few = confidences()[:4]
    few[0] = 100 * few[0]
    assert outlying_references(few) == {}
    same = [np.ones((10, 1))] * 6
    assert outlying_references([*same, 2 * same[0]]) == {}
    assert outlying_references([]) == {}


def test_the_sentence_names_models_and_variant():
    assert outlying_doubt({}) == ()
    (one,) = outlying_doubt({"7": 104.4}, "rtn-2")
    assert one.startswith("Model 7 (104 times): confidences at rtn-2 that many times as far")
    assert "LiRA" in one
    (two,) = outlying_doubt({"7": 104.4, "a": 6.0})
    assert two.startswith("Models 7 (104 times), a (6 times): confidences that many times")
    assert two.endswith("Were they trained and evaluated as the others?")
