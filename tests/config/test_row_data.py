"""Configs of tables: nothing is augmented, and options for images are refused before work."""

import pytest

from bitleak.config import resolved, validate
from bitleak.core.errors import ConfigError

TABLE = {"data": {"name": "table", "path": "rows.csv"}, "model": {"name": "mlp", "hidden": [8]}}
OF_IMAGES = {
    "train.augment: flip is for images, and the data is a table": {"train": {"augment": ["flip"]}},
    "query.augment: flip, shift:1,0 is for images": {
        "query": {"augment": ["identity", "flip", "shift:1,0"]}
    },
    "calibration.augment: rtn-2: crop is for images": {
        "quantize": [{"name": "rtn", "levels": 4}],
        "calibration": {"augment": ["crop"], "rounds": 2},
    },
    "model.name: cnn is for images, .*use {name: mlp, hidden": {"model": {"name": "cnn"}},
    "model.name: timm:resnet10t is for images": {
        "model": {"name": "external", "factory": "timm:resnet10t"}
    },
}


def test_a_table_is_not_augmented_unless_its_config_says_otherwise():
    config = validate({**TABLE, "train": {"epochs": 3}})
    assert (config.train.augment, config.query.augment) == ((), ("identity",))
    assert (config.train.epochs, config.query.batch) == (3, 64)
    assert validate(resolved(config)) == config
    images = validate({"data": "digits", "model": "cnn"})
    assert (images.train.augment, images.query.augment) == (("flip", "crop"), ("identity", "flip"))


@pytest.mark.parametrize("message", OF_IMAGES)
def test_an_option_for_images_is_refused(message):
    with pytest.raises(ConfigError, match=message):
        validate({**TABLE, **OF_IMAGES[message]})


def test_an_mlp_takes_images_too():
    assert validate({"data": "digits", "model": "mlp"}).model == ("mlp", {})
