"""A factor of the logits of a file, or an affine map of its scores, changes nothing that matched references find."""

import numpy as np
import pytest

from bitleak.answers import AttackRequest, Scratch, prepare_attack, run_attacks
from bitleak.answers.target_views import FULL_BY_FULL, QUANTIZED_BY_MATCHED, Case
from bitleak.core.errors import DataError

ATTACKS = ("lira-online-shrunk", "rmia-online", "reference", "threshold", "threshold-entropy")


@pytest.fixture
def run(lab, tmp_path):
    def outcome(arrays, quantized=None, attacks=ATTACKS):
        path = lab.write["npz"](tmp_path, arrays)
        other = (
            None if quantized is None else lab.write["npz"](tmp_path, quantized, "quantized.npz")
        )
        with Scratch(tmp_path) as scratch:
            request = AttackRequest(
                path, quantized=other, attacks=attacks, power=False, fprs=(0.1,)
            )
            return run_attacks(prepare_attack(request, scratch), scratch, lambda done, stage: None)

    return outcome


def times(arrays, factor):
    scaled = {name: np.float32(factor) * arrays[name] for name in ("logits", "population_logits")}
    return arrays | scaled


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_a_factor_of_all_logits_is_divided_out_by_matched_references_alone(run, lab, factor):
    arrays = lab.made(models=8)
    found = run(arrays, times(arrays, factor))
    for name in ATTACKS:
        matched = found.scores[QUANTIZED_BY_MATCHED].of(name)
        np.testing.assert_allclose(matched, found.scores[FULL_BY_FULL].of(name), rtol=1e-9)
    naive = found.scores[Case("quantized", "fp32")].of("rmia-online")
    assert np.abs(naive - found.scores[FULL_BY_FULL].of("rmia-online")).max() > 0.01


def test_accuracy_and_memorisation_are_those_of_the_answers_as_they_came(run, lab):
    arrays = lab.made(models=8)
    found = run(times(arrays, 4.0))
    probability = lab.softmax(np.float64(4 * arrays["logits"][:, :, 0]))
    probability = probability[:, np.arange(len(arrays["labels"])), arrays["labels"]]
    inside = arrays["member"][:, 7]
    change = probability[inside, 7].mean() - probability[~inside, 7].mean()
    np.testing.assert_allclose(found.memorised["fp32"].mean[7], change, rtol=1e-6)
    right = arrays["logits"][:, :, 0].argmax(axis=2) == arrays["labels"]
    np.testing.assert_array_equal(found.correct["fp32"], right)


def test_the_note_names_the_scale_and_its_fit(run, lab):
    arrays = lab.made(models=8)
    note = run(arrays, times(arrays, 4.0), ("threshold",)).scale
    assert note.startswith("Logits were divided by a temperature, fitted to the population (fp32: ")
    bare = {name: array for name, array in arrays.items() if "population" not in name}
    assert run(bare, attacks=("threshold",)).scale == (
        "The answers were compared as they came. Their scale, which anybody could divide out, is fitted to population "
        "records, which the file does not have."
    )


@pytest.mark.parametrize(("factor", "shift"), [(0.6, 0.0), (4.0, -3.0)])
def test_an_affine_map_of_all_scores_is_divided_out_by_matched_references_alone(
    run, lab, factor, shift
):
    arrays = lab.made(models=8)
    f = lab.confidence(arrays["logits"], arrays["labels"])
    outside = lab.confidence(arrays["population_logits"], arrays["population_labels"])
    scores = {"scores": f, "population_scores": outside, "member": arrays["member"]}
    mapped = scores | {
        "scores": factor * f + shift,
        "population_scores": factor * outside + shift,
    }
    names = ("lira-online-shrunk", "rmia-online", "reference", "threshold-log_probability")
    found = run(scores, mapped, names)
    for name in names[:3]:
        matched = found.scores[QUANTIZED_BY_MATCHED].of(name)
        full = found.scores[FULL_BY_FULL].of(name)
        np.testing.assert_allclose(matched, full, rtol=1e-9, atol=1e-12)
    naive = found.scores[Case("quantized", "fp32")].of("rmia-online")
    assert np.abs(naive - found.scores[FULL_BY_FULL].of("rmia-online")).max() > 0.01
    assert found.scale.startswith(
        "Confidences were standardised, fitted to the population (fp32: mean"
    )


def test_a_population_logit_that_is_not_finite_is_named_before_a_temperature_is_fitted(run, lab):
    arrays = lab.made(models=8)
    broken = arrays["population_logits"].copy()
    broken[3, 5, 1, 0] = np.nan
    with pytest.raises(
        DataError, match="population_logits of model 3, record 5, query 1: must be finite"
    ):
        run(arrays | {"population_logits": broken})
