"""Foreign networks are tried before work: refused with the reason, or handled; each here has its right answer."""

import sys
import types
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from bitleak.core.errors import ModelError
from bitleak.core.types import Images, ModelSpec, Weights
from bitleak.models import build, load, state
from bitleak.models.external import trial_of
from bitleak.query import answers
from bitleak.train.fit import fit
from bitleak.train.recipe import Recipe

CLASSES, SIZE = 3, 8
RECIPE = Recipe(epochs=2, batch=16, learning_rate=0.05, augment=())


class Base(nn.Module):
    """A convolution and a head; the classes below change one thing each."""

    def __init__(self, num_classes, in_chans):
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 4, 3, padding=1)
        self.head = nn.Linear(4 * 16, num_classes)

    def features(self, x):
        return functional.max_pool2d(functional.relu(self.conv(x)), 2).flatten(1)

    def forward(self, x):
        return self.head(self.features(x))


class AlwaysDropping(Base):
    def forward(self, x):
        return self.head(functional.dropout(self.features(x), 0.5))


class DroppingPart(Base):
    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.noise = Noise()

    def forward(self, x):
        return self.head(self.noise(self.features(x)))


class Noise(nn.Module):
    def forward(self, x):
        return x + 0.1 * torch.from_numpy(np.random.default_rng().normal(size=x.shape)).float()


class Seldom(Base):
    """Drops a whole branch once in five passes."""

    def forward(self, x):
        kept = (torch.rand(()) > 0.2).float()
        return self.head(self.features(x)) * (0.5 + 0.5 * kept)


class BatchNorm(Base):
    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.norm = nn.BatchNorm2d(4, track_running_stats=False)

    def features(self, x):
        return functional.max_pool2d(self.norm(self.conv(x)), 2).flatten(1)


class HiddenBatchNorm(BatchNorm):
    """The same behind a head that starts at zero, so that a fresh network answers 0 whatever it is asked."""

    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)


class Centred(Base):
    def forward(self, x):
        features = self.features(x)
        return self.head(features - features.mean(dim=0))


class Attending(Base):
    """Mixes the records of a batch, which its size does not show."""

    def forward(self, x):
        features = self.features(x)
        return self.head(features + torch.softmax(features @ features.T, dim=1) @ features)


class InPlace(Base):
    def forward(self, x):
        return super().forward(x.sub_(0.1))


class Probable(Base):
    def forward(self, x):
        return super().forward(x).softmax(1)


class Deciding(Base):
    def forward(self, x):
        return super().forward(x).argmax(1)


class Half(Base):
    def forward(self, x):
        return super().forward(x).bfloat16()


class HalfParameters(Base):
    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.head.half()

    def forward(self, x):
        return self.head(self.features(x).half())


class Squeezing(Base):
    def forward(self, x):
        return super().forward(x).squeeze()


class Detached(Base):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class Maps(Base):
    def forward(self, x):
        return self.conv(x)[:, :3]


class TwoHeads(Base):
    def forward(self, x):
        return super().forward(x), super().forward(-x)


class Fixed(Base):
    """For images of 16x16 pixels."""

    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.head = nn.Linear(4 * 64, num_classes)


class OneNumber(Base):
    def forward(self, x):
        return super().forward(x)[:, 0]


class Placed(Base):
    def forward(self, x):
        return super().forward(x + torch.arange(len(x)).view(-1, 1, 1, 1))


class Remembering(Base):
    """Answers as it did before, until the number of images changes."""

    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.before = None

    def forward(self, x):
        found = super().forward(x)
        if self.before is None or len(self.before) != len(x):
            self.before = found.detach()
        return found if self.training else self.before


class Blind(Base):
    def forward(self, x):
        return super().forward(torch.zeros_like(x))


class Projected(Base):
    """Multiplies by a matrix that is drawn and not saved."""

    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.register_buffer("mixed", torch.randn(num_classes, num_classes), persistent=False)

    def forward(self, x):
        return super().forward(x) @ self.mixed


class Complex(Base):
    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.phase = nn.Parameter(torch.ones(num_classes, dtype=torch.complex64))

    def forward(self, x):
        return (super().forward(x) * self.phase).real


