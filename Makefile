# Two targets do all the set-up on a machine with Python 3.11 or newer: `make demo` and `make test`.

PYTHON ?= python3
PY := .venv/bin/python
STAMP := .venv/.complete
DOCS := .venv/.docs
RUN := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

# A virtual environment that was moved, or whose Python is gone, is stale.
ifneq ($(shell $(PY) -c 'import sys; print(sys.prefix)' 2>/dev/null),$(CURDIR)/.venv)
.PHONY: $(STAMP)
endif

.PHONY: demo docs test test-slow lint format clean

demo: $(STAMP)
	$(PY) -m bitleak demo

docs: $(DOCS)
	$(PY) tools/site/build_site.py

$(DOCS): $(STAMP)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

test: $(STAMP) lint
	$(RUN) $(PY) -m pytest -q -n 2 --dist worksteal

test-slow: $(STAMP)
	$(RUN) $(PY) -m pytest -q -n 2 -m slow

lint: $(STAMP)
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	.venv/bin/lint-imports

format: $(STAMP)
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "bitleak needs Python 3.11 or newer; $(PYTHON) is older: make PYTHON=python3.12 ..."; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "$(PYTHON) cannot make virtual environments; on Debian: apt install python3-venv"; exit 2; }
	$(PYTHON) -m venv --clear .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
