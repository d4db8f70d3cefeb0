"""Logits of exported files against those of the network, over the 10,000 test images of CIFAR-10.

    python benchmarks/file_logits.py --data FOLDER [--epochs 4] [--out FOLDER]

FOLDER holds CIFAR-10 in the Hub's layout. A `cnn` of width 16 is trained on 3,000 images, rounded to
several numbers of levels (`rtn`), and exported. Its file is answered by ONNX Runtime, and by OpenVINO
from the `.xml` that OpenVINO makes of it. Printed are bytes, the largest difference of a logit from
PyTorch's, and changed predictions. Then `bitleak ask` collects the answers of one file of each
runtime, side by side with a plain loop over Pillow and the runtime's own API that reads the same
images and writes the same numbers, each in a process of its own, in turns. Printed are CPU seconds
for the 10,000 test images and for all 60,000, their ratios, and the fixed seconds and those per image
(from 1,000 and 10,000 images).
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bitleak.core.errors import ModelError
from bitleak.core.types import Images, ModelSpec
from bitleak.data.array_images import channel_statistics
from bitleak.data.augment import standardize
from bitleak.data.hub import Hub
from bitleak.models import build, load
from bitleak.quantizers.rtn import RoundToNearest
from bitleak.runtimes.onnx_export import export_network
from bitleak.runtimes.runtime import open_network, runtime_for

FILES = ((200, None), (16, None), (4, None), (4, 21))
"""Levels, and the opset if it is not the oldest that holds the codes."""

LOOP = """
import io
import sys
from pathlib import Path
import numpy as np
import pyarrow.parquet as pq
from PIL import Image

data, path, mean, std, count = sys.argv[1:]
parts = ["test"] if int(count) <= 10_000 else ["train", "test"]
decoded = []
for file in [file for part in parts for file in sorted(Path(data).glob(f"{part}-*.parquet"))]:
    table = pq.read_table(file)
    column = table.column("img" if "img" in table.column_names else "image")
    rows = column[: int(count) - len(decoded)].to_pylist()
    decoded += [np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in rows]
