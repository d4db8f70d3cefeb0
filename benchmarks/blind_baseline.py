"""How often does the guess at membership without the model flag random splits, and find a planted shift?

    python benchmarks/blind_baseline.py [--splits 200] [--records 4000]

Records are those of a table of images with brightness, colour and noise. Random splits must be silent in at
least 95 %; a shift of brightness by 0.3 deviations must be found in at least 80 %.
"""

import argparse
import time

import numpy as np

from bitleak.audit.target.blind_baseline import PLANTED, blind_baseline
from bitleak.audit.target.image_features import features_of
from bitleak.data.stored_files import StoredFiles

FPRS = (0.001, 0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--records", type=int, default=4000)
    options = parser.parse_args()
    rng, records = np.random.default_rng(0), options.records
    labels = rng.integers(0, 10, records)
    brightness = rng.normal(120, 20, (records, 1, 1, 1))
    colour = rng.normal(0, 8, (records, 3, 1, 1))
    noise = rng.normal(0, 15, (records, 3, 12, 12))
    order = np.arange(records) / records
    stored = StoredFiles(sizes=rng.integers(900, 1100, records), order=order)

    def judged(shift: float, member: np.ndarray, seed: int):
        moved = brightness + shift * 20 * member[:, None, None, None]
        pixels = (moved + colour + noise).clip(0, 255).astype(np.uint8)
        features = features_of(pixels, labels, np.arange(records), stored, 0)
        return blind_baseline(features, member, fprs=FPRS, seed=seed)

    start, flagged, significant, found = time.monotonic(), 0, 0, 0
    still = features_of(
        (brightness + colour + noise).clip(0, 255).astype(np.uint8),
        labels,
        np.arange(records),
        stored,
        0,
    )
    for seed in range(options.splits):
        result = blind_baseline(still, rng.random(records) < 0.5, fprs=FPRS, seed=seed)
        flagged += result.separable
        significant += result.is_significant
    print(
        f"{options.splits} random splits of {records:,} records: {flagged} not evaluable, {significant} significant, "
        f"{(time.monotonic() - start) / options.splits:.2f} s each",
        flush=True,
    )
    runs = max(1, options.splits // 10)
    for seed in range(runs):
        found += judged(PLANTED, rng.random(records) < 0.5, seed).is_significant
    print(f"{runs} splits with a shift by {PLANTED} deviations: {found} found")


if __name__ == "__main__":
    main()
