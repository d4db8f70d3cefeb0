"""Sections that name variants: what they say, and what is told when they are wrong."""

import pytest

from bitleak.config import resolved, validate
from bitleak.core.errors import ConfigError

RAW = {
    "data": {"name": "digits"},
    "model": {"name": "cnn"},
    "quantize": [{"name": "rtn", "levels": [4, 3]}, {"name": "obc", "levels": 3, "last": 256}],
}


def test_nothing_further_is_asked_unless_the_file_says_so():
    config = validate(RAW)
    assert (config.joint, config.utility_matched, config.calibration_inference) == ((), (), None)


def test_true_is_every_quantized_variant():
    assert validate({**RAW, "utility_matched": True}).utility_matched == (
        "rtn-2",
        "rtn-1.58",
        "obc-1.58+last8",
    )
    assert validate({**RAW, "utility_matched": False}).utility_matched == ()


def test_the_resolved_config_says_the_same():
    asked = {
        "joint": [["fp32", "rtn-2"], ["rtn-2", "rtn-1.58", "obc-1.58+last8"]],
        "utility_matched": ["rtn-1.58"],
        "calibration_inference": {"variants": ["rtn-2"], "candidates": 32},
    }
    config = validate({**RAW, **asked})
    assert config.calibration_inference.models == 16
    assert config.joint_attacks == ("joint",)
    assert validate(resolved(config)) == config
    assert validate(resolved(validate(RAW))) == validate(RAW)
    learned = validate({**RAW, **asked, "joint_attacks": ["joint-learned", "joint"]})
    assert validate(resolved(learned)).joint_attacks == ("joint-learned", "joint")


@pytest.mark.parametrize(
    ("split", "most"),
    [
        ({"models": 6, "targets": 2}, "got 2; raise split.models to 8"),
        ({"mode": "dedicated", "shadows": 4, "targets": 2}, "got 2; raise split.shadows to 6"),
    ],
)
def test_the_learned_joint_attack_has_enough_references(split, most):
    raw = {**RAW, "joint": [["fp32", "rtn-2"]], "split": split}
    validate(raw)
    validate({**raw, "joint": None, "joint_attacks": "joint-learned"})
    with pytest.raises(ConfigError, match=f"joint_attacks: joint-learned needs at least 3.*{most}"):
        validate({**raw, "joint_attacks": ["joint", "joint-learned"]})
    enough = {"models": 8} if "models" in split else {"shadows": 6}
    validate({**raw, "joint_attacks": "joint-learned", "split": {**split, **enough}})


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"joint": [["fp32", "rtn-3"]]}, r"joint\.0: unknown variant 'rtn-3'.*rtn-2"),
        ({"joint": [["fp32"]]}, r"joint\.0: expected at least two variants, got 1"),
        ({"joint": [["fp32", "fp32"]]}, r"joint\.0: fp32 is there twice"),
        ({"joint": [["fp32", "rtn-2"], ["rtn-2", "fp32"]]}, r"joint\.1: rtn-2&fp32 is there twice"),
        (
            {"joint": ["fp32", "rtn-2"]},
            r"joint: expected a list of lists of variants.*got a list with str 'fp32'",
        ),
        (
            {"joint_attacks": ["lira"]},
            r"joint_attacks: unknown .*lira.*Known: joint, joint-learned",
        ),
        ({"joint": [["fp32", 2]]}, r"joint\.0: expected a list of text"),
        (
            {"joint": [["fp32", "rtn-2"]], "references": ["fp32"]},
            r"references: joint needs matched references",
        ),
        ({"utility_matched": ["fp32"]}, r"utility_matched: unknown variant 'fp32'"),
        (
            {"utility_matched": "rtn-2"},
            r"utility_matched: expected true, false or a list of variants, got str",
        ),
        ({"calibration_inference": {}}, r"calibration_inference\.variants: missing"),
        (
            {"calibration_inference": {"variants": []}},
            r"calibration_inference\.variants: expected at least one",
        ),
        (
            {"calibration_inference": {"variants": ["obc"]}},
            r"calibration_inference\.variants: unknown variant 'obc'",
        ),
        (
            {"calibration_inference": {"variants": ["rtn-2"], "candidates": 33}},
            r"calibration_inference\.candidates must be even",
        ),
        (
            {"calibration_inference": {"variants": ["rtn-2"], "models": 14}},
            r"calibration_inference\.models must be",
        ),
        (
            {"calibration_inference": {"variants": ["rtn-2"], "targets": 9}},
            r"at most split\.targets = 8, got 9",
        ),
        (
            {"quantize": [{"name": "rtn", "levels": 4, "label": "a&b"}]},
            r"a&b-2: a label must not hold '&'",
        ),
        (
            {"quantize": [{"name": "rtn", "levels": 4, "label": "noise@a"}]},
            r"a label must not hold '@'",
        ),
    ],
)
def test_what_is_wrong_is_told(asked, message):
    with pytest.raises(ConfigError, match=message):
        validate({**RAW, **asked})


def test_all_mistakes_are_told_at_once():
    asked = {
        "joint": [["fp32", "x"]],
        "utility_matched": ["y"],
        "calibration_inference": {"variants": ["z"]},
    }
    with pytest.raises(ConfigError) as told:
        validate({**RAW, **asked})
    assert len(str(told.value).splitlines()) == 3
