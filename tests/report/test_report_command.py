"""`bitleak report`: text for a person and for a model card, and figures as PDF."""

import shutil

import pytest
import yaml

from bitleak.cli import main


@pytest.fixture
def run(folder, tmp_path):
    for name in ("results.parquet", "roc.parquet", "summary.json"):
        shutil.copy(folder / name, tmp_path)
    return tmp_path


def test_text_goes_to_the_terminal_and_writes_nothing(run, capsys):
    before = sorted(path.name for path in run.iterdir())
    assert main(["report", str(run), "--format", "md"]) == 0
    assert capsys.readouterr().out.startswith("# cifar10-small\n\nShipped at ")
    assert main(["report", str(run), "--format", "card"]) == 0
    [model] = yaml.safe_load(capsys.readouterr().out)["model-index"]
    assert len(model["results"]) == 13
    assert sorted(path.name for path in run.iterdir()) == before


def test_figures_are_pdfs_too_if_asked_for_and_gone_if_not(run, capsys):
    assert main(["report", str(run), "--pdf"]) == 0
    names = ("tradeoff", "roc", "bars")
    assert all((run / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF") for name in names)
    assert b"CreationDate" not in (run / "figures" / "roc.pdf").read_bytes()
    assert main(["report", str(run)]) == 0
    assert not list((run / "figures").glob("*.pdf"))
    assert (run / "figures" / "roc.svg").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "pdf"], "--format: expected html, md, card, got 'pdf'"),
        (["--format", "md", "--pdf"], "--figure and --pdf need --format html, got md"),
    ],
)
def test_what_does_not_fit_together_is_refused(run, capsys, options, message):
    assert main(["report", str(run), *options]) == 2
    assert message in capsys.readouterr().err