pixels = np.stack(decoded).transpose(0, 3, 1, 2)
mean, std = (np.array(text.split(","), np.float32).reshape(-1, 1, 1) for text in (mean, std))
logits = np.empty((len(pixels), 10), np.float32)
if path.endswith(".onnx"):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    run = lambda batch: session.run(None, {"images": batch})[0]
else:
    import openvino
    exact = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    exact["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0  # else activations are rounded to 8 bits
    compiled = openvino.Core().compile_model(path, "CPU", exact)
    run = lambda batch: compiled(batch)[0]
for start in range(0, len(pixels), 64):
    batch = (pixels[start : start + 64].astype(np.float32) / np.float32(255) - mean) / std
    logits[start : start + 64] = run(batch)
np.save(path + ".npy", logits)
"""

FEW, MANY, ALL = 1000, 10_000, 60_000
"""Numbers of images; the first two tell the seconds per image from the fixed ones."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = Hub(str(options.data)).load(None)
    train = np.flatnonzero(~images.held_out)[:3000]
    mean, std = channel_statistics(images, train)
    spec = ModelSpec("cnn", {"width": 16}, 10, 3, 32, mean=mean, std=std)
    network = trained(spec, images, train, options.epochs)
    test = np.flatnonzero(images.held_out)
    inputs = standardize(torch.from_numpy(images.pixels[test]), mean, std)
    labels = images.labels[test]
    print("| levels | stored as | runtime | bytes | largest difference | changed of 10,000 |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        for levels, opset in FILES:
            path = folder / f"net-{levels}-{opset or 'own'}.onnx"
            rounded = RoundToNearest(levels=levels)(network, inputs[:8], torch.Generator())
            codes = replace(rounded, spec=spec)
            plain = load(codes.dequantize()).eval()
            exported = export_network(plain, codes, opset=opset)
            path.write_bytes(exported.content)
            with torch.inference_mode():
                expected = torch.cat([plain(part) for part in inputs.split(500)]).numpy()
            stored = f"UINT{max(exported.bits.values())}, opset {exported.opset}"
            for name, file in written(path):
                print(f"| {levels} | {stored} | {name} | {line(file, spec, inputs, expected)} |")
            accuracy = 100 * float((expected.argmax(axis=1) == labels).mean())
            print(f"{levels} levels: accuracy {accuracy:.1f} %", file=sys.stderr, flush=True)
        for suffix in (".onnx", ".xml"):
            ask_and_loop(folder / f"net-16-own{suffix}", options.data, spec, options.turns)


def trained(spec: ModelSpec, images: Images, train: np.ndarray, epochs: int) -> nn.Module:
    """Return a network trained by plain SGD with momentum."""
    torch.manual_seed(0)
    network = build(spec, seed=0).train()
    step = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    inputs = standardize(torch.from_numpy(images.pixels[train]), spec.mean, spec.std)
    labels = torch.from_numpy(images.labels[train])
    for _ in range(epochs):
        for chosen in torch.randperm(len(train)).split(128):
            loss = nn.functional.cross_entropy(network(inputs[chosen]), labels[chosen])
            step.zero_grad()
            loss.backward()
            step.step()
    return network.eval()


def written(path: Path) -> Iterator[tuple[str, Path | str]]:
    """Yield the runtimes with their files, or the reason why there is none."""
    yield "ONNX Runtime", path
    try:
        import openvino as kit
    except ImportError:
        return
    try:
        model = kit.Core().read_model(path)
    except RuntimeError as error:
        lines = [text.strip() for text in str(error).splitlines() if text.strip()]
        yield "OpenVINO", lines[-1][:120]
        return
    file = path.with_suffix(".xml")
    kit.save_model(model, file, compress_to_fp16=False)
    yield "OpenVINO", file


def line(file: Path | str, spec: ModelSpec, inputs: torch.Tensor, expected: np.ndarray) -> str:
    if isinstance(file, str):
        return f"not read: {file} | |"
    try:
        content = runtime_for(file)[1].read(file, spec)
        answers = open_network(content)(inputs.numpy())
    except ModelError as error:
        return f"{error} | |"
    changed = int((answers.argmax(axis=1) != expected.argmax(axis=1)).sum())
    return f"{content.size:,} | {np.abs(answers - expected).max():.1e} | {changed}"


def ask_and_loop(path: Path, data: Path, spec: ModelSpec, turns: int) -> None:
    """Time `bitleak ask` and a loop over the runtime's own API on the same records."""
    if not path.exists():
        return
    mean, std = (",".join(map(str, values)) for values in (spec.mean, spec.std))
    seconds: dict[tuple[str, int], list[float]] = {}
    difference = 0.0
    for turn in range(turns):
        for count in (FEW, MANY, ALL):
            with tempfile.TemporaryDirectory() as folder:
                records = "all" if count > MANY else f"50000:{50000 + count}"
                options = ["--mean", mean, "--std", std, "--records", records]
                ask = ["-m", "bitleak", "ask", "--weights", path, "--data", f"hub:{data}", *options]
                commands = {
                    "ask": [*ask, "--population", "none", "--out", f"{folder}/asked"],
                    "loop": ["-c", LOOP, data, path, mean, std, count],
                }
                for name in list(commands)[:: 1 if turn % 2 == 0 else -1]:
                    seconds.setdefault((name, count), []).append(cpu_seconds(commands[name]))
                logits = np.load(f"{folder}/asked/logits.npy")[0, :, 0]
            difference = max(difference, float(np.abs(logits - np.load(f"{path}.npy")).max()))

    # seconds = fixed + images * slope, from the medians of both numbers of images
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    parts = []
    for name in ("ask", "loop"):
        slope = (medians[name, MANY] - medians[name, FEW]) / (MANY - FEW)
        fixed = medians[name, MANY] - MANY * slope
        parts.append(f"{name} {fixed:.1f} s and {1000 * slope:.2f} ms an image")
    print(f"{path.suffix}: {', '.join(parts)}; logits within {difference:.1e}")
    for count in (MANY, ALL):
        asked, looped = medians["ask", count], medians["loop", count]
        print(
            f"{count:,} images: ask {asked:.1f} CPU s, loop {looped:.1f}, ratio {asked / looped:.2f}"
        )


def cpu_seconds(arguments: list[Any]) -> float:
    """Run Python, and return its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *map(str, arguments)], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


if __name__ == "__main__":
    main()
