"""Mistakes in a call of `audit_model`: the message that each gets, and forms that are no mistakes."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from toy_target import DEVIATION, MEAN, toy

import bitleak
from bitleak.audit.target.given_arrays import check_options, ordered, per_channel, single_number
from bitleak.audit.target.record_lists import known_records
from bitleak.config import validate
from bitleak.core.errors import ConfigError, ModelError

T = toy(400, 150)
RECORDS = 400
MEMBER = np.isin(np.arange(RECORDS), T.members)
SHUFFLED = np.random.default_rng(0).permutation(RECORDS)
ROWS = T.images.reshape(RECORDS, -1)[:, :12].astype(float)
NAMES = np.array(["cat", "dog", "owl", "ant"])[T.labels]
RIGHT = {"mean": MEAN, "deviation": DEVIATION}
PLAIN = {"mean": 0.0, "deviation": 1.0}


class Changed(nn.Module):
    """The toy's network with a function after it."""

    def __init__(self, change):
        super().__init__()
        self.inner, self.change = copy.deepcopy(T.network), change

    def forward(self, images):
        return self.change(self.inner(images))


def audited(network=T.network, **changes):
    given = {"images": T.images, "labels": T.labels, "members": T.members}
    return bitleak.audit_model(network, **{**given, **RIGHT, **changes})


@pytest.fixture(scope="module")
def expected():
    return audited()


def standardised():
    mean, deviation = (np.reshape(values, (3, 1, 1)) for values in (MEAN, DEVIATION))
    return ((T.images / 255 - mean) / deviation).astype(np.float32)


def with_nan():
    images = standardised()
    images[17, 1, 2, 3] = np.nan
    return images


CALLS = {
    "members of mixed types": ({"members": [1, None]}, "got a list of NoneType and int"),
    "members as a column": (
        {"members": MEMBER[:, None]},
        r"shape \(400, 1\); array.ravel\(\) has one axis",
    ),
    "members as a count": ({"members": 150}, "a truth value per record, or names, got 150"),
    "members as floats": ({"members": T.members * 1.0}, r"got float64; array.astype\(int\)"),
    "truth values with a missing one": (
        {"members": pd.Series(MEMBER, dtype="boolean").where(np.arange(RECORDS) != 3)},
        "got a list of NAType and bool",
    ),
    "no members": ({"members": []}, "members: expected at least 2 records, got 0 of 400"),
    "no others": ({"others": []}, "others: expected at least 2 records, got 0 of 400"),
    "members in another order than the images": (
        {
            "images": pd.DataFrame(ROWS),
            "members": pd.Series(MEMBER).iloc[SHUFFLED],
        },
        r"members: the index differs from that of images.*members.loc\[images.index\]",
    ),
    "members sorted by something else": (
        {"members": pd.Series(MEMBER).iloc[SHUFFLED]},
        r"members.sort_index\(\) is in the order of the numbers",
    ),
    "labels as indicators": ({"labels": np.eye(4)[T.labels]}, r"labels.argmax\(axis=1\) has them"),
    "labels as a column": ({"labels": T.labels[:, None]}, r"labels.ravel\(\) has them"),
    "labels from 1": (
        {"labels": T.labels + 1},
        "integers from 0 to 3, one per output of Sequential, got 1 to 4: labels count from 0, subtract 1",
    ),
    "a label of -1": (
        {"labels": np.where(np.arange(RECORDS) == 3, -1, T.labels)},
        "expected integers from 0, got -1 for record 3",
    ),
    "images without channels": (
        {"images": T.images[:, 0]},
        r"got shape \(400, 8, 8\); images\[:, None\] has one channel",
    ),
    "images of several sizes": ({"images": [T.images[0], T.images[1][:, :4]]}, "of one shape"),
    "a data set": (
        {"images": torch.utils.data.TensorDataset(torch.from_numpy(T.images))},
        "of all records, got TensorDataset; of a data set, np.stack",
    ),
    "pixels as wide integers": (
        {"images": T.images.astype(np.int64), **PLAIN},
        r"int64, .*images.astype\('uint8'\), others as floats",
    ),
    "a missing pixel": (
        {"images": with_nan(), **PLAIN},
        "1 of 400 records hold NaN or infinite values, such as record 17",
    ),
    "pixels as floats up to 255": (
        {"images": T.images.astype(np.float32)},
        r"numbers up to \d+ that are not 8-bit .*give images.astype\('uint8'\), or images / 255",
    ),
    "a mean for columns of a table": (
        {"images": ROWS},
        r"mean: expected 1 number or one per channel \(12\), got 3",
    ),
    "a release that is not there": (
        {"releases": {"int8": "nowhere.pt"}},
        "releases.int8: nowhere.pt: no such file",
    ),
    "a release with probabilities": (
        {"releases": {"int8": Changed(lambda logits: logits.softmax(1))}},
        "releases.int8 answers with probabilities .* leave out the softmax",
    ),
    "a release in half precision": (
        {"releases": {"half": copy.deepcopy(T.network).half()}},
        r"releases.half: parameter '1.weight' is float16; .* give network.float\(\)",
    ),
    "a release for other images": (
        {"releases": {"small": nn.Sequential(nn.Flatten(), nn.Linear(100, 4))}},
        r"releases.small: Sequential does not take float32 inputs of shape \(8, 3, 8, 8\): RuntimeError",
    ),
    "packed weights of a quantized network": (
        {"releases": {"int8": {"1._packed_params._packed_params": (1, 2), "1.scale": 3}}},
        "packed codes of a quantized module.* give the quantized network itself",
    ),
}


