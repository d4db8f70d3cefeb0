"""Every figure of the registry, and figures from outside."""

import shutil
import sys
from types import ModuleType

import matplotlib
import pytest
from matplotlib.figure import Figure

from bitleak import registry
from bitleak.core.types import Measure, Row
from bitleak.report import FigureData, PowerRow, ReportFigure, tabulate, write_report
from bitleak.report.figures import draw, load_figures
from bitleak.report.figures.style import settings


def made_power():
    rows = []
    for index, attack in enumerate(("lira-online-fixed", "rmia-online", "reference")):
        for count in (1, 2, 4):
            area = Measure(0.6 + 0.01 * count + 0.02 * index, 0.55, 0.75)
            rows.append(PowerRow("fp32", attack, "fp32", count, "all", "auc", area))
    return rows


def made_channels():
    """Two variants through three channels, under an attack with references."""
    rows = []
    for variant, kind in (("fp32", "fp32"), ("rtn-4", "matched")):
        for place, channel in enumerate(("logits", "round-2", "label")):
            for reference in (kind, f"unadapted:{kind}")[: 1 if channel == "logits" else 2]:
                name, area = f"{channel}@{variant}", 0.7 - 0.05 * place - 0.02 * (reference != kind)
                measure = Measure(area, area - 0.02, area + 0.02)
                rows.append(
                    Row(name, "", None, "lira-online-fixed", reference, "all", "auc", measure)
                )
    return rows


@pytest.fixture(scope="module")
def large(rows, curves, summary):
    return FigureData(tabulate([*rows, *made_channels()]), curves, summary, made_power())


@pytest.fixture
def empty(make):
    """Full precision under one attack, without curves, accuracy or intervals."""
    rows = [row for row in make.rows() if row.variant == "fp32" and row.metric == "auc"]
    return FigureData(tabulate(rows), [], make.summary(rows))


@pytest.fixture
def outside(monkeypatch):
    """A module with figures, as a package of somebody else has it."""
    module = ModuleType("figures_of_tests")
    module.GAP = ReportFigure("gap", "The gap <in a box>.", lambda data: Figure(figsize=(2, 1)))
    module.NOTHING = ReportFigure("nothing", "Nothing to show.", lambda data: None)
    module.SAME = ReportFigure("roc", "Named as another figure is.", lambda data: Figure())
    module.BROKEN = ReportFigure("broken", "A bug.", lambda data: 1 / 0)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.mark.parametrize("name", registry.FIGURES)
def test_a_figure_has_the_name_of_its_line_and_a_caption(name):
    figure = registry.find(registry.FIGURES, name, kind="figure")
    assert figure.name == name
    assert figure.caption.endswith(".")


@pytest.mark.parametrize("name", registry.FIGURES)
def test_a_large_audit_is_drawn_and_a_bare_one_drawn_or_left_out(name, large, empty):
    figure = registry.find(registry.FIGURES, name, kind="figure")
    with matplotlib.rc_context(settings()):
        assert any(axes.has_data() for axes in figure.draw(large).axes)
        assert figure.draw(empty) is None or figure.draw(empty).axes


@pytest.mark.parametrize("name", registry.FIGURES)
def test_the_same_results_give_the_same_bytes(name, large):
    figure = registry.find(registry.FIGURES, name, kind="figure")
    assert draw(large, [figure]) == draw(large, [figure])


def test_a_figure_with_a_line_in_the_registry_is_in_the_report(
    monkeypatch, outside, folder, tmp_path
):
    folder = shutil.copytree(folder, tmp_path / "out")
    added = {"gap": "figures_of_tests:GAP", "nothing": "figures_of_tests:NOTHING"}
    monkeypatch.setattr(registry, "FIGURES", {"roc": registry.FIGURES["roc"], **added})
    write_report(folder)
    page = (folder / "report.html").read_text()
    assert '<figcaption id="caption-gap">The gap &lt;in a box&gt;.</figcaption>' in page
    assert "caption-nothing" not in page
    assert (folder / "figures" / "gap.svg").read_bytes().startswith(b"<?xml")
    assert not (folder / "figures" / "nothing.svg").exists()
    monkeypatch.delitem(registry.FIGURES, "nothing")
    monkeypatch.setitem(registry.FIGURES, "gap", "figures_of_tests:NOTHING")
    write_report(folder)  # the files of a figure that is not drawn any more go
    assert not (folder / "figures" / "gap.svg").exists()


def test_a_figure_of_the_name_of_another_is_refused(outside):
    with pytest.raises(ValueError, match="there is another figure named 'roc'; rename one"):
        load_figures_with(outside, "SAME")


def test_something_else_than_a_figure_is_refused(outside):
    outside.TEXT = "text"
    with pytest.raises(ValueError, match="expected a ReportFigure, got str"):
        load_figures_with(outside, "TEXT")


def load_figures_with(module, name):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.FIGURES, "added", f"{module.__name__}:{name}")
        return load_figures()


def test_an_error_in_a_drawing_names_the_figure(outside, empty):
    with pytest.raises(ZeroDivisionError) as raised:
        draw(empty, [outside.BROKEN])
    assert raised.value.__notes__ == ["(while the figure 'broken' was drawn)"]


@pytest.mark.parametrize(
    ("name", "caption"), [("", "A."), ("A b", "A."), ("../a", "A."), ("a", " ")]
)
def test_a_figure_needs_a_file_name_and_a_caption(name, caption):
    with pytest.raises(ValueError, match=r"name of a figure must be|must have a caption"):
        ReportFigure(name, caption, lambda data: None)


def test_a_figure_from_outside_needs_no_line(outside, folder, tmp_path):
    folder = shutil.copytree(folder, tmp_path / "out")
    write_report(folder, figures=["figures_of_tests:GAP"])
    assert "The gap &lt;in a box&gt;." in (folder / "report.html").read_text()
    assert (folder / "figures" / "gap.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="figure 'figures_of_tests:MISSING'"):
        write_report(folder, figures=["figures_of_tests:MISSING"])
