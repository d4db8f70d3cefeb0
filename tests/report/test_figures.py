from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.markers import CARETDOWNBASE
from matplotlib.text import Text

from bitleak.core.types import Measure, Row
from bitleak.report import RocCurve, tabulate
from bitleak.report.figures import FigureData, draw, load_figures
from bitleak.report.figures.bars import draw_bars
from bitleak.report.figures.roc_curves import draw_roc
from bitleak.report.figures.style import COLOURS, INK, accuracy_axis, colours, settings
from bitleak.report.figures.tradeoff import draw_tradeoff


@pytest.fixture
def style():
    with matplotlib.rc_context(settings()):
        yield


def texts_overlap(figure):
    """Names of tick labels, titles and legend entries whose boxes overlap, in a drawn figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    hidden = {
        id(label)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for label in _hidden(axis)
    }
    found = [text for text in figure.findobj(Text) if text.get_visible() and id(text) not in hidden]
    shown = [text for text in found if text.get_text().strip()]
    boxes = [text.get_window_extent(renderer) for text in shown]
    return [
        (shown[i].get_text(), shown[j].get_text())
        for i in range(len(boxes))
        for j in range(i)
        if boxes[i].overlaps(boxes[j]) and shown[i].get_text() != shown[j].get_text()
    ]


def _hidden(axis):
    """Labels of ticks outside the view, which Matplotlib keeps without drawing them."""
    low, high = sorted(axis.get_view_interval())
    outside = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
    return [label for tick in outside for label in (tick.label1, tick.label2)]


def test_drawing_leaves_global_settings_alone(make):
    with matplotlib.rc_context({"font.size": 17.0}):
        rows = make.rows()
        draw(FigureData(tabulate(rows), [], make.summary(rows)), load_figures())
        assert matplotlib.rcParams["font.size"] == 17.0


def test_no_labels_overlap(rows, curves, summary, style):
    data = FigureData(tabulate(rows), curves, summary)
    for figure in (draw_tradeoff(data), draw_roc(data), draw_bars(data)):
        assert texts_overlap(figure) == []


def test_every_precision_is_drawn_where_it_was_measured(rows, summary, style):
    table = tabulate(rows)
    figure = draw_tradeoff(FigureData(table, [], summary))
    places = np.concatenate([line.get_xydata() for line in figure.axes[2].lines])
    for variant in table.quantized:
        rate = table.find(variant, "tpr@0.01", summary.headline_attack, "matched").value
        accuracy = 100 * table.find(variant, "test_accuracy").value
        assert np.any(np.all(np.isclose(places, [accuracy, rate]), axis=1)), str(variant)


def test_a_rate_of_zero_is_a_hollow_marker_at_its_upper_limit(rows, summary, style):
    table = tabulate(rows)
    coarse = replace(summary, headline_fpr=0.001)
    measure = table.find("rtn-1.58", "tpr@0.001", summary.headline_attack, "matched")
    assert measure.value == 0
    axes = draw_tradeoff(FigureData(table, [], coarse)).axes[2]
    hollow = [
        line
        for line in axes.lines
        if line.get_markerfacecolor() == "none" and line.get_marker() == "^"
    ]
    assert [float(line.get_ydata()[0]) for line in hollow] == [measure.high]
    arrows = [line for line in axes.lines if line.get_marker() == CARETDOWNBASE]
    assert [float(line.get_ydata()[0]) for line in arrows] == [
        pytest.approx(measure.high * (1 - 1 / 2.2))
    ]
    assert {to_hex(line.get_markerfacecolor()) for line in arrows} == {COLOURS["rtn"]}
    assert not any(line.get_markerfacecolor() == "none" and line.get_marker() == "^"
                   for line in draw_tradeoff(FigureData(table, [], summary)).axes[2].lines)  # fmt: skip


def test_a_quantizer_keeps_its_colour_whatever_else_is_audited(rows, make):
    everything = colours(tabulate(rows))
    alone = colours(tabulate(make.rows(names=("obc-2", "obc", "a"))))
    assert alone["obc", ""] == everything["obc", ""] == COLOURS["obc"]
    assert len(set(everything.values())) == 4
    assert to_hex(INK) not in everything.values()


def test_suffixes_of_one_quantizer_are_families_of_their_own(make):
    rows = [*make.rows(names=("obc-2+last8", "obc", "a")),
            Row("obc-2+last4", "obc", 4, "a", "fp32", "all", "auc", Measure(0.6))]  # fmt: skip
    table = tabulate(rows)
    assert list(table.families) == [("obc", "last8"), ("obc", "last4")]
    assert [table.label(variant) for variant in table.quantized] == ["obc+last8", "obc+last4"]
    assert len(set(colours(table).values())) == 2
    assert tabulate(rows[:-1]).label(table.quantized[0]) == "obc"


def test_a_roc_curve_enters_at_the_left_edge_with_its_rate_there(make, style):
    rows = make.rows()
    summary = make.summary(rows, non_members=100)
    points = np.array([[0.0, 0.0], [0.0, 0.2], [0.005, 0.3], [0.02, 0.4], [1.0, 1.0]])
    table = tabulate(rows)
    curve = RocCurve("rtn-2", "rtn", 4, "lira-online-fixed", "fp32", "all", points)
    figure = draw_roc(FigureData(table, [curve], replace(summary, fprs=(0.01,))))
    drawn = [line.get_xydata() for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    np.testing.assert_allclose(drawn, [[[0.01, 0.3], [0.02, 0.4], [1.0, 1.0]]])


@pytest.mark.parametrize(
    ("low", "high"), [(9.8, 99.1), (71.2, 71.9), (50.0, 50.0), (0.0, 100.0), (62.0, 70.0)]
)
def test_an_accuracy_axis_ascends_and_has_labels_within_it(low, high, style):
    axes = Figure().subplots()
    accuracy_axis(axes, low, high)
    left, right = axes.get_xlim()
    ticks = axes.xaxis.get_major_locator()()
    assert left < low <= high < right
    assert len(ticks) >= 2
    assert all(left <= tick <= right for tick in ticks)
    assert np.all(np.diff(axes.transData.transform([[tick, 1] for tick in ticks])[:, 0]) > 0)


def test_audits_with_hardly_anything_to_draw_are_drawn(make):
    rows = [row for row in make.rows() if row.variant == "fp32"]
    drawn = draw(FigureData(tabulate(rows), [], make.summary(rows)), load_figures())
    assert [image.figure.name for image in drawn] == ["tradeoff", "roc", "bars"]