@pytest.mark.parametrize("mistake", CALLS)
def test_a_mistake_in_an_argument_is_named_with_its_remedy(mistake):
    changes, message = CALLS[mistake]
    with pytest.raises((ConfigError, ModelError), match=message):
        audited(**changes)


OPTIONS = {
    "rates in percent": ({"fpr": [1]}, "fpr: expected rates between 0 and 1, such as 0.01, got 1"),
    "no rates": ({"fpr": []}, "fpr: expected at least one rate"),
    "an empty batch": ({"batch": 0}, "batch must be an integer of at least 1, got 0"),
    "a batch as text": ({"batch": "64"}, "batch must be an integer of at least 1, got '64'"),
    "a seed with a fraction": ({"seed": 1.5}, "seed must be an integer from 0"),
}


@pytest.mark.parametrize("mistake", OPTIONS)
def test_an_option_out_of_range_is_named(mistake):
    changes, message = OPTIONS[mistake]
    options = {"batch": 64, "calibration": 8, "references": 2, "seed": 0, "fpr": 0.01}
    assert check_options(**options, queries="identity") == ((0.01,), ("identity",))
    with pytest.raises(ConfigError, match=message):
        check_options(**{**options, **changes}, queries="identity")
    with pytest.raises(ConfigError, match=r"mean: expected a number or one per channel, got '0.5'"):
        per_channel("mean", "0.5")


NETWORKS = {
    "probabilities": (
        Changed(lambda logits: logits.softmax(1)),
        "model answers with probabilities",
    ),
    "too few outputs": (
        Changed(lambda logits: logits[:, :3]),
        "labels: expected integers from 0 to 2, one per output of Changed, got 0 to 3",
    ),
    "one number": (
        Changed(lambda logits: logits[:, 0]),
        r"shape \(8, 4\), got float32 of shape \(8,\)",
    ),
    "half precision": (copy.deepcopy(T.network).bfloat16(), "parameter '1.weight' is bfloat16"),
    "a class": (nn.Linear, "expected a trained model, got the class Linear"),
    "weights": (
        T.network.state_dict(),
        "got OrderedDict; load the weights into their network first",
    ),
    "answers by the batch's range": (
        Changed(lambda logits: logits - logits.max()),
        "depends on the other images of the batch .* with batch 1 each image is asked about alone",
    ),
}


@pytest.mark.parametrize("mistake", NETWORKS)
def test_a_network_that_cannot_be_asked_is_named_with_the_remedy(mistake):
    network, message = NETWORKS[mistake]
    with pytest.raises((ConfigError, ModelError), match=message):
        audited(network)


FITTED = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(ROWS, NAMES)
MODELS = {
    "not fitted": (
        RandomForestClassifier(),
        {},
        "RandomForestClassifier.predict_proba does not take",
    ),
    "a missing value": (
        FITTED,
        {"images": np.where(ROWS[5, 3] == ROWS, np.nan, ROWS), "labels": NAMES},
        "fp32: Pipeline.predict_proba does not take rows .*ValueError: Input X contains NaN",
    ),
    "a regressor": (
        LinearRegression(),
        {},
        "a classifier with predict_proba, got LinearRegression",
    ),
    "other labels": (
        FITTED,
        {},
        "record 0 has the label 3, which is none of the model's classes: ant,",
    ),
    "a mean": (
        FITTED,
        {"labels": NAMES, "mean": 0.5},
        "rows are given to predict_proba as they are",
    ),
    "a flip": (FITTED, {"labels": NAMES, "queries": ["identity", "flip"]}, "flip are for images"),
    "images": (
        FITTED,
        {"images": T.images, "labels": NAMES},
        r"images.reshape\(len\(images\), -1\)",
    ),
}


