"""Doubts that a file itself raises, and the ordinary files that raise none."""

import numpy as np
import pytest

from bitleak.answers import AttackRequest, Scratch, prepare_attack, run_attacks, try_attacks
from bitleak.core.errors import ConfigError, DataError


@pytest.fixture
def doubts(lab, tmp_path):
    """Everything that is said about a file of these arrays, as one text."""

    def said(arrays, quantized=None, **request):
        path = lab.write["npz"](tmp_path, arrays)
        smaller = (
            None if quantized is None else lab.write["npz"](tmp_path, quantized, "quantized.npz")
        )
        request = {
            "attacks": ("threshold", "lira-online-fixed"),
            "power": False,
            "targets": "0",
            **request,
        }
        with Scratch(tmp_path) as scratch:
            prepared, _ = try_attacks(
                prepare_attack(AttackRequest(scores=path, quantized=smaller, **request), scratch)
            )
            found = run_attacks(prepared, scratch, lambda done, what: None)
            return " ".join((*prepared.doubts, *found.doubts))

    return said


def scored(lab, arrays):
    return {
        "scores": lab.confidence(arrays["logits"], arrays["labels"]),
        "member": arrays["member"],
    }


ORDINARY = {
    "few classes": {},
    "no leakage": {"effect": 0.0},
    "two classes": {"classes": 2, "population": 60},
    "a hundred classes": {"classes": 100, "records": 300, "effect": 4.0},
    "many models": {"models": 40, "records": 60, "population": 0},
    "more models than records": {"models": 60, "records": 40, "queries": 1, "population": 0},
}


@pytest.mark.parametrize("form", ["logits", "float16", "probabilities", "scores"])
@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_file_raises_no_doubt(lab, doubts, name, form):
    arrays = lab.made(**ORDINARY[name], seed=len(name))
    if form == "float16":
        arrays |= {key: arrays[key].astype(np.float16) for key in arrays if key.endswith("logits")}
    if form == "probabilities":
        arrays = {key.replace("logits", form): lab.softmax(value) if key.endswith("logits") else value
                  for key, value in arrays.items()}  # fmt: skip
    if form == "scores":
        arrays = scored(lab, arrays)
    assert doubts(arrays) == ""


def test_a_matrix_of_independent_draws_raises_no_doubt(lab, doubts):
    member = np.random.default_rng(0).random((64, 150)) < 0.5
    assert doubts(lab.made(models=64, records=150, member=member)) == ""


@pytest.mark.parametrize(
    "rounded", [lambda p: p, lambda p: np.round(p, 3), lambda p: p.astype(np.float16)]
)
def test_probabilities_called_logits_are_refused(lab, doubts, rounded):
    arrays = lab.made(population=0)
    with pytest.raises(
        DataError,
        match="logits are from 0 to 1 and sum to 1 in every row, so they are probabilities",
    ):
        doubts(arrays | {"logits": rounded(lab.softmax(arrays["logits"]))})


def test_log_probabilities_are_logits_and_their_negatives_are_refused(lab, doubts):
    arrays = lab.made(population=0)
    logs = np.log(lab.softmax(arrays["logits"]))
    assert doubts(arrays | {"logits": logs}) == ""
    with pytest.raises(
        DataError, match="negative log-probabilities in every row; change their sign"
    ):
        doubts(arrays | {"logits": -logs})


def test_outputs_of_a_sigmoid_called_logits_are_told(lab, doubts):
    arrays = lab.made(population=0)
    assert "All logits are from 0 to 1" in doubts(
        arrays | {"logits": 1 / (1 + np.exp(-arrays["logits"]))}
    )


def test_losses_are_asked_about(lab, doubts):
    arrays = scored(lab, lab.made(records=400))
    assert "AUC of the confidence itself 0." in doubts(arrays | {"scores": -arrays["scores"]})
    losses = np.logaddexp(0, -arrays["scores"])
    assert "are these losses" in doubts(arrays | {"scores": losses})
    assert "does member mark the records that were left out" in doubts(
        arrays | {"member": ~arrays["member"]}
    )


