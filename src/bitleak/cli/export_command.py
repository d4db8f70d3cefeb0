"""`bitleak export`: a network as a file for a runtime."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bitleak.single_network.exported_files import ExportedFile

Opset = Annotated[
    int | None,
    typer.Option(
        "--opset",
        help="ONNX operators, 21 to 25; 25 if codes fit into 2 bits, else 21, unless given.",
    ),
]


def export_weights_file(
    weights: Annotated[
        Path,
        typer.Option(
            "--weights",
            help="A file of the pair NAME-LEVELS.safetensors/.json, or a store's train or quantize result.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The file to write, such as net.onnx.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="package.module:factory or timm:NAME, if the weights name it."
        ),
    ] = None,
    opset: Opset = None,
) -> int:
    """Write a network as ONNX, codes packed, and compare the file's answers with the network's."""
    from bitleak.single_network.exported_files import check_export, read_exportable, write_exported

    check_export(out, opset)
    print_exported(write_exported(read_exportable(weights, model), out, opset=opset))
    return 0


def print_exported(file: "ExportedFile") -> None:
    """Print size, types and the comparison of one file."""
    exported = file.exported
    widths = sorted(set(exported.bits.values()))
    types = ", ".join(f"UINT{bits}" for bits in widths) or "no codes"
    print(
        f"{file.path}: {len(exported.content):,} bytes (weights as tables count them: {file.claimed:,}), "
        f"opset {exported.opset}, {types}"
    )
    for note in exported.notes:
        print(f"note: {note}")
    if file.difference is None:
        print("note: not compared with the network; ONNX Runtime is not installed (bitleak[onnx])")
    else:
        print(
            f"{file.facts['runtime']}: logits within {file.difference:.2g} of the network's, "
            f"{file.changed} predictions changed"
        )
