"""What a plan says before anything is done."""

import numpy as np


def test_a_url_of_a_store_is_taken_as_it_is(bitleak, tiny):
    code, _, err = bitleak(
        "audit", "config.yaml", "--store", "nonsense://bucket/prefix", config=tiny
    )
    assert code == 2
    assert "error: store nonsense://bucket/prefix: unknown protocol nonsense://" in err


def test_a_plan_says_what_more_workers_are_worth(bitleak, tiny):
    found = [
        bitleak("plan", "config.yaml", "--workers", str(workers), config=tiny)[1]
        for workers in (1, 4)
    ]
    assert "on 1 worker (at the rates" in " ".join(found[0].split())
    assert "on 4 workers (at the rates" in " ".join(found[1].split())


def test_gpu_hours_can_be_planned_without_a_gpu(bitleak, tiny):
    code, out, _ = bitleak("plan", "config.yaml", "--device", "cuda", config=tiny)
    assert code == 0
    assert "GPU hours in all" in " ".join(out.split())


def test_a_download_is_announced_before_it_happens(bitleak, tiny, monkeypatch):
    def offline(name, revision):
        print("asks the Hub")
        raise ConnectionError("no network")

    monkeypatch.setattr("datasets.load_dataset", offline)
    said = "data: nobody/nothing is no folder here: downloads it from the Hub unless it is cached\nasks the Hub\n"
    hub = {**tiny, "data": {"name": "hub", "path": "nobody/nothing"}}
    quantizer = ("--quantizer", "rtn", "--levels", "3", "--model", "cnn", "--out", "out")
    for arguments in (
        ("plan", "config.yaml"),
        ("audit", "config.yaml"),
        ("quantize", "--weights", "w.safetensors", "--data", "hub:nobody/nothing", *quantizer),
    ):
        code, out, err = bitleak(*arguments, config=hub)
        assert code == 2
        if arguments[0] == "quantize":
            assert out == said.replace("asks the Hub\n", "")  # the weights are missing
        else:
            assert out == said
            assert "cannot be read from the Hub: no network" in err


def test_an_external_network_of_other_classes_is_refused_with_the_numbering(
    bitleak, tiny, tmp_path, monkeypatch
):
    (tmp_path / "fixed_of_test.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 256))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (200, 8, 8), np.uint8)
    np.savez(tmp_path / "d.npz", pixels=pixels, labels=np.where(np.arange(200) % 2, 255, 0))
    network = {"name": "external", "factory": "fixed_of_test:net"}
    config = {**tiny, "model": network, "data": {"name": "arrays", "path": "d.npz"}, "quantize": []}
    code, _, err = bitleak("plan", "config.yaml", config=config)
    assert code == 2
    assert "(0, 255) were sorted and numbered from 0 to 1" in err
    code, out, err = bitleak("plan", "config.yaml", "--set", "data.classes=256", config=config)
    assert code == 0, err
    assert "data: 254 of the 256 classes have no image" in out
