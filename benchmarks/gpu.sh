#!/usr/bin/env bash
# Everything that a GPU is needed for, on one that is at hand for minutes (benchmarks/gpu.py has the parts).
#
#   benchmarks/gpu.sh pack DATA PACKED.tar            # before: CIFAR-100 as one file of at most 60 MB
#   benchmarks/gpu.sh run PACKED.tar OUT [OPTIONS]    # there: small files in OUT; --minutes 9, --device cuda, --toy
#
# WHEELS names a folder of wheels for packages that the machine lacks and cannot download.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -n "${WHEELS:-}" ]; then
    python3 -m pip install -q --no-index --no-deps --target "${TMPDIR:-/tmp}/bitleak-wheels" "$WHEELS"/*.whl
    export PYTHONPATH="${TMPDIR:-/tmp}/bitleak-wheels${PYTHONPATH:+:$PYTHONPATH}"
fi
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS=1
exec "${PYTHON:-python3}" benchmarks/gpu.py "$@"