class Kept(Projected):
    """The same matrix in every network: nothing is lost with it."""

    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        generator = torch.Generator().manual_seed(1)
        self.mixed = torch.randn(num_classes, num_classes, generator=generator)


class Cached(Base):
    """One object for all calls, as `functools.cache` on a factory gives."""

    made = None

    def __new__(cls, num_classes, in_chans):
        if cls.made is None:
            cls.made = Base(num_classes, in_chans)
        return cls.made


BACKBONE, NORM = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4, affine=False)
FROZEN = nn.Conv2d(1, 4, 3, padding=1).requires_grad_(False)


class SharedBackbone(Base):
    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.conv = BACKBONE


class SharedView(Base):
    """Another parameter object in the same memory."""

    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.conv.weight = nn.Parameter(BACKBONE.weight.detach())


class SharedStatistics(Base):
    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.norm = NORM

    def features(self, x):
        return functional.max_pool2d(self.norm(self.conv(x)), 2).flatten(1)


class SharedFrozen(Base):
    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.conv = FROZEN


class Extra(Base):
    def get_extra_state(self):
        return {"gain": 1.0}

    def set_extra_state(self, state):
        pass


class Merging(Base):
    """Adds a product to the weights on eval() and takes it off on train(), as low-rank adapters do."""

    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.added, self.merged = nn.Parameter(torch.randn(num_classes, 64)), False

    def train(self, mode=True):
        super().train(mode)
        if mode == self.merged:
            self.head.weight.data += self.added.data * (-1 if mode else 1)
            self.merged = not mode
        return self

    def forward(self, x):
        more = 0 if self.merged else self.features(x) @ self.added.T
        return super().forward(x) + more


class Seeded(Base):
    """Sets the seed of everything, as scripts do."""

    def __init__(self, num_classes, in_chans):
        torch.manual_seed(0)
        super().__init__(num_classes, in_chans)


def test_a_note_says_where_all_models_start_from_the_same_weights():
    (note,) = trial_of(spec(Seeded)).notes
    assert (
        "Seeded starts from the same weights every time (pretrained, or a seed that the factory sets)"
        in note
    )
    assert trial_of(spec(Base)).notes == trial_of(spec(Lazy)).notes == ()


class Counting(Base):
    """Counts the passes of all networks together."""

    passes = 0

    def forward(self, x):
        if self.training:
            Counting.passes += 1
        return super().forward(x)


def test_a_note_says_which_values_all_networks_of_a_process_change_together():
    (note,) = trial_of(spec(Counting)).notes
    assert (
        "attribute 'passes' of class Counting changes when a network runs, and all networks of a process"
        in note
    )


def test_a_frozen_layer_may_be_shared_by_all_networks():
    build(spec(SharedFrozen), seed=0)


def test_a_tensor_that_is_the_same_in_every_network_need_not_be_saved():
    build(spec(Kept), seed=0)


REFUSED = {
    Cached: "gives two networks the same tensor 'conv.weight': .* Make new modules in every call",
    SharedBackbone: "gives two networks the same tensor 'conv.weight'",
    SharedView: "gives two networks the same tensor 'conv.weight'",
    SharedStatistics: "gives two networks the same tensor 'norm.running_mean'",
    Extra: "'_extra_state' of the state dict is a dict .* make it a buffer",
    Merging: "with one state dict answer differently.* or eval.. and train.. change its weights",
    Projected: "with one state dict answer differently.*register_buffer",
    Complex: "parameter 'phase' is complex.*view_as_real",
    Placed: "depends on its place in the batch",
    Remembering: "or on an earlier pass that the network remembers",
    Blind: "answers every image alike, 3 times",
    AlwaysDropping: "differently each time .* the forward of AlwaysDropping itself does; a dropout that is always on",
    DroppingPart: r"differently each time .*: layer 'noise' \(Noise\) does",
    Seldom: "differently each time",
    BatchNorm: r"depends on the other images .* layer 'norm' \(BatchNorm2d\) does; .* leak the membership of its batch",
    HiddenBatchNorm: r"depends on the other images .* layer 'norm' \(BatchNorm2d\)",
    Centred: "depends on the other images .* the forward of Centred itself does",
    Attending: "depends on the other images .* the forward of Attending itself",
    InPlace: "changes its images in place",
    Probable: "answers with probabilities .* leave out the softmax",
    Deciding: r"got int64 of shape \(4,\)",
    Half: "answers in bfloat16; answers must be float32",
    HalfParameters: "parameter 'head.weight' is float16; networks are trained and asked in float32",
    Squeezing: r"must answer one image with shape \(1, 3\), got float32 of shape \(3,\) \(a `squeeze",
    Detached: "cannot be trained: no parameter has a gradient",
    Maps: r"must answer 4 images with shape \(4, 3\), got float32 of shape \(4, 3, 8, 8\)",
    TwoHeads: r"got tuple \(0: float32 of shape \(4, 3\); 1: .* of which 0, 1 would do: let forward return the logits",
    Fixed: r"does not take 2 images of 1x8x8: RuntimeError: mat1 .* such as \{img_size: 8\}",
}


