# make demo        the app on http://127.0.0.1:7860; HOST=… PORT=… change that
# make test        every test, with its own set-up
# make test-quick  no weights, no browser, no servers or workers to wait for, no bounds of time: about a minute
# make coverage    which lines of playground/ the quick tests reach
# make test-kernels  the kernels with assertions and sanitizers, in every instruction set this processor can run
# make check       lint, format, types, Space configuration
# make wheel     dist/*.whl with the kernels compiled for every processor, for which no compiler is needed then
# make sbom        dist/sbom.cdx.json: what is installed, as CycloneDX
# make audit       known weaknesses of what is installed, where the index tells them
# make messages    playground/locale: what readers are told, for translators, and what they made of it, for the app
# make clean       remove the environment and the tools' caches
#
# PYTHON=… chooses the interpreter; PIP_ARGS=… goes to pip as it stands; TORCH=default takes pip's own build of torch and
# TORCH=cpu PyTorch's CPU build, where scripts/torch_index.py would choose otherwise. Works with GNU make 3.81, which
# macOS ships.

PYTHON ?=
PIP_ARGS ?=
TORCH ?=
HOST ?= 127.0.0.1
PORT ?= 7860
VENV := .venv
BIN := $(VENV)/bin

# A stamp carries the checksum of what was installed: a second run skips, a changed pin installs again.
APP_STAMP := $(VENV)/.app-$(shell cat pre-requirements.txt requirements.txt | cksum | tr ' ' '-')
DEV_STAMP := $(VENV)/.dev-$(shell cat pre-requirements.txt requirements.txt requirements-dev.txt | cksum | tr ' ' '-')
# What looks at the environment has one of its own within.
AUDIT := $(VENV)/audit
AUDIT_STAMP := $(VENV)/.audit-$(shell cksum < requirements-audit.txt | tr ' ' '-')
QUICK := not alone and not (parallel or integration or ui or waits)
# What fails runs again with the machine to itself, and fails the suite if it fails there too: a machine of strangers is at
# times too slow for two workers, or for a bound in seconds. Both reports name it. Modules are compiled once for all the
# processes that tests start, also where the environment wants no such files kept.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
PART = $(PYTEST) $(2) -m "$(1)" || { [ $$? -eq 1 ] && echo "Again, by itself:" && \
	$(PYTEST) --last-failed --last-failed-no-failures none -m "$(1)"; }
SOURCES = $(wildcard playground tests benchmarks scripts app.py)
# pip compiles 28,000 modules one after the other; compileall, below, does it on every core, and leaves out the libraries'
# own tests.
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-compile $(PIP_ARGS)
SUITABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

.PHONY: demo screenshots test coverage test-quick test-kernels trust check sbom audit wheel messages clean

demo: $(APP_STAMP)
	@HOST="$(HOST)" PORT="$(PORT)" $(BIN)/python app.py

# Every tab as it looks, into docs/screenshots; the starter models have to be prepared.
screenshots: $(DEV_STAMP)
	@$(BIN)/python scripts/screenshots.py

# What measures time has the machine to itself (`alone`), after everything else, which runs two at a time (three were no
# quicker on two cores), what takes longest first. A module stays on one worker, for its tests share what was started,
# unless it is `parallel` (`tests/support/distribution.py`).
test: $(DEV_STAMP)
	@$(call PART,not alone,-n 2 --dist loadgroup --no-loadscope-reorder)
	@$(call PART,alone)

# Counting lines slows Python by a third to a half, so it is no part of `test`.
coverage: $(DEV_STAMP)
	@$(PYTEST) -n 2 -m "$(QUICK)" --cov --cov-report=
	@$(BIN)/coverage report

test-quick: $(DEV_STAMP)
	@$(PYTEST) -n 2 -m "not alone and not integration and not ui and not waits"

# What the app withstands, as one table: visitors, faults, hostile inputs, many runs. A quarter of an hour.
trust: $(DEV_STAMP)
	@$(BIN)/python -m playground bench trust

test-kernels: $(DEV_STAMP)
	@KERNEL_TESTS="every set" $(PYTEST) tests/kernels

check: $(DEV_STAMP)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy --num-workers 2 --explicit-package-bases playground scripts
	$(BIN)/python scripts/render_requirements.py --check
	$(BIN)/python scripts/messages.py --check
	$(BIN)/python -m playground space check

sbom: $(APP_STAMP) $(AUDIT_STAMP)
	@mkdir -p dist
	@$(AUDIT)/bin/cyclonedx-py environment --output-reproducible --output-format JSON --output-file dist/sbom.cdx.json \
		$(BIN)/python
	@echo "dist/sbom.cdx.json"

# pip-audit counts what it can't look up as nothing found: how much that was is said, and if it was all, it failed.
audit: $(APP_STAMP) $(AUDIT_STAMP)
	@rm -f $(VENV)/audit.json
	@$(AUDIT)/bin/pip-audit --progress-spinner off --format json --output $(VENV)/audit.json \
		--path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" >/dev/null 2>&1; \
	$(BIN)/python scripts/audit_report.py $(VENV)/audit.json

wheel: $(DEV_STAMP)
	@$(BIN)/python scripts/build_kernels.py
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

messages: $(DEV_STAMP)
	@$(BIN)/python scripts/messages.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

$(APP_STAMP): | $(BIN)/python
	@$(call install,requirements.txt)
	@touch $@

$(DEV_STAMP): | $(BIN)/python
	@$(call install,requirements-dev.txt)
	@touch $(APP_STAMP) $@

$(AUDIT_STAMP): requirements-audit.txt | $(BIN)/python
	@rm -f $(VENV)/.audit-*
	@$(BIN)/python -m venv --clear $(AUDIT)
	@$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check --no-input $(PIP_ARGS) -r $<
	@touch $@

$(BIN)/python:
	@found=""; \
	for candidate in $(or $(PYTHON),python3.13 python3.12 python3.11 python3 python); do \
		if "$$candidate" -c '$(SUITABLE)' >/dev/null 2>&1; then found="$$candidate"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "No Python 3.11 or newer with venv was found$(if $(PYTHON), at $(PYTHON))." >&2; \
		echo "Install one (Debian, Ubuntu: apt install python3.11-venv; macOS: brew install python@3.12)" >&2; \
		echo "or name it: make PYTHON=/path/to/python3.12 demo" >&2; \
		exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$found" --version)"; \
	"$$found" -m venv --clear $(VENV) || { rm -rf $(VENV); \
		echo "The environment can't be made in $(VENV): is the disk full or the folder read-only?" >&2; exit 1; }

# An old stamp goes first: a failed or interrupted install must not look done.
define install
rm -f $(VENV)/.app-* $(VENV)/.dev-*; \
$(BIN)/python -c '$(SUITABLE)' || { \
	echo "$(VENV) holds a Python older than 3.11: remove it (make clean) and run this again." >&2; exit 1; }; \
$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
echo "Installing $(1) into $(VENV) (the first time takes a few minutes)"; \
first=$$($(BIN)/python scripts/torch_index.py --torch "$(or $(TORCH),auto)" $(PIP_ARGS)) || exit 1; \
{ [ -z "$$first" ] || $(PIP) $$first; } && $(PIP) -r $(1) || { \
	echo "The install failed; pip says why above. Check network and disk space, then run this again." >&2; \
	echo "Behind a proxy or mirror: make PIP_ARGS='--proxy …' or set it in pip's own configuration." >&2; \
	[ -z "$$first" ] || echo "If PyTorch's CPU index is the trouble: make TORCH=default takes pip's own build." >&2; \
	exit 1; }; \
$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true
endef
