"""`bitleak quantize`: one trained network, quantized, measured and written to files."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bitleak.cli.export_command import Opset, print_exported
from bitleak.cli.options import Device, Mean, Std


def quantize_network(
    weights: Annotated[
        Path,
        typer.Option(
            "--weights",
            help="A .safetensors state dict, or the folder of a trained model in a store.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="NAME:OPTIONS (digits, hub:PATH, arrays:FILE,limit=500), or a local path.",
        ),
    ],
    quantizer: Annotated[
        str, typer.Option("--quantizer", help="A name that `bitleak list` shows.")
    ],
    levels: Annotated[
        str, typer.Option("--levels", help="Grid points per weight, 2 to 256, such as 16,4,3.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for codes, state dicts and tables.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="cnn:width=16, resnet18, timm:NAME, package.module:factory; a store's weights say it.",
        ),
    ] = None,
    last: Annotated[
        int | None,
        typer.Option("--last", help="Levels of the last layer; as the rest unless given."),
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", help="A preset of the quantizer: paper, quick.")
    ] = "",
    calibration: Annotated[
        int | None,
        typer.Option("--calibration", help="Calibration images; 1024 or, if there are fewer, all."),
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            "--source",
            help="Where they come from: the data's training part (members), holdout, or all.",
        ),
    ] = "members",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="A field of the quantizer."),
    ] = None,
    mean: Mean = None,
    std: Std = None,
    format_: Annotated[
        str,
        typer.Option("--format", help="onnx: also a file per precision, as by `bitleak export`."),
    ] = "",
    opset: Opset = None,
    device: Device = "auto",
    seed: Annotated[int, typer.Option("--seed", help="Of all that is drawn.")] = 0,
) -> int:
    """Quantize one trained network and report the cost: error per layer, accuracy, size."""
    from bitleak.audit.preparation import resolve_device
    from bitleak.cli.quantize_output import LayerClock, print_job, print_layers, print_precisions
    from bitleak.cli.terminal import print_download
    from bitleak.core.output_folder import as_one, check_out
    from bitleak.single_network.exported_files import check_format, write_exported
    from bitleak.single_network.network_figures import measure_network, quantize_job, why_doubtful
    from bitleak.single_network.output_files import (
        PrecisionResult,
        write_job_tables,
        write_precision,
    )
    from bitleak.single_network.quantization_job import prepare_job
    from bitleak.single_network.quantize_request import QuantizeRequest, check_request

    # Everything that can be wrong is refused here, before anything is quantized.
    check_format(format_, opset)
    request = QuantizeRequest(
        weights=weights,
        data=data,
        quantizer=quantizer,
        levels=levels,
        model=model,
        preset=preset,
        last=last,
        calibration=calibration,
        source=source,
        settings=set_ or [],
        mean=mean,
        std=std,
        device=resolve_device(device),
        seed=seed,
    )
    print_download(check_request(request).dataset, None)
    job = prepare_job(request)
    check_out(out)

    # Full precision, to compare with.
    full = measure_network(job, job.weights)
    print_job(job)
    if reason := why_doubtful(job, full):
        print(f"note: {reason}", flush=True)

    # Files of a precision are written as soon as it is done; the folder takes its place when all
    # are.
    results, exported = [], []
    with (
        as_one(out) as folder,
        LayerClock(quantizer, [scheme.levels for scheme in job.quantizers]) as clock,
    ):
        quantized_networks = quantize_job(job, on_layer=clock.on_layer)
        for scheme, quantized in zip(job.quantizers, quantized_networks, strict=True):
            result = PrecisionResult(
                levels=scheme.levels,
                quantized=quantized,
                seconds=clock.stop(),
                figures=measure_network(job, quantized, full),
                files=write_precision(job, scheme, quantized, folder),
            )
            if format_:
                name = f"{job.label}-{scheme.levels}.onnx"
                exported.append(write_exported(quantized, folder / name, opset=opset))
            results.append(result)
            clock.start()
        write_job_tables(job, full, results, folder)
    for result in results:
        print_layers(job, result)
    print_precisions(job, full, results, out)
    for file in exported:
        print_exported(replace(file, path=out / file.path.name))
    return 0
