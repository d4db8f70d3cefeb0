import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitleak.core.variants import (
    SIGNS,
    AttackName,
    Variant,
    canaries_of,
    joined,
    noise_like,
    on_calibration,
    question_of,
    through,
)

labels = st.text(min_size=1, max_size=12).filter(lambda text: not set(text) & set(SIGNS))

KINDS = {
    "fp32": "full",
    "control": "control",
    "positive_control": "positive",
    "quantized": "plain",
    "obc-1.58+last8": "plain",
    "fp32&obc-2": "joint",
    "obc-4&obc-2&obc-1.58": "joint",
    "noise@obc-1.58": "noise",
    "noise@fp32": "noise",
    "canaries@obc-2": "canaries",
    "label@fp32": "channel",
    "temperature-2@obc-1.58+last8": "channel",
}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_every_name_of_an_audit_has_one_kind_and_comes_back(name, kind):
    assert Variant.parse(name).kind == kind
    assert str(Variant.parse(name)) == name


@given(
    kind=st.sampled_from(["plain", "joint", "noise", "canaries"]),
    parts=st.lists(labels, min_size=2, max_size=4),
)
def test_any_labels_make_a_name_that_is_read_as_the_same_variant(kind, parts):
    variant = Variant(kind, tuple(parts) if kind == "joint" else (parts[0],), "obc", 4)
    read = Variant.parse(str(variant), quantizer="obc", levels=4)
    if parts[0] in ("fp32", "control", "positive_control") and kind == "plain":
        return
    assert (read, read.labels, read.quantizer, read.levels) == (variant, variant.labels, "obc", 4)


def test_the_functions_make_the_names_of_the_values():
    assert joined(("fp32", "obc-2")) == str(Variant("joint", ("fp32", "obc-2")))
    assert noise_like("obc-2") == str(Variant("noise", ("obc-2",)))
    assert joined(["obc-2"]) == "obc-2"
    assert canaries_of("obc-2") == str(Variant("canaries", ("obc-2",)))
    assert through("label", "obc-2") == str(Variant("channel", ("obc-2",), channel="label"))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "&",
        "fp32&",
        "noise@",
        "noise@a&b",
        "a@b",
        "a:b",
        "noise@noise@a",
        "label@a@b",
        "label@",
        "round-9@a",
        "label@a&b",
    ],
)
def test_names_that_no_audit_makes_are_refused(name):
    with pytest.raises(ValueError, match="a label must be some text without any of & @ :, got"):
        Variant.parse(name)


def test_the_number_of_labels_fits_the_kind():
    with pytest.raises(
        ValueError, match=r"of kind joint must have at least two labels, got \['fp32'\]"
    ):
        Variant("joint", ("fp32",))
    with pytest.raises(ValueError, match=r"of kind plain must have one label, got \[\]"):
        Variant("plain", ())


def test_a_channel_belongs_to_its_kind():
    with pytest.raises(ValueError, match="unknown channel 'labels'"):
        Variant("channel", ("obc-2",), channel="labels")
    with pytest.raises(ValueError, match="of kind noise must have no channel, got 'label'"):
        Variant("noise", ("obc-2",), channel="label")
    assert Variant.parse("label@obc-2") != Variant.parse("top1@obc-2")
    assert Variant.parse("label@obc-2").labels == ("obc-2",)


def test_variants_with_one_name_are_equal_whether_or_not_the_quantizer_is_known():
    assert Variant.parse("obc-2") == Variant.parse("obc-2", quantizer="obc", levels=4)
    assert Variant.parse("obc-2+last8").suffix == "last8"
    assert Variant.parse("noise@obc-2+last8").suffix == ""


@given(attack=labels, calibration=st.booleans())
def test_any_attack_comes_back_from_its_name(attack, calibration):
    name = AttackName(attack, calibration)
    assert AttackName.parse(str(name)) == name
    assert on_calibration(attack) == str(AttackName(attack, calibration=True))


@pytest.mark.parametrize(
    ("variant", "attack", "question"),
    [
        ("fp32", "", "plain"),
        ("obc-2", "threshold", "plain"),
        ("obc-2", "joint", "joint"),
        ("obc-2", "joint-learned", "joint"),
        ("fp32&obc-2", "joint", "joint"),
        ("noise@obc-2", "threshold", "noise"),
        ("label@obc-2", "threshold", "channel"),
        ("canaries@obc-2", "threshold", "canaries"),
        ("obc-2", "calibration:reference", "calibration"),
        ("control", "calibration:reference", "control"),
    ],
)
def test_every_row_answers_one_question(variant, attack, question):
    assert question_of(variant, attack) == question
