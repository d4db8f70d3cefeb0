"""The interactive charts of the page, as Vega-Lite specifications made of plain data.

The page draws them with the copies of Vega and Vega-Lite in `report/vega`, which it holds itself.
Colours are the page's CSS variables, so that a chart follows the page in the dark and in print.
"""

from bitleak.report.charts.by_adversary import adversaries_chart
from bitleak.report.charts.loss_and_leakage import limits_chart
from bitleak.report.charts.roc_with_bands import curves_chart

__all__ = ["adversaries_chart", "curves_chart", "limits_chart"]
