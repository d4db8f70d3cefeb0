"""The page's table of variants that are files: runtime, arithmetic, and bytes next to those claimed."""

from bitleak.core.types import CUT_SUMS
from bitleak.report import format as text
from bitleak.report.page_tables import Cell, PageTable
from bitleak.report.summary import FileSummary, Summary

NOTE = (
    "Files of the first target. Bytes on disk hold the graph too; those of the layers are codes, scales and float "
    "weights as stored, and next to them with log2(levels) bits per code, as the tables of variants count them."
)

CUT_NOTE = (
    " On the processor of this audit ONNX Runtime cuts sums of two 8-bit products to 16 bits, as on any x86 processor "
    "without VNNI instructions: on others, {files} may answer otherwise, and leak otherwise."
)

HEADER = (
    "variant",
    "runtime",
    "optimisation",
    "arithmetic",
    "levels counted",
    "activations",
    "bytes on disk",
    "bytes of layers, stored",
    "bytes of layers, counted",
    "layers in full precision",
)


def file_table(summary: Summary) -> PageTable | None:
    """Make the table; None if no variant is a file."""
    if not summary.files:
        return None
    cut = [file.name for file in summary.files if file.arithmetic == CUT_SUMS]
    note = NOTE + (CUT_NOTE.format(files=text.listed(cut)) if cut else "")
    return PageTable("Files in their runtimes", note, HEADER, tuple(map(_line, summary.files)))


def _line(file: FileSummary) -> tuple[str, tuple[Cell, ...]]:
    left = f"{len(file.float_layers)}" if file.float_layers else "none"
    cells = (
        Cell(file.runtime, file.provider),
        Cell(file.optimisation or text.DASH),
        Cell(file.arithmetic or text.DASH),
        Cell(str(file.levels or text.DASH)),
        Cell("quantized" if file.quantized_activations else "float"),
        Cell(f"{file.bytes:,}"),
        Cell(_bytes(file.layer_bytes)),
        Cell(_bytes(file.coded_bytes)),
        Cell(left, ", ".join(file.float_layers)),
    )
    return file.name, cells


def _bytes(count: int | None) -> str:
    return text.DASH if count is None else f"{count:,}"
