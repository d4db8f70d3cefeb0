"""Files of runtimes as networks that `bitleak ask` evaluates."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from bitleak import registry
from bitleak.core.errors import ModelError
from bitleak.core.types import Images, NetworkFile, Weights
from bitleak.data.array_images import standardized_array
from bitleak.runtimes.runtime import runtime_for
from bitleak.runtimes.session_comparison import RECORDS, check_sessions
from bitleak.single_network.spec_of_data import Standardisation, spec_for_data


def is_network_file(path: Path) -> bool:
    """Return whether a runtime opens files of this suffix.

    Example:
        >>> is_network_file(Path("net.onnx")), is_network_file(Path("net.safetensors"))
        (True, False)
    """
    return path.suffix.lower() in registry.RUNTIME_OF_SUFFIX


def read_network_file(
    path: Path,
    standardisation: Standardisation | None,
    images: Images,
    hint: str = "",
    options: Mapping[str, Any] | None = None,
    *,
    shown: Int64[np.ndarray, "records"] | None = None,
) -> NetworkFile:
    """Read a file for a data set, and compare its sessions on a few of the images.

    Args:
        path: The file.
        standardisation: Mean and deviation per channel; None for those that the file states or, if
            it states none, of the data's training part.
        images: The data set.
        hint: Put after the message if the file does not fit the data.
        options: Options of its runtime.
        shown: Numbers of the records for the comparison, of which `RECORDS` are used; None compares
            nothing.

    Returns:
        Its content; the digest names the runtime and its version, which decide the answers' last bits.

    Raises:
        ModelError: It does not fit the data, or is refused by its runtime; led by the option.
    """
    try:
        name, runtime = runtime_for(path, options)
        spec = spec_for_data((name, {}), standardisation, Weights({}), images, hint)
        file = runtime.read(path, spec)
        stated = file.record.get("standardisation")
        if standardisation is None and stated is not None:
            spec = replace(spec, mean=tuple(stated["mean"]), std=tuple(stated["std"]))
            file = replace(file, spec=spec)
        if shown is not None:
            pixels = images.pixels[shown[:RECORDS]]
            check_sessions(file, standardized_array(pixels, spec.mean, spec.std))
    except ModelError as error:
        raise ModelError(f"--weights {path}: {error}{hint}") from None
    return replace(file, digest=f"{file.digest} {runtime.version()}")
