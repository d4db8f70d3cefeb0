"""`bitleak ask`: the answers of networks to the records of a data set, for `bitleak attack`."""

from pathlib import Path
from typing import Annotated

import typer

from bitleak.cli.options import Device, Mean, Std


def ask_networks(
    weights: Annotated[
        list[Path],
        typer.Option(
            "--weights",
            help="A .safetensors, .pt, .onnx, .xml or .tflite file, a store's model, or a folder; may be repeated.",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="NAME:OPTIONS (digits, hub:PATH, table:FILE,label=y), or a local path.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the arrays of `bitleak attack`.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="cnn:width=16, mlp:hidden=[64], timm:NAME, package.module:factory; a store's weights say it.",
        ),
    ] = None,
    members: Annotated[
        list[Path] | None,
        typer.Option(
            "--members",
            help="An .npy file: bool \\[models records], or per network bool or record numbers.",
        ),
    ] = None,
    records: Annotated[
        str,
        typer.Option("--records", help="train, held_out, all, a range 0:500, or an .npy file."),
    ] = "train",
    population: Annotated[
        str | None,
        typer.Option(
            "--population",
            help="Records outside all training sets, likewise; held_out if the records are train.",
        ),
    ] = None,
    queries: Annotated[
        str, typer.Option("--queries", help="Such as identity,flip,shift:2,0.")
    ] = "identity",
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            "--runtime",
            help="layout=NHWC, pixels=unit, output=NAME, ... for files; may be repeated.",
        ),
    ] = None,
    mean: Mean = None,
    std: Std = None,
    batch: Annotated[int, typer.Option("--batch", help="Records per forward pass.")] = 64,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads on a CPU.")] = 1,
    device: Device = "auto",
    seed: Annotated[
        int, typer.Option("--seed", help="Of the choice of records, if the data has a limit.")
    ] = 0,
) -> int:
    """Write the answers of networks to the records of a data set, for `bitleak attack`."""
    from bitleak.cli.terminal import StageBars, print_download
    from bitleak.core.output_folder import check_out
    from bitleak.core.plurals import count
    from bitleak.single_network.answer_collection import (
        collect_answers,
        prepare_answers,
        why_at_chance,
    )
    from bitleak.single_network.answer_request import AnswerRequest, check_answer_request
    from bitleak.single_network.input_doubts import check_inputs
    from bitleak.single_network.membership_doubts import folder_doubts

    # Everything that can be wrong is refused here, before a network is evaluated.
    request = AnswerRequest(
        weights=tuple(weights),
        data=data,
        model=model,
        members=tuple(members or ()),
        records=records,
        population=population,
        queries=queries,
        mean=mean,
        std=std,
        batch=batch,
        device=_device(weights, device, threads),
        seed=seed,
        runtime=tuple(runtime or ()),
    )
    print_download(check_answer_request(request).dataset, None)
    job = prepare_answers(request)
    check_inputs(job)
    check_out(out)
    for note in job.notes:
        print(f"note: {note}")
    print(
        f"{count(len(job.specs), 'network')} of {job.specs[0].name}, {count(len(job.records.pool), 'record')}, "
        f"{count(len(job.records.population), 'population record')}, {len(job.checked.queries)} queries per record",
        flush=True,
    )
    with StageBars() as bars:
        accuracies, before = collect_answers(job, out, bars.show)

    # Accuracies show whether these are the networks, the data and the members that were meant.
    if before:
        print(f"{before} of {len(job.specs)} networks were answered already")
    for entry in accuracies:
        shares = {
            "members": entry.members,
            "others": entry.others,
            "population": entry.population,
        }
        known = [
            f"{name} {100 * share:.1f} %" for name, share in shares.items() if share is not None
        ]
        print(f"{entry.name}: accuracy {', '.join(known)}")
    if reason := why_at_chance(job, accuracies):
        print(f"note: {reason}")
    for doubt in folder_doubts(out, job.names):
        print(f"note: {doubt}")
    if job.records.member is None:
        print(
            "note: no --members: `bitleak attack` needs member.npy, unless this is its --quantized"
        )
    print(f"\n{out}: bitleak attack {out}")
    return 0


def _device(weights: list[Path], device: str, threads: int) -> str:
    """Return the device for networks of PyTorch; files of runtimes are on the CPU, without PyTorch."""
    from bitleak.core.errors import ConfigError
    from bitleak.single_network.answer_request import weights_files
    from bitleak.single_network.file_answers import is_network_file

    try:
        files = weights_files(weights)
    except ConfigError:  # told with all other mistakes
        return "cpu"
    if device in ("auto", "cpu") and all(is_network_file(file) for file in files):
        return "cpu"
    import torch

    from bitleak.audit.preparation import resolve_device

    torch.set_num_threads(threads)
    return resolve_device(device)
