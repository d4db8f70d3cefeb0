"""Check of an outside network in a new process, which makes it as workers will.

The trial compares networks of one process. Values that a process draws once (a permutation at
import without a seed, the order of a set, the time, the number of threads) are the same in all of
them, and others in every worker. So a new interpreter, with another seed for the order of sets and
one thread, makes the network, takes over the state dict and answers the same images.

Cost: the start of an interpreter with PyTorch, and `fingerprint.IMAGES` images, once per audit.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bitleak.core.errors import ModelError
from bitleak.core.leftovers import temporary_folder
from bitleak.core.types import ModelSpec, Weights
from bitleak.models import build, load, state
from bitleak.models.answer_difference import differing
from bitleak.models.external import factory_of
from bitleak.models.fingerprint import ANSWER_TOLERANCE, SAVE_REMEDY, answer_fingerprint
from bitleak.models.network_trial import draw_zeros
from bitleak.models.unsaved_values import differing_names, unsaved

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from bitleak.models import new_process as new; "
_REQUEST, _STATE, _ANSWERS, _UNSAVED, _ERROR = (
    "spec.json",
    "state.npz",
    "answers.npy",
    "unsaved.json",
    "error.txt",
)
_SHAPE = ("classes", "channels", "size")


def check_in_new_process(spec: ModelSpec) -> None:
    """Refuse an outside network that a new process makes differently.

    Args:
        spec: Any spec; networks of this package need no check.

    Raises:
        ModelError: A new process cannot make the network, or its network answers otherwise with the
            same state dict; the message has the values that differ.
    """
    factory = factory_of(spec)
    if factory is None or not sys.executable:
        return
    network = build(spec, seed=0)
    draw_zeros(network, torch.Generator().manual_seed(0))
    expected = answer_fingerprint(network, spec)
    with temporary_folder() as folder:
        _write_request(folder, spec, network)
        answers, values = _answered(folder, factory)
    difference = differing(answers, expected, ANSWER_TOLERANCE)
    if difference:
        names = differing_names(unsaved(network), values)
        listed = f"; other values there: {', '.join(names[:6])}" if names else ""
        raise ModelError(
            f"{factory}: a new process makes another network: with one state dict, the two answer the same images "
            f"differently, {difference}{listed}. Every worker is a new process, so it must not depend on what differs "
            f"between processes (draws at import, the order of a set, the time): {SAVE_REMEDY}"
        )


def answer(folder: str) -> None:
    """Make the network that a folder describes and write its answers there, in the new process."""
    place = Path(folder)
    torch.set_num_threads(1)  # as workers have
    request = json.loads((place / _REQUEST).read_text(encoding="utf-8"))
    unit = (0.5,) * int(request["channels"])
    shape = {name: int(request[name]) for name in _SHAPE}
    spec = ModelSpec("external", request["options"], **shape, mean=unit, std=unit)
    try:
        with np.load(place / _STATE, allow_pickle=False) as tensors:
            arrays = {name: tensors[f"arr_{index}"] for index, name in enumerate(request["names"])}
        network = load(Weights(arrays, spec), allow_external=True)
        np.save(place / _ANSWERS, answer_fingerprint(network, spec))
        (place / _UNSAVED).write_text(json.dumps(unsaved(network)), encoding="utf-8")
    except ModelError as error:
        (place / _ERROR).write_text(str(error), encoding="utf-8")


def _write_request(folder: Path, spec: ModelSpec, network: nn.Module) -> None:
    tensors = state(network)
    shape = {name: getattr(spec, name) for name in _SHAPE}
    request = {"options": spec.options, "names": list(tensors), **shape}
    (folder / _REQUEST).write_text(json.dumps(request, default=dict), encoding="utf-8")
    np.savez(folder / _STATE, *tensors.values())


def _answered(folder: Path, factory: str) -> tuple[np.ndarray, dict[str, str]]:
    """Return the new process's answers, and digests of the values outside its state dict.

    Raises:
        ModelError: The process ended without answers.
    """
    # Another order of sets of texts than here, whether or not this process has a fixed one.
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    code = _START + "new.answer(sys.argv[2])"
    # The same path of imports as here: the factory may be found by it alone.
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(sys.path), str(folder)],
        env={**os.environ, "PYTHONHASHSEED": seed},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if (folder / _ERROR).exists():
        text = (folder / _ERROR).read_text(encoding="utf-8")
    elif done.returncode or not (folder / _UNSAVED).exists():
        text = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]
    else:
        values = json.loads((folder / _UNSAVED).read_text(encoding="utf-8"))
        return np.load(folder / _ANSWERS, allow_pickle=False), values
    raise ModelError(
        f"{factory}: this process can make the network, but a new one cannot, and every worker is a new one: {text}"
    )