@pytest.fixture(autouse=True)
def zoo(monkeypatch):
    module = types.ModuleType("trial_zoo")
    for kind in [
        value
        for value in globals().values()
        if isinstance(value, type) and issubclass(value, nn.Module)
    ]:
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "trial_zoo", module)
    return module


def spec(kind, classes=CLASSES, **options):
    made = {"factory": f"trial_zoo:{kind.__name__}", **({"options": options} if options else {})}
    return ModelSpec("external", made, classes, 1, SIZE, (0.5,), (0.25,))


def images(records=60):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, records)
    pixels = rng.integers(0, 120, (records, 1, SIZE, SIZE)) + 40 * labels[:, None, None, None]
    return Images(pixels.astype(np.uint8), labels, ("a", "b", "c"), np.zeros(records, dtype=bool))


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.__name__)
def test_a_network_that_cannot_be_audited_is_refused_with_the_reason(kind):
    with pytest.raises(ModelError, match=REFUSED[kind]):
        fit(images(), np.arange(40), RECIPE, spec=spec(kind), seed=0)


def test_one_number_for_two_classes_is_refused_with_advice():
    with pytest.raises(ModelError, match="one number for two classes; give it two outputs"):
        build(spec(OneNumber, classes=2), seed=0)


@pytest.mark.parametrize(
    "kind", [AlwaysDropping, BatchNorm, Attending], ids=lambda kind: kind.__name__
)
def test_a_network_that_never_came_from_a_spec_is_tried_before_it_is_asked(kind):
    own = ModelSpec("mine", {}, CLASSES, 1, SIZE, (0.5,), (0.25,))
    with pytest.raises(ModelError, match=r"differently each time|depends on the other images"):
        answers(
            kind(CLASSES, 1),
            images(),
            np.arange(9),
            spec=own,
            queries=("identity",),
            batch=4,
            device="cpu",
        )


class Viewing(Base):
    def features(self, x):
        x = functional.max_pool2d(functional.relu(self.conv(x)), 2)
        return x.view(len(x), -1)


class MemoryOrder(Base):
    """Reads memory as it lies, and so gives other answers, and no error, in another order."""

    def features(self, x):
        x = functional.max_pool2d(functional.relu(self.conv(x)), 2)
        return x.as_strided((len(x), 64), (64, 1))


class Grouped(Base):
    """A norm of its own, over each image alone."""

    def features(self, x):
        x = self.conv(x)
        x = (x - x.mean(dim=(1, 2, 3), keepdim=True)) / (x.std(dim=(1, 2, 3), keepdim=True) + 1e-5)
        return functional.max_pool2d(x, 2).flatten(1)


class Convolutional(Base):
    def forward(self, x):
        return super().forward(x)[:, :, None, None]


class Mapped(Base):
    def forward(self, x):
        features = self.features(x)
        return {
            "features": features,
            "logits": self.head(features),
            "doubled": 2 * self.head(features),
        }


Output = namedtuple("Output", ["loss", "logits"])


class Named(Base):
    def forward(self, x):
        return Output(loss=None, logits=super().forward(x))


@dataclass
class Structure:
    hidden: torch.Tensor
    logits: torch.Tensor


class Structured(Base):
    def forward(self, x):
        return Structure(self.conv(x), super().forward(x))


