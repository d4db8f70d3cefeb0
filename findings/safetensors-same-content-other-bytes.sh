#!/usr/bin/env bash
# safetensors 0.8.0: the same tensors with the same metadata give files of different bytes, each time they are saved.
#
# Expected: the format orders tensors by type and name and pads the header, so that equal content is an equal file, and
# the digest of a file says whether two releases are the same.
# Observed: metadata of two entries or more are written in the order of a hash table that is seeded anew for every call,
# within one process too. With eight entries, nearly every save has another digest. Without metadata, or with one
# entry, the bytes are always the same; the tensors' own order is fixed.
# Consequence: caches, signatures and comparisons by the digest of the file take the same weights for others. Store all
# metadata in one entry (such as JSON with sorted keys), or compare tensors.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'safetensors==0.8.0' 'numpy==2.4.6'
cat > "$folder/digests.py" <<'PYTHON'
import hashlib

import numpy as np
import safetensors
from safetensors.numpy import load, save

tensors = {name: np.arange(6, dtype=np.float32) for name in ("b", "a", "c")}
print("safetensors", safetensors.__version__)
distinct = {}
for entries in (0, 1, 2, 8):
    metadata = {f"key{index}": str(index) for index in range(entries)} or None
    files = [save(tensors, metadata=metadata) for _ in range(20)]
    distinct[entries] = len({hashlib.sha256(content).hexdigest() for content in files})
    print(f"{entries} entries: {distinct[entries]} different files in 20 saves of the same content")
    assert all(np.array_equal(load(content)["a"], tensors["a"]) for content in files)
assert distinct[0] == distinct[1] == 1 and distinct[2] == 2 and distinct[8] > 10, "the behaviour has changed"
PYTHON
"$folder/venv/bin/python" "$folder/digests.py"
echo "as stated"
