# The commands for developers. Everything is built in one profile (ci: optimised, without link-time optimisation) and into one
# directory (target), so that dependencies are compiled once.
.DEFAULT_GOAL := help
.PHONY: help build install dist image image-cold demo test test-kill test-versions page fuzz check documents bench fmt clean cargo
SHELL := /bin/bash
export CARGO_TARGET_DIR := $(CURDIR)/target
CARGO_FLAGS := --profile ci --locked
# Most tests wait for a server or a deadline, not for a processor.
export RUST_TEST_THREADS ?= 4

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 15

build: cargo ## Build the program: target/ci/pg-s3-backup
	cargo build $(CARGO_FLAGS)

# Where to install, and what: PROGRAM is a binary that is there already, as in the release's archive; without it the release
# is built.
PREFIX ?= /usr/local
DESTDIR ?=
PROGRAM ?= $(wildcard pg-s3-backup)
UNITS := $(wildcard systemd/*.service systemd/*.timer)

install: ## Install program, manual, completions and systemd units (PREFIX=/usr/local, DESTDIR=)
ifeq ($(PROGRAM),)
	@source scripts/lib.sh && need_cargo && cargo build --release --locked
endif
	install -Dm755 $(or $(PROGRAM),target/release/pg-s3-backup) $(DESTDIR)$(PREFIX)/bin/pg-s3-backup
	install -Dm644 -t $(DESTDIR)$(PREFIX)/share/man/man1 man/*.1
	install -Dm644 completions/pg-s3-backup.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/pg-s3-backup
	install -Dm644 -t $(DESTDIR)$(PREFIX)/share/zsh/site-functions completions/_pg-s3-backup
	install -Dm644 -t $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d completions/pg-s3-backup.fish
	install -Dm644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system $(UNITS)
	install -Dm644 -t $(DESTDIR)$(PREFIX)/share/doc/pg-s3-backup README.md CHANGELOG.md LICENSE systemd/environment.example
	sed -i 's|^ExecStart=/usr/local/bin/|ExecStart=$(PREFIX)/bin/|' $(addprefix $(DESTDIR)$(PREFIX)/lib/systemd/system/,$(notdir $(UNITS)))

dist: ## Make the release's archive and checksum: target/dist
	@scripts/dist $(PROGRAM)

image: ## Build the container image around target/ci/pg-s3-backup, and test it (as root)
	@scripts/image

image-cold: ## The same with everything built inside, as docker build does
	@scripts/image cold

demo: ## Back up, list and restore a database, on servers made for it: no configuration needed
	@scripts/demo

test: cargo ## Run all tests, on servers that they start themselves
	@scripts/install postgres s3 chromium
	cargo test $(CARGO_FLAGS) --doc
	cargo test $(CARGO_FLAGS) --workspace --lib --bins --tests

# Above what a run of all tests takes; a given seed repeats the instants of another run.
KILL_ROUNDS ?= 200

test-kill: cargo ## Kill 200 streamed and 200 spooled backups and 100 restores (KILL_ROUNDS, KILL_SEED): target/kill-table.md
	@scripts/install postgres s3
	KILL_ROUNDS=$(KILL_ROUNDS) cargo test $(CARGO_FLAGS) --test it -- kill:: --nocapture

POSTGRES_MAJORS ?= 13 14 15 16 17 18
# Above what a run of all tests takes: tables that several sessions restore, runs with foreign keys in circles, and the size of a
# backup of which one table is read.
RESTORE_TABLES ?= 5000
RESTORE_CIRCLES ?= 20
RESTORE_SELECTED_MIB ?= 1024

test-versions: cargo ## Restore on PostgreSQL 13 to 18 and from each to the next, thousands of tables, and one of 1 GiB (POSTGRES_MAJORS)
	@scripts/install postgres s3
	POSTGRES_MAJORS='$(POSTGRES_MAJORS)' RESTORE_TABLES=$(RESTORE_TABLES) RESTORE_CIRCLES=$(RESTORE_CIRCLES) RESTORE_SELECTED_MIB=$(RESTORE_SELECTED_MIB) \
		cargo test $(CARGO_FLAGS) --test it -- restore::versions:: restore::parallel:: restore::selective_size:: --nocapture

page: cargo ## Look at the status page in Chromium (part of make test): target/page/*.png
	@scripts/install postgres s3 chromium
	cargo test $(CARGO_FLAGS) --test it -- page::

fuzz: ## Fuzz the parsers of others' bytes, ten minutes each (FUZZ_SECONDS=600)
	@scripts/fuzz

check: ## Format, lints, documents, dependencies, scripts: what must hold before a commit
	@scripts/check

documents: cargo ## Write the generated parts and the picture of docs/, man/, completions/ and k8s/
	UPDATE_DOCUMENTS=1 cargo test $(CARGO_FLAGS) --test it -- documents:: page::states::docs_have_a_picture

# Its variables, such as SCALE, KINDS, CONTENDERS and MODES: scripts/bench --help.
bench: ## Compare speed, memory and size with pipelines of common tools, and many databases with single runs (about an hour; SCALE, MODES)
	@scripts/bench
	@scripts/bench-databases

fmt: cargo ## Format the code
	cargo fmt

clean: cargo ## Remove everything that was built or installed below target/
	cargo clean

cargo:
	@source scripts/lib.sh && need_cargo