class Auxiliary(Base):
    """Further heads in training mode, the main one last; the loss of the others would move `conv` otherwise."""

    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.drop = nn.Dropout(0.5)
        self.aux = nn.Linear(64, num_classes)

    def forward(self, x):
        features = self.features(x)
        main = self.head(self.drop(features)) if self.training else self.head(features)
        return (self.aux(features), main) if self.training else main


class TrainingMapping(Base):
    def forward(self, x):
        logits = super().forward(x)
        return {"out": logits, "aux": 2 * logits} if self.training else logits


class Lazy(Base):
    def __init__(self, num_classes, in_chans):
        super().__init__(num_classes, in_chans)
        self.head = nn.LazyLinear(num_classes)


HANDLED = (
    Base,
    Viewing,
    MemoryOrder,
    Grouped,
    Convolutional,
    Mapped,
    Named,
    Structured,
    Auxiliary,
    TrainingMapping,
    Lazy,
)


def plain_training(network, data, members):
    """The recipe on the main head's logits, in contiguous memory: what `fit` should come to."""
    order = torch.Generator().manual_seed(SEEDS[1])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    inputs = (torch.from_numpy(data.pixels[members]).float() / 255 - 0.5) / 0.25
    labels = torch.from_numpy(data.labels[members])
    for epoch in range(RECIPE.epochs):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + np.cos(np.pi * epoch / RECIPE.epochs)) / 2
        for chosen in torch.split(torch.randperm(len(members), generator=order), RECIPE.batch):
            optimizer.zero_grad()
            functional.cross_entropy(
                main_logits(network, inputs[chosen]), labels[chosen]
            ).backward()
            optimizer.step()
    return network.eval()


def main_logits(network, inputs):
    return network.head(network.features(inputs))


def seeds():
    from bitleak.core.seeds import seed_for

    return seed_for(0, "initialisation"), seed_for(0, "order")


SEEDS = seeds()


