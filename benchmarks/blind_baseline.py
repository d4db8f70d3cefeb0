"""How often does the guess at membership without the model flag random splits, and find real differences?

    python benchmarks/blind_baseline.py [--splits 200] [--records 4000] [--data cifar10]

Records are images with brightness, colour and noise, or, with `--data`, those of a folder that
`data: {name: hub, path: ...}` reads. A random half is stored as JPEG (quality 90), the other as PNG, and
pixels and sizes are those of the stored files. Random splits must be silent in at least 95 %. A shift of the
members' brightness by 0.3 deviations, in the pixels, which stay 8-bit, must be found in at least
80 %; splits by class, brightness, file format and date always, which are made with 60 % of one half
and 40 % of the other as members. All seeds are the numbers of the splits.
"""

import argparse
import io
import time
from pathlib import Path

import numpy as np
from PIL import Image

from bitleak.audit.target.blind_baseline import PLANTED, BlindBaseline, blind_baseline
from bitleak.audit.target.image_features import features_of
from bitleak.data.stored_files import StoredFiles

FPRS = (0.001, 0.01)
SHARES = (0.4, 0.6)


def made(records: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images whose brightness has a deviation of 20, and classes."""
    rng = np.random.default_rng(0)
    brightness = rng.normal(120, 20, (records, 1, 1, 1)) + rng.normal(0, 8, (records, 3, 1, 1))
    pixels = brightness + rng.normal(0, 15, (records, 3, 12, 12))
    return pixels.clip(0, 255).astype(np.uint8), rng.integers(0, 10, records)


def read(folder: Path, records: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a draw of the images of a folder, and their classes."""
    from bitleak import registry

    dataset = registry.resolve(registry.DATASETS, "hub", kind="dataset")(path=str(folder))
    images = dataset.load(None)
    drawn = np.sort(np.random.default_rng(0).permutation(len(images.labels))[:records])
    return images.pixels[drawn], images.labels[drawn]


def encoded(pixels: np.ndarray, formats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels as read from files of these formats, and the sizes of the files."""
    read_back, sizes = np.empty_like(pixels), np.empty(len(pixels), np.int64)
    for place, (image, kind) in enumerate(zip(pixels, formats, strict=True)):
        buffer = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(buffer, str(kind), quality=90)
        sizes[place] = buffer.tell()
        read_back[place] = np.asarray(Image.open(buffer)).transpose(2, 0, 1)
    return read_back, sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--records", type=int, default=4000)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    if options.data:
        pixels, labels = read(options.data, options.records)
    else:
        pixels, labels = made(options.records)
    records = len(labels)
    rng = np.random.default_rng(1)
    formats = np.where(rng.random(records) < 0.5, "PNG", "JPEG")
    pixels, sizes = encoded(pixels, formats)
    stored = StoredFiles(sizes=sizes, formats=formats, order=np.arange(records) / records)
    bright = pixels.mean(axis=(1, 2, 3))
    still = features_of(pixels, labels, np.arange(records), stored, 0)

    def judged(member: np.ndarray, seed: int, shift: float = 0.0) -> BlindBaseline:
        features = still
        if shift:
            moved = pixels + shift * bright.std() * member[:, None, None, None]
            changed = moved.round().clip(0, 255).astype(np.uint8)
            features = features_of(changed, labels, np.arange(records), stored, 0)
        return blind_baseline(features, member, fprs=FPRS, seed=seed)

    def splits(halves: np.ndarray, seed: int) -> np.ndarray:
        shares = np.where(halves, SHARES[1], SHARES[0])
        return np.random.default_rng((2, seed)).random(records) < shares

    def show(name: str, results: list[BlindBaseline], start: float) -> None:
        flagged = sum(result.separable for result in results)
        significant = sum(result.is_significant for result in results)
        print(
            f"{name}, {len(results)} splits of {records:,} records: {significant} significant, "
            f"{flagged} not evaluable, AUC {np.mean([result.auc for result in results]):.3f}, power stated "
            f"{100 * np.mean([result.power for result in results]):.0f} %, "
            f"{(time.process_time() - start) / len(results):.2f} CPU s each",
            flush=True,
        )

    # Four splits by anything but chance, then random ones without and with a planted shift.
    halves = {
        "by class": labels < np.median(labels),
        "by brightness": bright > np.median(bright),
        "by file format": formats == "PNG",
        "by date": np.arange(records) < records // 2,
    }
    for name, half in halves.items():
        start = time.process_time()
        show(name, [judged(splits(half, seed), seed) for seed in range(10)], start)
    for name, shift in (("at random", 0.0), (f"brightness shifted by {PLANTED}", PLANTED)):
        start, results = time.process_time(), []
        for seed in range(options.splits):
            member = np.random.default_rng((3, seed)).random(records) < 0.5
            results.append(judged(member, seed, shift))
        show(name, results, start)


if __name__ == "__main__":
    main()
