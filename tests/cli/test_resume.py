"""What an audit takes over: results brought from elsewhere; and what it leaves when there are limits."""

import shutil

import pytest
import yaml


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_config, undrawn):
    """Config, store and output folder of a finished audit without much to do."""
    from bitleak.cli import main

    folder = tmp_path_factory.mktemp("undisturbed")
    config = {
        **tiny_config,
        "quantize": [{"name": "rtn", "levels": 4}],
        "attacks": ["threshold", "lira-online-fixed"],
    }
    (folder / "config.yaml").write_text(
        yaml.safe_dump({**config, "train": {"epochs": 1, "batch": 32, "augment": []}})
    )
    arguments = ["--out", folder / "out", "--store", folder / "store", "--executor", "serial"]
    with undrawn():
        assert main(["audit", str(folder / "config.yaml"), *map(str, arguments)]) == 0
    return folder


@pytest.mark.usefixtures("without_figures")
def test_answers_brought_from_elsewhere_need_no_weights(undisturbed, bitleak, tmp_path):
    config = undisturbed / "config.yaml"
    stages = ["--stage", "query", "--stage", "weigh"]
    parts = ["--audit", config, *stages, "--max-bytes", "150k", "--store", undisturbed / "store"]
    code, out, _ = bitleak("store", "export", tmp_path / "x.tar", *parts)
    files = sorted(tmp_path.glob("x*.tar"))
    assert code == 0
    assert len(files) > 1
    assert all(str(path) in out and path.stat().st_size <= 150_000 for path in files)
    assert "tasks of the audit are done here" in out
    code, out, _ = bitleak("store", "import", *files, "--store", tmp_path / "store")
    assert code == 0
    assert out.startswith("16 results taken (")
    options = ["--store", tmp_path / "store", "--out", tmp_path / "out", "--executor", "serial"]
    assert bitleak("audit", config, *options)[0] == 0
    assert (tmp_path / "out" / "results.csv").read_bytes() == (
        undisturbed / "out" / "results.csv"
    ).read_bytes()
    assert not list((tmp_path / "store").glob("train/*/*"))
    assert not list((tmp_path / "store").glob("quantize/*/*"))


def test_an_audit_without_time_leaves_with_code_3_and_says_what_is_left(
    undisturbed, bitleak, tmp_path
):
    options = ["--store", tmp_path / "store", "--out", tmp_path / "out", "--executor", "serial"]
    code, out, err = bitleak("audit", undisturbed / "config.yaml", *options, "--budget", "1ms")
    assert code == 2
    assert "--budget must be a time such as 9m" in err
    code, out, _ = bitleak("audit", undisturbed / "config.yaml", *options, "--budget", "0.001s")
    assert code == 3
    assert "time is up: 0 tasks done" in out
    assert "6 train" in out
    assert not (tmp_path / "out" / "results.csv").exists()


@pytest.mark.usefixtures("without_figures")
def test_an_audit_that_is_done_needs_no_time(undisturbed, bitleak, tmp_path):
    options = [
        "--store",
        undisturbed / "store",
        "--out",
        tmp_path / "out",
        "--budget",
        "0.001s",
        "--memory",
        "1M",
    ]
    assert bitleak("audit", undisturbed / "config.yaml", *options)[0] == 0
    assert (tmp_path / "out" / "results.csv").read_bytes() == (
        undisturbed / "out" / "results.csv"
    ).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["audit", "config.yaml", "--memory", "lots"],
            "--memory must be a size such as 8G, 512M or 1.5GiB, got 'lots'",
        ),
        (["audit", "config.yaml", "--memory", "0"], "--memory must be a size"),
        (
            ["audit", "config.yaml", "--budget", "soon"],
            "--budget must be a time such as 9m, 90s or 1h30m, got 'soon'",
        ),
        (["store", "export", "x.tar", "--max-bytes", "-1"], "--max-bytes must be a size"),
        (
            ["store", "export", "x.tar", "--stage", "querry"],
            "unknown stage 'querry': did you mean 'query'?",
        ),
        (
            ["store", "import", "none.tar"],
            "none.tar is not a tar file that can be read (No such file or directory)",
        ),
    ],
)
def test_amounts_and_names_that_are_none_are_refused(
    undisturbed, bitleak, tmp_path, arguments, message
):
    shutil.copy(undisturbed / "config.yaml", tmp_path)
    code, _, err = bitleak(*arguments, "--store", undisturbed / "store")
    assert code == 2
    assert message in err
    assert "Traceback" not in err