@pytest.mark.parametrize("kind", HANDLED, ids=lambda kind: kind.__name__)
def test_the_main_logits_are_trained_and_asked_in_the_order_that_the_network_works_in(
    kind, monkeypatch
):
    monkeypatch.setattr(
        nn.Dropout, "forward", lambda self, x: x
    )  # chance would differ from the plain loop
    data, members = images(), np.arange(48)
    trained = fit(data, members, RECIPE, spec=spec(kind), seed=0)
    torch.manual_seed(SEEDS[0])
    network = kind(CLASSES, 1)
    if kind is Lazy:
        network(torch.zeros(2, 1, SIZE, SIZE))
    expected = plain_training(network.train(), data, members)
    network = load(trained, allow_external=True)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    asked = {"spec": trained.spec, "queries": ("identity",), "batch": 7, "device": "cpu"}
    (found,) = answers(network, data, members, **asked)
    inputs = (torch.from_numpy(data.pixels[members]).float() / 255 - 0.5) / 0.25
    with torch.no_grad():
        torch.testing.assert_close(
            torch.from_numpy(found).float(), main_logits(expected, inputs), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize(
    ("kind", "same"), [(Base, True), (Viewing, False), (MemoryOrder, False), (Grouped, True)]
)
def test_the_order_of_memory_is_contiguous_where_channels_last_gives_anything_else(kind, same):
    found = trial_of(spec(kind))
    assert found.channels_last is same
    assert any("contiguous order" in note for note in found.notes) is not same


def test_a_note_says_which_heads_are_not_trained():
    (note,) = trial_of(spec(Auxiliary)).notes
    assert (
        note
        == "trial_zoo:Auxiliary returns further heads in training mode: 1 is trained, 0 are not"
    )


def test_a_trial_leaves_the_generator_and_the_network_that_is_made_alone():
    torch.manual_seed(7)
    expected = Base(CLASSES, 1)
    torch.manual_seed(7)
    found = build(spec(Base))
    assert found.training
    assert all(
        torch.equal(value, found.state_dict()[name])
        for name, value in expected.state_dict().items()
    )


def test_dropout_that_training_alone_turns_on_is_no_fault():
    class Dropping(Base):
        def forward(self, x):
            return self.head(functional.dropout(self.features(x), 0.5, training=self.training))

    sys.modules["trial_zoo"].Dropping = Dropping
    assert trial_of(spec(Dropping)).notes == ()


def test_names_of_modules_and_tensors_stay_where_the_logits_are_taken_from_an_output():
    network = build(spec(Mapped), seed=0)
    assert list(network.state_dict()) == list(Mapped(CLASSES, 1).state_dict())
    assert isinstance(network, Mapped)
    traced = torch.fx.symbolic_trace(network.eval())
    inputs = torch.randn(5, 1, SIZE, SIZE)
    assert torch.equal(traced(inputs), network(inputs))
    assert network(inputs).shape == (5, CLASSES)


def options_of(num_classes, in_chans, *, width=4, act="relu", size="small"):
    layers = [nn.Conv2d(in_chans, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(width, num_classes))


def any_keywords(**keywords):
    if "in_chans" in keywords:
        raise TypeError("Net.__init__() got an unexpected keyword argument 'in_chans'")
    return options_of(keywords["num_classes"], 1)


def with_width_before(num_classes, channels=(8, 16), in_channels=3):
    return options_of(num_classes, in_channels, width=channels[0])


def test_options_go_to_the_factory_and_the_shape_under_the_names_that_it_has():
    zoo = sys.modules["trial_zoo"]
    zoo.net, zoo.loose, zoo.wide = options_of, any_keywords, with_width_before

    def made(factory, **options):
        return build(
            ModelSpec(
                "external", {"factory": factory, "options": options}, 3, 1, 8, (0.5,), (0.2,)
            ),
            seed=0,
        )

    assert made("trial_zoo:net", width=7)[0].out_channels == 7
    assert made("trial_zoo:loose")[0].in_channels == 1
    wide = made("trial_zoo:wide")
    assert (wide[0].in_channels, wide[0].out_channels) == (1, 8)
    with pytest.raises(
        ModelError,
        match=r"unknown option of trial_zoo:net 'widht': did you mean 'width'. Known: act",
    ):
        made("trial_zoo:net", widht=7)
    with pytest.raises(ModelError, match="trial_zoo:net cannot be built: TypeError"):
        made("trial_zoo:net", width="wide")


@pytest.mark.parametrize("name", ["factory", "name"])
def test_weights_that_name_outside_code_are_not_loaded_unless_that_is_allowed(
    name, monkeypatch, tmp_path
):
    (tmp_path / "recording_zoo.py").write_text(
        "import pathlib\npathlib.Path(__file__).with_name('imported').touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "recording_zoo", raising=False)
    named = ModelSpec("external", {name: "recording_zoo:net"}, 3, 1, 8, (0.5,), (0.2,))
    from bitleak.models.weight_noise import noise_for

    for act in (load, lambda weights: noise_for(weights, 0)):
        with pytest.raises(
            ModelError,
            match="module 'recording_zoo' would be imported and 'recording_zoo:net' called",
        ):
            act(Weights({}, named))
    assert not (tmp_path / "imported").exists()
    with pytest.raises(ModelError, match="has no function or class 'net'"):
        load(Weights({}, named), allow_external=True)
    assert (tmp_path / "imported").exists()


def test_a_timm_whose_torchvision_does_not_fit_is_not_said_to_be_missing(monkeypatch, tmp_path):
    (tmp_path / "timm.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    external = ModelSpec("external", {"factory": "timm:resnet18"}, 3, 1, 8, (0.5,), (0.2,))
    with pytest.raises(
        ModelError, match=r"timm is installed, but .* must be the release made for PyTorch [\d.]+"
    ) as told:
        build(external)
    assert "install timm" not in str(told.value)


def test_the_state_of_a_network_that_returns_a_mapping_makes_the_round_trip():
    network = build(spec(Mapped), seed=0)
    again = load(Weights(state(network), spec(Mapped)), allow_external=True)
    inputs = torch.randn(2, 1, SIZE, SIZE)
    assert torch.equal(again(inputs), network.eval()(inputs))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_network_is_tried_in_training_where_the_caller_only_evaluates(context):
    class Fresh(Base):  # no trial of before is remembered for it
        pass

    sys.modules["trial_zoo"].Fresh = Fresh
    with context():
        assert build(spec(Fresh), seed=0)(torch.zeros(2, 1, SIZE, SIZE)).shape == (2, CLASSES)
