"""`bitleak ask`: the answers of networks, which `bitleak attack` reads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from bitleak.answers import read_answers
from bitleak.core.errors import BitleakError
from bitleak.core.signals import signals
from bitleak.core.spill import Scratch
from bitleak.core.types import ModelSpec, Splits, Weights
from bitleak.data import limited
from bitleak.data.digits import Digits
from bitleak.engine.worker import Runtime
from bitleak.models import build, state
from bitleak.query import outputs
from bitleak.single_network.answer_collection import collect_answers, prepare_answers
from bitleak.single_network.answer_request import AnswerRequest
from bitleak.steps.networks import query_network

SPEC = ModelSpec("mlp", {"hidden": [8]}, 10, 1, 8, (0.3,), (0.4,))


def silent(done, name):
    """Show nothing."""


@pytest.fixture
def networks(tmp_path):
    """Three files of weights of one network, with its standardisation and a data set of 100 digits."""
    for seed in range(3):
        save_file(state(build(SPEC, seed=seed)), tmp_path / f"net{seed}.safetensors")
    return AnswerRequest(
        weights=(tmp_path,),
        data="digits:limit=100",
        model="mlp:hidden=[8]",
        records="0:80",
        population="80:100",
        queries="identity,shift:1,0",
        mean="0.3",
        std="0.4",
    )


def changed(request, **fields):
    return AnswerRequest(**{**vars(request), **fields})


def run(request, out):
    out.mkdir(exist_ok=True)
    return collect_answers(prepare_answers(request), out, silent)


def files_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_answers_are_bit_for_bit_those_of_an_audit_and_are_read_by_attack(networks, tmp_path):
    """A network with batch norms, which an audit folds."""
    spec = ModelSpec("cnn", {"width": 4}, 10, 1, 8, (0.3,), (0.4,))
    (tmp_path / "cnns").mkdir()
    for seed in range(2):
        save_file(state(build(spec, seed=seed)), tmp_path / "cnns" / f"{seed}.safetensors")
    member = np.arange(80) % 2 == np.array([[0], [1]])
    np.save(tmp_path / "member.npy", member)
    request = changed(
        networks,
        weights=(tmp_path / "cnns",),
        model="cnn:width=4",
        members=(tmp_path / "member.npy",),
    )
    run(request, tmp_path / "asked")
    images = limited(Digits().load(None), 100, 0)
    none = np.arange(0)
    splits = Splits(
        "dedicated", np.arange(80), member, np.arange(2), none, np.arange(80, 100), none
    )

    with Scratch(tmp_path) as scratch:
        answers = read_answers(tmp_path / "asked", scratch)
        assert (answers.kind, answers.records, answers.queries) == ("logits", 80, 2)
        assert np.array_equal(answers.member, member)
        for seed in range(2):
            network = query_network(Weights(state(build(spec, seed=seed)), spec), Runtime())
            expected = outputs(
                network, images, splits, spec=spec, queries=("identity", "shift:1,0"), test=False
            )
            for query in range(2):
                pool = signals(answers.pool[seed][:, query].astype(np.float64), answers.labels)
                assert np.array_equal(pool, expected.signals[:, query])
                logits = answers.population[seed][:, query].astype(np.float64)
                outside = signals(logits, answers.population_labels)
                assert np.array_equal(outside, expected.population_signals[:, query])


def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_bytes(networks, tmp_path):
    np.save(tmp_path / "members.npy", np.arange(80) < np.array([[20], [40], [60]]))
    request = changed(networks, members=(tmp_path / "members.npy",))
    _, before = run(request, tmp_path / "whole")
    assert before == 0

    def stop(done, name):
        if name.startswith("net1"):
            raise KeyboardInterrupt

    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        collect_answers(prepare_answers(request), tmp_path / "out", stop)
    assert not list((tmp_path / "out").glob("*.npy"))
    accuracies, before = run(request, tmp_path / "out")
    assert before == 1
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [
        "answers.json", "labels.npy", "logits.npy", "member.npy", "population_labels.npy", "population_logits.npy",
    ]  # fmt: skip
    assert run(request, tmp_path / "out") == (accuracies, 3)

    # Accuracy over the members that the matrix names.
    logits, labels = np.load(tmp_path / "out/logits.npy"), np.load(tmp_path / "out/labels.npy")
    right = logits[1, :, 0].argmax(axis=1) == labels
    assert accuracies[1].members == right[:40].mean()
    assert accuracies[1].others == right[40:].mean()


def test_rows_that_changed_and_other_requests_are_refused(networks, tmp_path):
    out = tmp_path / "out"
    run(networks, out)
    with pytest.raises(
        BitleakError, match="to another request, which differs in queries; give another"
    ):
        run(changed(networks, queries="identity"), out)
    with pytest.raises(BitleakError, match="differs in networks"):
        run(changed(networks, std="0.41"), out)
    for name in ("logits", "population_logits"):
        (out / f"{name}.npy").rename(out / f"{name}.npy.part")
    with (out / "logits.npy.part").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\0")
    with pytest.raises(BitleakError, match="row 2 of logits has changed since it was written"):
        run(networks, out)
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "logits.npy", np.zeros(3))
    with pytest.raises(BitleakError, match=r"holds logits\.npy, which is not of `bitleak ask`"):
        run(networks, tmp_path / "other")


def test_a_checkpoint_is_read_without_running_code(networks, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for seed in range(3):
        tensors = build(SPEC, seed=seed).state_dict()
        wrapped = {f"module.{name}": tensor for name, tensor in tensors.items()}
        torch.save({"state_dict": wrapped, "epoch": 3}, tmp_path / "checkpoints" / f"net{seed}.pt")
    job = prepare_answers(changed(networks, weights=(tmp_path / "checkpoints",)))
    assert job.digests == prepare_answers(networks).digests
    read = next(note for note in job.notes if note.startswith("weights: "))
    assert "the state dict is read from 'state_dict'" in read
    assert "module." in read
    torch.save({"state_dict": print}, tmp_path / "checkpoints" / "net3.pt")
    with pytest.raises(BitleakError, match=r"net3\.pt: holds Python objects besides tensors"):
        prepare_answers(changed(networks, weights=(tmp_path / "checkpoints",)))


def test_members_are_marks_or_numbers_for_all_networks_or_one_by_one(networks, tmp_path):
    expected = np.zeros((3, 80), bool)
    expected[0, :20], expected[1, 5:9], expected[2, ::2] = True, True, True
    whole = np.zeros(100, bool)
    whole[:80] = expected[2]
    arrays = {"matrix": expected, "a": expected[0], "b": np.array([8, 5, 6, 7]), "c": whole}
    paths = {}
    for name, array in arrays.items():
        paths[name] = tmp_path / f"{name}.npy"
        np.save(paths[name], array)
    for members in ((paths["matrix"],), (paths["a"], paths["b"], paths["c"])):
        job = prepare_answers(changed(networks, members=members))
        assert np.array_equal(job.records.member, expected)


WRONG = {
    "no such weights": ({"weights": ("nowhere",)}, r"--weights nowhere: no such file or folder"),
    "no weights in it": ({"weights": ("empty",)}, r"neither a store's result nor a folder of \*.safetensors, \*.pt"),
    "weights twice": (
        {"weights": ("net0.safetensors", "net0.safetensors")},
        "is there twice; a model would be its own reference",
    ),
    "the same numbers": (
        {"weights": ("net0.safetensors", "empty/../copy/net.safetensors")},
        "holds the same numbers as .*net0.safetensors",
    ),
    "weights of another network": ({"model": "mlp:hidden=[9]"}, r"net0.safetensors: tensor 'linear1.weight'"),
    "no model": ({"model": None}, "--model: missing; a .safetensors file does not say"),
    "a query": ({"queries": "identity,turn"}, "--queries: query must be 'identity', 'flip' or"),
    "records": ({"records": "0:101"}, "--records: expected a range within 0:100"),
    "a word": ({"records": "some"}, "--records: expected train, held_out, all, none, a range such as 0:500"),
    "none": ({"records": "none"}, "--records none: no record of the data set"),
    "overlap": ({"population": "70:90"}, "--population: 10 records are among --records too, such as 70"),
    "members of another length": ({"members": ("long.npy",)}, "expected a row for each of the 3 networks, got"),
    "marks of another length": (
        {"members": ("short.npy",) * 3},
        "network 0: expected a mark for each of the 80 audited records or of the 100 records .*got \\(7,\\)",
    ),
    "numbers from 1": ({"members": ("beyond.npy",) * 3}, "record numbers must be from 0 to 99, got 100"),
    "members in the population": (
        {"members": ("inside.npy",) * 3},
        "network 0: 2 members are in --population, such as record 85",
    ),
    "zeros and ones": (
        {"members": ("integers.npy",) * 3},
        "truth values stored as integers; store them as truth values .array.astype.bool..",
    ),
    "two files": ({"members": ("inside.npy",) * 2}, "--members: give one file for all 3 networks, or one for each"),
    "a float": ({"members": ("float.npy",) * 3}, "expected integers .records., the numbers of records, or bool"),
    "a pickle": ({"members": ("pickle.npy",) * 3}, "pickle"),
    "mean alone": ({"std": None}, "--mean and --std go together"),
    "another data set": ({"data": "digit"}, "unknown data set 'digit': did you mean 'digits'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_refused_before_a_network_is_evaluated(networks, tmp_path, name, monkeypatch):
    fields, message = WRONG[name]
    (tmp_path / "empty").mkdir()
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "net.safetensors").write_bytes(
        (tmp_path / "net0.safetensors").read_bytes()
    )
    np.save(tmp_path / "long.npy", np.ones((4, 80), bool))
    np.save(tmp_path / "short.npy", np.ones(7, bool))
    np.save(tmp_path / "beyond.npy", np.arange(1, 101))
    np.save(tmp_path / "inside.npy", np.array([3, 85, 86]))
    np.save(tmp_path / "float.npy", np.ones(80))
    np.save(tmp_path / "integers.npy", np.arange(80) % 2)
    np.save(tmp_path / "pickle.npy", np.array([print], object), allow_pickle=True)
    monkeypatch.chdir(tmp_path)
    for key in ("weights", "members"):
        if key in fields:
            fields = {**fields, key: tuple(map(Path, fields[key]))}
    with pytest.raises(BitleakError, match=message):
        prepare_answers(changed(networks, **fields))


def test_networks_that_guess_are_noticed(bitleak, networks):
    code, out, err = bitleak(
        "ask",
        "--weights",
        ".",
        "--data",
        "digits:limit=100",
        "--model",
        "mlp:hidden=[8]",
        "--out",
        "asked",
    )
    assert code == 0, out + err
    assert "net1.safetensors: accuracy others" in out
    assert "networks, such as net0.safetensors, are not clearly above the share" in out
    assert "note: no --members: `bitleak attack` needs member.npy" in out
    code, out, err = bitleak(
        "ask", "--weights", "net0.safetensors", "--data", "digits", "--out", "x"
    )
    assert code == 2
    assert "--model: missing" in err


def test_the_labels_of_a_data_set_with_a_limit_are_those_of_its_records(networks, tmp_path):
    run(networks, tmp_path / "out")
    images = limited(Digits().load(None), 100, 0)
    assert np.array_equal(np.load(tmp_path / "out/labels.npy"), images.labels[:80])
    assert np.array_equal(np.load(tmp_path / "out/population_labels.npy"), images.labels[80:])
