# Two commands: `make run` shows the product at work, `make test` proves it.
# A target directory outside the checkout is used when CARGO_TARGET_DIR names one.

.PHONY: run test check fmt fuzz-short bench

run:
	@scripts/run-examples.sh

test:
	@scripts/test.sh

# Formatting, lints, documentation and dependency rules.
check:
	@scripts/check.sh

fmt:
	cargo fmt --all

# All benchmarks of docs/benchmarks.md.
bench:
	@scripts/bench.sh all
