"""The sentence of the report on the scale of the answers."""

from types import SimpleNamespace

import numpy as np

from bitleak.audit.scale_notes import STANDARDISED, scale_note
from bitleak.steps.attack_targets import AttackScores

SCALES = {
    ("fp32", "fp32"): {"temperature": 1.25, "limit": ""},
    ("rtn-2", "fp32"): {"temperature": 1.25, "limit": ""},
    ("rtn-2", "matched"): {"temperature": 20.0, "limit": "all right"},
    ("control", "fp32"): {"temperature": 1.25, "limit": ""},
}


def prepared(keep):
    return SimpleNamespace(
        config=SimpleNamespace(query=SimpleNamespace(keep=keep)),
        plan=SimpleNamespace(scores={pair: pair for pair in SCALES}),
    )


def stored(pair):
    return AttackScores(np.zeros((0, 1, 4)), None, (), (0,), SCALES[pair]).artifacts()


def test_the_note_has_the_temperature_of_every_variant_that_has_references_of_its_own():
    note = scale_note(prepared("logits"), SimpleNamespace(read_key=stored))
    assert "(fp32: 1.25, rtn-2: 20, at the limit for answers that are all right)" in note


def test_without_logits_the_note_names_what_is_not_divided_out():
    assert scale_note(prepared("signals"), SimpleNamespace(read_key=stored)) == STANDARDISED
    assert "may read as a change of leakage" in STANDARDISED