def test_log_probabilities_and_probabilities_of_the_true_class_are_no_scores(lab, doubts):
    arrays = scored(lab, lab.made(population=0))
    log_p = -np.logaddexp(0, -arrays["scores"])
    assert "log-probabilities log p of the true class?" in doubts(arrays | {"scores": log_p})
    assert "are they probabilities p of the true class?" in doubts(
        arrays | {"scores": np.exp(log_p)}
    )


def test_labels_that_count_from_one_are_recognized(lab, doubts):
    arrays = lab.made(classes=6, effect=4.0, population=0)
    below = arrays["labels"] < 5
    few = {"logits": arrays["logits"][:, below], "member": arrays["member"][:, below]}
    text = doubts(few | {"labels": arrays["labels"][below] + 1})
    assert "of their own members at the first query" in text
    assert "are the label minus 1." in text


def test_labels_of_other_records_are_recognized(lab, doubts):
    arrays = lab.made(classes=6, effect=4.0, population=0)
    assert "labels count from 0, in the order" in doubts(
        arrays | {"labels": np.roll(arrays["labels"], 7)}
    )


def test_classes_in_another_order_are_recognized(lab, doubts):
    arrays = lab.made(classes=6, effect=5.0, population=0, records=300)
    order = np.array([2, 0, 1, 4, 5, 3])
    assert "if the classes were in another order (labels are answered 0 as " in doubts(
        arrays | {"labels": order[arrays["labels"]]}
    )
    two = np.array([0, 1, 2, 3, 5, 4])
    assert "with the labels 4 and 5 are taken for one another" in doubts(
        arrays | {"labels": two[arrays["labels"]]}
    )


def test_population_labels_of_other_records_are_recognized(lab, doubts):
    arrays = lab.made(effect=4.0, population=300)
    arrays["population_logits"][:, np.arange(300), :, arrays["population_labels"]] += 4
    assert doubts(arrays) == ""
    assert "are the population_labels those" in doubts(
        arrays | {"population_labels": np.roll(arrays["population_labels"], 3)}
    )


def test_one_checkpoint_twice_is_told_or_refused(lab, doubts):
    arrays = lab.made(models=16, population=0)
    again = np.array([*range(16), 3])
    twice = arrays | {"logits": arrays["logits"][again], "member": arrays["member"][again]}
    assert "Models with identical answers: 3 and 16." in doubts(twice)
    near = twice["logits"].copy()
    near[16] += 1e-4 * np.random.default_rng(0).normal(size=near[16].shape).astype(np.float32)
    assert "differ a hundred times less than those of others: 3 and 16." in doubts(
        twice | {"logits": near}
    )
    twice["member"] = np.concatenate([arrays["member"], ~arrays["member"][3:4]])
    with pytest.raises(
        DataError, match="models 3 and 16 have identical answers but different rows of member"
    ):
        doubts(twice)


def test_quantized_answers_that_are_those_at_full_precision_are_told(lab, doubts):
    arrays = lab.made(population=0)
    assert "The quantized answers of 12 models (first: 0) are those at full precision" in doubts(
        arrays, arrays
    )


def test_a_record_with_few_references_is_told(lab, doubts):
    member = np.random.default_rng(0).random((24, 100)) < 0.5
    member[:, 7] = np.arange(24) >= 21
    text = doubts(lab.made(models=24, records=100, member=member, population=0))
    assert (
        "references per side for each record, of 24 models: record 7 decides it, which is in 3 of them"
        in text
    )


def test_a_transposed_matrix_is_told(lab, doubts):
    arrays = scored(lab, lab.made(models=60, records=60, queries=1, effect=3.0))
    flipped = arrays | {"member": arrays["member"].T.copy()}
    assert "not depend on member, but on its transpose" in doubts(flipped, attacks=("threshold",))
    wide = scored(lab, lab.made(models=40, records=200, queries=1))
    turned = {"scores": wide["scores"].transpose(1, 0, 2), "member": wide["member"].T.copy()}
    assert "models (200) than records (40)" in doubts(turned, attacks=("threshold",))
    with pytest.raises(
        ConfigError, match=r"population cannot be run .* Doubts about the answers: .*models \(200\)"
    ):
        doubts(turned, attacks=("population",))
    labels = lab.made(models=12, records=50, queries=2)
    with pytest.raises(DataError, match="are they in another order"):
        doubts(
            {
                "logits": labels["logits"].swapaxes(0, 1),
                "labels": labels["labels"],
                "member": labels["member"].T,
            }
        )


