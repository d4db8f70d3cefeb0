#!/usr/bin/env bash
# Ray 2.60.0: RAY_AUTH_MODE=token, set after `import ray` and before `ray.init()`, does not turn tokens on. It makes
# every local start fail, with a message that says the mode is 'disabled'.
#
# Expected: a local cluster whose clients need a token. Since 2.59 this is the default if the variable is unset, and
# according to the documentation it is set "before starting your Ray cluster", which here is `ray.init()`.
# Observed: the driver keeps the mode that it read when ray was imported, while the processes that it starts read the
# new mode. They refuse the driver after about six seconds: "Failed to start GCS", AuthenticationError, "RAY_AUTH_MODE
# is currently 'disabled'". If the variable is set before the import, or not at all, the same script works.
# Consequence: a library that starts Ray for its users, and is imported after ray, cannot turn tokens on in the
# documented way. Its users see a cluster that does not start, and a mode that was never set.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'ray==2.60.0'
cat > "$folder/start.py" <<'PYTHON'
import os
import sys

for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
    os.environ.pop(name, None)
token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 32}
if sys.argv[1] == "before":
    os.environ.update(token)
import ray

if sys.argv[1] == "after":
    os.environ.update(token)
try:
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=50)
    print("started")
except Exception as error:
    disabled = "RAY_AUTH_MODE is currently 'disabled'" in str(error)
    print("failed to start GCS," if "Failed to start GCS" in str(error) else "failed otherwise,", end=" ")
    print("said to be disabled" if disabled else "nothing said of the mode")
PYTHON
export RAY_USAGE_STATS_ENABLED=0 HOME="$folder"
for when in never before after; do
  echo "set $when: $("$folder/venv/bin/python" "$folder/start.py" "$when" 2> /dev/null)"
done | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
set never: started
set before: started
set after: failed to start GCS, said to be disabled
SEEN
echo "as stated"
