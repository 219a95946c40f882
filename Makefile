# `make demo` trains on the embedded data set, `make pipeline` does so through TFX, `make
# serving` installs server and client, and `make test` runs all tests; all set up what
# they need. uv is used where it is there, else it comes into .uv/ by pip.

SHELL := /bin/bash
PYTHON := .venv/bin/python
UV := $(shell command -v uv || echo .uv/bin/uv)
# The Python that pyenv keeps, where there is one; else uv looks for 3.10 itself.
PYENV_PYTHON := $(lastword $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/3.10.*/bin/python3.10))
UV_PYTHON ?= $(or $(PYENV_PYTHON),3.10)
# Processes that run tests, each a file at a time, in up to 8 GB.
JOBS ?= 2
INSTALL = $(UV) pip install --quiet --python $(PYTHON) --compile-bytecode \
	--constraints constraints.txt --editable

.PHONY: demo pipeline serving test fast lint lock clean

demo: .venv/train
	$(PYTHON) -m mmkeras.train --preset small-concat

pipeline: .venv/pipeline
	$(PYTHON) -m pipeline.local --root runs/pipeline --preset small-concat

serving: .venv/serving

test: .venv/test
	$(PYTHON) -m pytest --numprocesses $(JOBS) --dist loadfile

fast: .venv/test
	$(PYTHON) -m pytest -m "not e2e" --numprocesses $(JOBS) --dist loadfile

lint: .venv/test
	.venv/bin/ruff check
	.venv/bin/ruff format --check

.uv/bin/uv:
	python3 -m venv .uv && .uv/bin/pip install --quiet uv || \
		(rm -rf .uv && python3 -m pip install --quiet --target .uv uv)

.venv/bin/python: | $(UV)
	$(UV) venv --quiet --python $(UV_PYTHON) .venv

.venv/train: .venv/bin/python setup.cfg constraints.txt
	$(INSTALL) .
	touch $@

.venv/pipeline: .venv/bin/python setup.cfg constraints.txt
	$(INSTALL) '.[tfx]'
	touch $@

.venv/serving: .venv/bin/python setup.cfg constraints.txt
	$(INSTALL) '.[serving]'
	touch $@

.venv/test: .venv/bin/python setup.cfg constraints.txt
	$(INSTALL) '.[test,serving,tfx]'
	touch $@

# Resolves every extra anew; `exclude-newer` in pyproject.toml says as of when.
lock: | $(UV)
	$(UV) pip compile --quiet --python $(UV_PYTHON) --all-extras --upgrade \
		--no-header --no-annotate --output-file constraints.txt pyproject.toml

clean:
	rm -rf .venv .uv build *.egg-info