@pytest.mark.parametrize("mistake", MODELS)
def test_a_mistake_with_a_classifier_of_rows_is_named_with_its_remedy(mistake):
    model, changes, message = MODELS[mistake]
    with pytest.raises((ConfigError, ModelError), match=message):
        audited(model, **{"images": ROWS, **PLAIN, **changes})


def test_every_usual_form_of_a_list_names_the_same_records():
    forms = [
        MEMBER,
        MEMBER.tolist(),
        set(T.members.tolist()),
        (int(number) for number in T.members),
        torch.from_numpy(T.members),
        pd.Series(MEMBER),
        pd.Series(MEMBER, dtype="boolean"),
        pd.Index(T.members),
    ]
    for form in forms:
        known = known_records(form, None, records=RECORDS)
        np.testing.assert_array_equal(known.members, T.members)
        np.testing.assert_array_equal(known.others, np.flatnonzero(~MEMBER))


def test_forms_that_are_no_mistakes_give_the_same_figures(expected):
    training = copy.deepcopy(T.network).train()
    wide = Changed(lambda logits: torch.cat([logits, logits.new_full((len(logits), 6), -90.0)], 1))
    forms = {
        "in training mode": (training, {}),
        "normalised logits": (Changed(lambda logits: logits.log_softmax(1)), {}),
        "classes without records": (wide, {}),
        "channels last in memory": (
            T.network,
            {"images": torch.from_numpy(T.images).contiguous(memory_format=torch.channels_last)},
        ),
        "a list of images": (T.network, {"images": list(T.images), "fpr": 0.01}),
    }
    for form, (network, changes) in forms.items():
        audit = audited(network, **changes)
        for attack in ("threshold", "threshold-correct"):
            value = audit.figure("auc", attack=attack).value
            assert value == pytest.approx(expected.figure("auc", attack=attack).value, abs=1e-3), (
                form
            )
    assert training.training


def test_a_release_in_bfloat16_weights_is_that_network(expected):
    rounded = {name: value.bfloat16() for name, value in T.network.state_dict().items()}
    audit = audited(releases={"bf16": rounded})
    value = audit.figure("auc", attack="threshold", variant="bf16").value
    assert value == pytest.approx(expected.figure("auc", attack="threshold").value, abs=0.01)


def test_answers_of_a_sigmoid_are_named_in_the_summary(expected):
    audit = audited(Changed(torch.sigmoid))
    assert "All answers of the target are numbers from 0 to 1, as of a sigmoid" in audit.summary()
    assert "sigmoid" not in expected.summary()


def test_floats_up_to_255_are_proposed_divided_by_255():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, RECORDS)
    images = (rng.uniform(20, 90, (RECORDS, 1, 4, 4)) + 140 * labels[:, None, None, None]).round()
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():  # class 1 is brighter than the half of 0 to 1
        network[1].weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 16))
        network[1].bias.copy_(torch.tensor([8.0, -8.0]))
    given = {"labels": labels, "members": np.arange(0, RECORDS, 2), **PLAIN}
    pattern = r"inputs from 0 to 1, images divided by 255: write deviation=\[255\]"
    with pytest.raises(ConfigError, match=pattern):
        audited(network, images=images, **given)
    as_proposed = audited(network, images=images, **{**given, "deviation": 255})
    in_bytes = audited(network, images=images.astype(np.uint8), **given)
    for audit in (as_proposed, in_bytes):
        assert audit.figure("train_accuracy").value == 1.0
    first, second = (a.figure("auc", attack="threshold").value for a in (as_proposed, in_bytes))
    assert first == pytest.approx(second, abs=2e-3)


