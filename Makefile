# What a person types. Everything is built in one profile (ci: optimised, without link-time optimisation) and into one
# directory (target), so that dependencies are compiled once.
.DEFAULT_GOAL := help
.PHONY: help build demo test check documents bench fmt clean cargo
SHELL := /bin/bash
export CARGO_TARGET_DIR := $(CURDIR)/target
CARGO_FLAGS := --profile ci --locked
# Most tests wait for a server or a deadline, not for a processor.
export RUST_TEST_THREADS ?= 4

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 12

build: cargo ## Build the program: target/ci/pg-s3-backup
	cargo build $(CARGO_FLAGS)

demo: ## Back up, list and restore a database, on servers made for it: no configuration needed
	@scripts/demo

test: cargo ## Run all tests, on servers that they start themselves
	@scripts/install postgres s3
	cargo test $(CARGO_FLAGS) --doc
	cargo test $(CARGO_FLAGS) --lib --bins --tests

check: ## Format, lints, documents, dependencies, scripts: what must hold before a commit
	@scripts/check

documents: cargo ## Write the generated parts of README.md, man/ and completions/ anew
	UPDATE_DOCUMENTS=1 cargo test $(CARGO_FLAGS) --test it -- documents::

bench: ## Compare speed, memory and size with the pipelines of the usual tools (about 6 minutes)
	@scripts/bench

fmt: cargo ## Format the code
	cargo fmt

clean: cargo ## Remove everything that was built or installed below target/
	cargo clean

cargo:
	@source scripts/lib.sh && need_cargo
