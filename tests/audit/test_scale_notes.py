"""The sentence of the report on the scale of the answers."""

from bitleak.audit.comparison_notes import (
    STANDARDISED,
    has_own_scale,
    outlying_sentences,
    temperature_note,
)


def test_the_note_has_the_temperature_of_every_variant_that_has_references_of_its_own():
    note = temperature_note(
        {
            "fp32": {"temperature": 1.25, "limit": ""},
            "rtn-2": {"temperature": 20.0, "limit": "all right"},
            "rtn-4": {},
        }
    )
    assert "(fp32: 1.25, rtn-2: 20, at the limit for answers that are all right)" in note


def test_full_precision_and_matched_references_have_the_variants_own_scale():
    pairs = [("fp32", "fp32"), ("rtn-2", "fp32"), ("rtn-2", "matched"), ("control", "fp32")]
    assert [has_own_scale(*pair) for pair in pairs] == [True, False, True, False]


def test_without_logits_the_note_names_what_is_not_divided_out():
    assert "may read as a change of leakage" in STANDARDISED


def test_references_far_off_the_others_are_named_per_variant():
    (said,) = outlying_sentences({"fp32": {}, "rtn-2": {"3": 12.0}})
    assert said.startswith("Model 3 (12 times): confidences at rtn-2 that many times")