def test_dates_are_an_order_and_missing_ones_are_named():
    days = np.datetime64("2020-01-01") + np.arange(3)
    np.testing.assert_array_equal(np.diff(ordered(days, 3)), 86400.0)
    days[1] = np.datetime64("NaT")
    with pytest.raises(ConfigError, match="order: 1 of 3 are missing, such as that of record 1"):
        ordered(days, 3)
    with pytest.raises(ConfigError, match=r"a numpy.datetime64 per record, got <U4"):
        ordered(["2020"] * 3, 3)


def test_lists_in_text_files_are_read_or_refused_with_the_file(tmp_path):
    path = tmp_path / "members.txt"
    path.write_bytes("\ufeff3\n1\n2\n".encode())  # as Windows' editor saves it
    assert known_records(path, None, records=10).members.tolist() == [1, 2, 3]
    path.write_bytes("größe\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"members: .*members.txt: cannot be read as UTF-8 text"):
        known_records(path, None, records=10)
    path.write_text("1\n²\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="records of this data set have no names"):
        known_records(path, None, records=10)


def test_a_scale_per_channel_is_refused_and_not_cut_short():
    with pytest.raises(ConfigError, match=r"scale: expected one number for all .*, got \[1, 255\]"):
        single_number("scale", [1, 255])
    assert single_number("scale", 255) == 255.0


def test_rates_of_numpy_are_rates():
    options = {"batch": 1, "calibration": 1, "references": 1, "seed": 0, "queries": "identity"}
    for rates in (np.float32(0.25), np.array([0.25], np.float32), [np.float64(0.25)]):
        assert check_options(fpr=rates, **options)[0] == (0.25,)


def test_images_that_carry_gradients_are_records_like_others(expected):
    images = torch.from_numpy(standardised()).requires_grad_()
    audit = audited(images=images, **PLAIN)
    name = {"metric": "auc", "attack": "threshold"}
    assert audit.figure(**name).value == pytest.approx(expected.figure(**name).value, abs=1e-6)


def test_a_module_of_torch_export_is_a_network_in_the_mode_it_was_exported_in(expected):
    size = torch.export.Dim("records", min=1, max=512)
    example = torch.zeros(2, *T.images.shape[1:])
    graph = torch.export.export(T.network.eval(), (example,), dynamic_shapes=({0: size},))
    figures = [(row.attack, row.metric, row.measure.value) for row in audited(graph.module()).rows]
    assert figures == [(row.attack, row.metric, row.measure.value) for row in expected.rows]
    assert audited(releases={"exported": graph.module()}).rows


@pytest.mark.parametrize(
    ("shape", "kind"), [((1, 4, 4), np.float32), ((1, 8, 6), np.uint8), ((16,), np.float32)]
)
def test_references_are_trained_on_records_that_are_no_square_images(shape, kind):
    chance = np.random.default_rng(0)
    labels = chance.integers(0, 2, 400)
    records = chance.normal(100, 40, (400, *shape))
    records.reshape(400, -1)[:, 0] += 120 * labels
    records = np.clip(records, 0, 255).astype(kind)

    def make():
        return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 2))

    members, network = np.arange(200), make()
    inputs, optimizer = (
        torch.tensor(records[:200]).float() / 255,
        torch.optim.Adam(network.parameters(), 0.05),
    )
    for _ in range(80):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs), torch.tensor(labels[:200])).backward()
        optimizer.step()
    given = records if kind == np.uint8 else records / np.float32(255)
    recipe = bitleak.Recipe(epochs=1, augment=())
    audit = bitleak.audit_model(
        network, given, labels, members, tier=2, factory=make, recipe=recipe, shadows=8, fpr=0.05
    )
    assert {row.attack for row in audit.rows} >= {"lira-online-shrunk", "threshold"}


@pytest.mark.parametrize("name", ["net.pt2", "net.h5"])
def test_a_file_of_no_runtime_is_refused_with_those_that_there_are(name):
    with pytest.raises(ConfigError, match=rf"\(\.onnx, \.xml, \.tflite\), got '{name}'"):
        audited(name)


def test_a_field_of_none_stays_none_in_the_entry_of_a_quantizer():
    from bitleak.audit.target.given_model import quantizer_entry

    entry = quantizer_entry(bitleak.OBC(levels=4, reestimate_images=None))
    assert entry["reestimate_images"] is None
    assert "last" not in entry
    quantize = [{**entry, "levels": [4]}]
    raw = {"data": "digits", "model": {"name": "cnn", "width": 4}, "quantize": quantize}
    config = validate({**raw, "split": {"models": 8}})
    assert config.quantize[0].options["reestimate_images"] is None
