"""Configs: what they come to, that they survive being written out, and that the documentation's ones are valid."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from bitleak.config import bits_label, levels_of, override, read_config, resolved, validate
from bitleak.core.errors import ConfigError

ROOT = Path(__file__).parents[2]
BASE = {"data": "digits", "model": {"name": "cnn"}, "calibration": {"records": 50}}
EXAMPLES = [*sorted((ROOT / "examples").glob("*.yaml")), ROOT / "src" / "bitleak" / "demo.yaml"]


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_every_example_is_valid_and_survives_being_written_out(path):
    config = validate(read_config(path))
    assert validate(yaml.safe_load(yaml.safe_dump(resolved(config)))) == config


@pytest.mark.parametrize(
    ("page", "last"),
    [("README.md", "obc-1.58+last8"), ("docs/configs.md", "obc-1.58+last8+conv*4")],
)
def test_the_config_of_the_readme_and_the_whole_one_are_valid(page, last):
    text = (ROOT / page).read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    config = validate(yaml.safe_load(block))
    assert [entry.variant for entry in config.quantize][-1] == last


def test_the_papers_examples_are_the_papers_protocol():
    config = validate(read_config(ROOT / "examples" / "paper-cifar100.yaml"))
    assert (config.split.mode, config.split.targets, config.split.shadows) == ("dedicated", 10, 64)
    recipe = config.train
    assert (recipe.momentum, recipe.weight_decay, recipe.learning_rate, recipe.batch) == (
        0.9,
        5e-4,
        0.1,
        128,
    )
    assert set(recipe.augment) == {"crop", "flip"}
    entries = {entry.variant: entry for entry in config.quantize}
    assert entries["adaround-2"].options["iterations"] == 20_000
    assert entries["brecq-1.58+last8"].options["regularization"] == 0.01
    assert entries["obc-4"].calibration.rounds == 10
    assert len(config.query.augment) == 2


def test_the_default_recipe_is_the_papers():
    recipe = validate(BASE).train
    assert (recipe.epochs, recipe.schedule, recipe.augment, recipe.autocast) == (
        100,
        "cosine",
        ("flip", "crop"),
        "none",
    )


def test_bits_and_levels_say_the_same():
    by_bits = validate({**BASE, "quantize": [{"name": "rtn", "bits": [4, 2, 1.58]}]})
    by_levels = validate({**BASE, "quantize": [{"name": "rtn", "levels": [16, 4, 3]}]})
    assert by_bits == by_levels
    assert [entry.variant for entry in by_bits.quantize] == ["rtn-4", "rtn-2", "rtn-1.58"]


def test_the_label_of_every_precision_tells_it_apart_and_leads_back():
    labels = [bits_label(levels) for levels in range(2, 257)]
    assert len(set(labels)) == 255
    assert [levels_of(float(label)) for label in labels] == list(range(2, 257))


def test_a_field_wins_over_the_preset_and_an_entry_over_the_common_calibration():
    raw = {
        "name": "adaround",
        "levels": 4,
        "preset": "paper",
        "iterations": 7,
        "calibration": {"source": "holdout"},
    }
    (entry,) = validate({**BASE, "split": {"calibration": 50}, "quantize": [raw]}).quantize
    assert (entry.options["iterations"], entry.options["learning_rate"]) == (7, 1e-3)
    assert (entry.calibration.source, entry.calibration.records) == ("holdout", 50)


def test_a_null_that_is_no_default_survives_being_written_out():
    raw = {"data": "digits", "model": {"name": "cnn", "width": 4}, "split": {"models": 8}}
    entries = [
        {"name": "obc", "levels": 4, "reestimate_images": None},
        {"name": "gptq", "levels": 4, "reestimate_images": 5, "last": None},
    ]
    config = validate({**raw, "quantize": entries})
    assert [entry.options["reestimate_images"] for entry in config.quantize] == [None, 5]
    written = resolved(config)
    assert "last" not in written["quantize"][1]
    assert validate(yaml.safe_load(yaml.safe_dump(written))) == config


def test_settings_reach_into_lists_and_make_what_is_missing():
    raw = {**BASE, "quantize": [{"name": "rtn", "levels": [4]}]}
    changed = override(
        raw, ["quantize.0.levels=[3, 2]", "train.epochs=3", "train.learning_rate=1e-2"]
    )
    config = validate(changed)
    assert [entry.levels for entry in config.quantize] == [3, 2]
    assert (config.train.epochs, config.train.learning_rate) == (3, 0.01)
    assert raw["quantize"][0]["levels"] == [4]


def test_one_form_of_an_attack_can_be_named():
    assert validate({**BASE, "attacks": ["lira-online-paper"]}).attacks == ("lira-online-paper",)


def test_every_word_for_attacks_is_known():
    words = (
        "lira",
        "rmia",
        "threshold",
        "signals",
        "gap",
        "population",
        "reference",
        "calibrated",
        "quantile",
    )
    assert validate({**BASE, "attacks": list(words)}).attacks == words
    with pytest.raises(ConfigError, match="unknown attack 'quantiles': did you mean 'quantile'"):
        validate({**BASE, "attacks": ["quantiles"]})


def test_an_attack_that_the_population_is_too_small_for_is_refused():
    with pytest.raises(
        ConfigError, match=r"split\.population: the attack quantile needs at least 50 .* got 20"
    ):
        validate({**BASE, "attacks": ["lira", "quantile"], "split": {"population": 20}})
    assert (
        validate(
            {**BASE, "attacks": ["lira", "rmia"], "split": {"population": 20}}
        ).split.population
        == 20
    )


def test_all_mistakes_come_in_one_error():
    with pytest.raises(ConfigError) as caught:
        validate({**BASE, "fpr": [], "seed": -1, "split": {"models": 5}, "references": []})
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0].split(" ")[0] for line in lines] == [
        "fpr",
        "split.models",
        "references",
        "seed",
    ]


def test_a_rate_in_percent_is_named_with_the_other_mistakes():
    with pytest.raises(ConfigError) as caught:
        validate({**BASE, "fpr": [5], "priors": [0.1, 1], "split": {"models": 5}})
    assert str(caught.value).splitlines() == [
        "split.models must be an integer from 6 to 4096, got 5",
        "fpr: expected numbers between 0 and 1, got 5.0",
        "priors: expected numbers between 0 and 1, got 1.0",
    ]


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        ("split", {"models": 4098}, r"models must be an integer from 6 to 4096, got 4098"),
        (
            "split",
            {"mode": "dedicated", "shadows": 5000},
            r"shadows must be an integer from 4 to 4096, got 5000",
        ),
        (
            "split",
            {"mode": "dedicated", "targets": 5000},
            r"targets must be an integer from 1 to 4096, got 5000",
        ),
        ("fpr", [0.001 * n for n in range(1, 102)], "fpr: expected at most 100 rates, got 101"),
        (
            "priors",
            [0.001 * n for n in range(1, 102)],
            "priors: expected at most 100 shares, got 101",
        ),
        (
            "quantize",
            [{"name": "rtn", "levels": list(range(2, 257)), "label": f"a{n}"} for n in range(4)],
            "quantize: expected at most 1,000 variants, got 1,020",
        ),
        (
            "calibration",
            {"rounds": 1001, "augment": ["flip"]},
            "rounds must be an integer from 1 to 1000, got 1001",
        ),
    ],
)
def test_numbers_beyond_any_run_are_refused_with_the_limit(section, value, message):
    raw = {"data": {"name": "digits"}, "model": {"name": "cnn"}, section: value}
    with pytest.raises(ConfigError, match=message):
        validate(raw)


def grown(levels: int, *, each: int = 9) -> str:
    """YAML of few bytes whose aliases stand for `each ** levels` texts."""
    lines = ["a0: &a0 [x]"]
    for level in range(1, levels + 1):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * each)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (grown(9), "more than 100,000 values, aliases followed"),
        ("a: &a [*a]", "an alias of what it is in"),
        ("a: &a {b: *a}", "an alias of what it is in"),
        ("a: " + "[" * 33 + "]" * 33, "nested more than 32 deep"),
        ("a: " + "{b: " * 2000, "nested more than 32 deep"),
        (
            "a: !!python/name:os.system x",
            "tag 'tag:yaml.org,2002:python/name:os.system' is not for configs",
        ),
        ("a: !!timestamp x", "is not for configs"),
        ("a: !!set {x, y}", "is not for configs"),
        ("a: !!int x", "invalid literal for int"),
        ("a: !!float x", "could not convert string to float"),
        ("a: " + "9" * 5000, "Exceeds the limit"),
        ("a: 0x_", "invalid literal for int"),
        ("? [1, 2]\n: 3", "a key must be a name"),
        ("a: \x07", "special characters are not allowed"),
    ],
)
def test_yaml_that_no_config_holds_is_refused_in_one_line(tmp_path, text, said):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        read_config(file)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{file}: not valid YAML: ")


def test_aliases_that_do_not_grow_are_followed_and_dates_are_text(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("a: &a {b: [1, 2]}\nc: *a\nd: 2026-02-30\ne: 2026-02-20\n")
    assert read_config(file) == {
        "a": {"b": [1, 2]},
        "c": {"b": [1, 2]},
        "d": "2026-02-30",
        "e": "2026-02-20",
    }


def test_a_config_of_more_than_a_megabyte_is_refused(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("#" * (1 << 20) + "\na: 1")
    with pytest.raises(ConfigError, match="at most 1,048,576 bytes"):
        read_config(file)


FEW = {"kind": "matched", "quantized": 8}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, ("lira-online-shrunk", "matched")),
        ({"references": ["fp32", "recalibrated"]}, ("lira-online-shrunk", "recalibrated")),
        ({"attacks": ["threshold", "rmia"]}, ("rmia-online", "matched")),
        ({"attacks": ["threshold"]}, ("threshold", "")),
        ({"headline": {"attack": "lira-online-paper"}}, ("lira-online-paper", "matched")),
        ({"headline": {"adversary": "fp32"}}, ("lira-online-shrunk", "fp32")),
        (
            {"references": ["fp32", FEW], "split": {"models": 12}},
            ("lira-online-shrunk", "matched-8"),
        ),
        (
            {
                "references": ["fp32", "matched", FEW],
                "split": {"models": 12},
                "headline": {"adversary": "matched-8"},
            },
            ("lira-online-shrunk", "matched-8"),
        ),
    ],
)
def test_the_pair_of_the_headline_is_settled_before_anything_is_measured(raw, expected):
    config = validate({"data": "digits", "model": "cnn", **raw})
    assert (config.headline.attack, config.headline.adversary) == expected
    assert validate(resolved(config)).headline == config.headline


@pytest.mark.parametrize(
    ("headline", "message"),
    [
        (
            {"attack": "rmia-online"},
            "headline.attack: rmia-online is not run; expected one of lira",
        ),
        ({"attack": "lira-onlin-paper"}, "headline.attack: .*did you mean 'lira-online-paper'"),
        ({"attack": "threshold", "adversary": "fp32"}, "threshold uses no references; leave"),
        ({"adversary": "recalibrated"}, "is not run with recalibrated references; expected one of"),
        ({"adversary": "all"}, "is not run with all references; expected one of matched, fp32"),
    ],
)
def test_a_headline_that_is_not_run_is_refused(headline, message):
    raw = {"data": "digits", "model": "cnn", "references": ["fp32", "matched"]}
    with pytest.raises(ConfigError, match=message):
        validate({**raw, "headline": headline})


LIMITED = {**BASE, "quantize": [{"name": "rtn", "levels": [4]}], "fpr": [0.01, 0.02]}


def test_limits_have_the_words_of_the_command_line_and_change_no_other_section():
    section = {
        "max": {"auc": 0.55, "tpr@0.02": 0.02},
        "max_accuracy_drop": 0.01,
        "no_worse_than": "fp32",
        "margin": {"auc": 0.01},
        "adversary": "lira-online-fixed/matched",
    }
    config = validate({**LIMITED, "limits": section})
    assert [str(limit) for limit in config.limits.limits] == [
        "auc <= 0.55",
        "tpr@0.02 <= 0.02",
        "auc - fp32's <= 0.01",
        "loss of test accuracy <= 0.01",
    ]
    assert validate(yaml.safe_load(yaml.safe_dump(resolved(config)))) == config
    assert replace(config, limits=None) == validate(LIMITED)
    assert "limits" not in resolved(validate(LIMITED))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "limits: expected at least one limit: max (such as {auc: 0.6})"),
        ({"max": {"auk": 0.6}}, "limits: limit on 'auk': expected one of auc"),
        ({"max": {"epsilon": 1}}, "a bound on epsilon is a lower bound"),
        ({"max": {"auc": 1.5}}, "limits: limit on 'auc': expected a number from 0 to 1, got 1.5"),
        ({"max": {"auc": True}}, "limits.max: expected a number for auc, got True"),
        ({"max": {"test_accuracy": 0.9}}, "give max_accuracy_drop"),
        ({"max": {"tpr@0.03": 0.1}}, "limits.max: tpr@0.03 is not measured: expected @ and one of fpr: 0.01, 0.02"),
        ({"max": {"auc_within_class": 0.6}}, "an audit has no such figure"),
        ({"max": {"precision@0.01,prior0.5": 0.6}}, "the strongest adversary has auc and tpr@FPR alone"),
        (
            {"max": {"precision@0.01,prior0.3": 0.6}, "adversary": "threshold"},
            "expected ,prior and one of priors: 0.01, 0.1, 0.5",
        ),
        ({"margin": {"auc": 0.01}}, "limits: no_worse_than: fp32 and margin belong together"),
        ({"max_accuracy_drop": 2}, "limits: limit on 'test_accuracy': expected a number from 0 to 1"),
        ({"max": {"auc": 0.6}, "adversary": "rmia-online/fp32"}, "limits.adversary: not run: unknown"),
        ({"maximum": {"auc": 0.6}}, "limits.maximum: unknown key 'maximum'"),
    ],
)  # fmt: skip
def test_limits_that_the_audit_cannot_be_checked_against_are_refused(section, message):
    with pytest.raises(ConfigError) as caught:
        validate({**LIMITED, "limits": section})
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_comparison_with_full_precision_needs_something_quantized():
    with pytest.raises(ConfigError, match=r"limits.max_accuracy_drop: nothing is quantized"):
        validate({**BASE, "limits": {"max_accuracy_drop": 0.01}})
    assert validate({**BASE, "limits": {"max": {"auc": 0.6}}}).limits.max == {"auc": 0.6}