def test_scores_of_few_values_are_told(lab, doubts):
    arrays = scored(lab, lab.made(records=400, population=0))
    assert " distinct values: records of one value" in doubts(
        arrays | {"scores": np.rint(arrays["scores"])}
    )


def test_ties_at_the_end_of_the_scale_are_told_with_their_cause(lab, doubts):
    arrays = lab.made(effect=5.0, population=0)
    p = {"probabilities": np.round(lab.softmax(3 * arrays["logits"]), 3), **arrays}
    del p["logits"]
    text = doubts(p)
    assert "share the largest confidence" in text
    assert "The probabilities have the resolution 3 decimals" in text


def test_one_far_value_is_no_tie(lab, doubts):
    arrays = scored(lab, lab.made(records=400, population=0))
    far = arrays["scores"].astype(float)
    far[0, 0, 0] = -1e8
    assert "share" not in doubts(arrays | {"scores": far})


def test_losses_near_each_other_are_no_ties(lab, doubts):
    arrays = lab.made(records=400, population=0, effect=20.0)
    losses = np.logaddexp(0.0, -lab.confidence(arrays["logits"], arrays["labels"]))
    assert len(np.unique(losses)) == losses.size
    assert "share" not in doubts({"scores": -losses, "member": arrays["member"]})


@pytest.mark.parametrize("end", ["largest", "smallest"])
def test_ties_at_one_end_name_that_end(lab, doubts, end):
    arrays = scored(lab, lab.made(records=400, population=0))
    bounds = {"largest": (None, 1.0), "smallest": (0.0, None)}[end]
    text = doubts(arrays | {"scores": np.clip(arrays["scores"], *bounds)})
    other = {"largest": "smallest", "smallest": "largest"}[end]
    assert f"share the {end} confidence" in text
    assert other not in text.partition("so that the records there")[0]
    assert ("TPRs at rates below" in text) is (end == "largest")


def test_labels_that_are_the_predictions_of_a_model_are_told(lab, doubts):
    arrays = lab.made(records=400, population=0)
    assert "Model 3 is right on all 200 records that it was not trained on" in doubts(
        arrays | {"labels": arrays["logits"][3, :, 0].argmax(axis=1)}
    )


def test_rows_that_were_never_filled_are_told_and_are_no_checkpoint_twice(lab, doubts):
    arrays = lab.made(records=400, population=0)
    arrays["logits"][[2, 9]] = 0
    text = doubts(arrays)
    assert "2 models" in text
    assert "give one and the same answer about many records, up to 100.0% (2, 9)" in text
    assert "(2 and 9) have nothing to do with those of the others" in text
    assert "checkpoint" not in text
    arrays = lab.made(records=400, population=0)
    arrays["logits"][:, 380:] = 0
    assert "12 models" in (text := doubts(arrays))
    assert "up to 5.0%" in text


def test_folders_that_end_at_another_epoch_are_told(lab, doubts, tmp_path):
    arrays = lab.made(population=0)
    root = lab.write["experiments"](
        tmp_path, {key: arrays[key] for key in ("logits", "labels", "member")}
    )
    with Scratch(tmp_path) as scratch:
        assert prepare_attack(AttackRequest(scores=root), scratch).doubts == ()
        folder = sorted(root.glob("*/logits"))[4]
        sorted(folder.iterdir())[-1].unlink()
        (text,) = prepare_attack(AttackRequest(scores=root), scratch).doubts
    assert f"those of 1 model are not: {folder.parent.name} (0000000009.npy)" in text


def test_a_model_that_answers_far_off_the_others_is_named(lab, doubts):
    arrays = lab.made(models=10)
    arrays["logits"][6] *= 60
    said = doubts(arrays)
    assert "Model 6 (" in said
    assert "far from those of the other models as is usual" in said
    assert "far from those" not in doubts(arrays, attacks=("threshold",), targets="0,1")
