# Everything runs from here; CI and a laptop run the same lines.

CARGO ?= cargo
TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
MODULE := $(TARGET_DIR)/release/libshm_fifo_redis_server.so
# For example: make demo DEMO_ARGS="--requests 10000"
DEMO_ARGS ?=
# For example: make bench-fifo BENCH_ARGS=--quick
BENCH_ARGS ?=
# How long each fuzz target runs.
FUZZ_SECONDS ?= 60
# The servers of `make matrix`, of shm-fifo-redis-server/matrix/servers; none is all.
MATRIX ?=

.DEFAULT_GOAL := help
.PHONY: help setup build module demo test clients clients-all matrix corpora fuzz lint doc no-std package fmt clean
.PHONY: pictures parity bench-fifo bench-check proof loom mutants model miri tsan asan

## help: list the targets
help:
	@sed -n 's/^## \([a-z-]*\): /\1\t/p' $(MAKEFILE_LIST) | expand -t 15

## setup: install what building and testing need (redis-server, libclang, musl)
setup:
	@.ci/setup test

## build: build all that is installed, in release mode
build:
	$(CARGO) build --release --locked --workspace

# The end-to-end tests use what is shipped, from one place: the release build.
module:
	$(CARGO) build --release --locked \
		-p shm-fifo-redis-server -p redis-shm -p shm-fifo-redis-preload

.PHONY: attack attack-short install uninstall test-c test-c-fifo headers test-netns bench-clients
PREFIX ?= /usr/local
# Where the C library goes: Debian has a directory for each kind of machine.
LIBDIR ?= $(PREFIX)/lib
# Where what is installed was built.
BUILT ?= $(TARGET_DIR)/release
CAPI := shm-fifo-redis-client/capi
HEADERS = $(wildcard $(CAPI)/include/*.h shm-fifo/include/*.h)
# A program is linked by the first name, and runs with the second one: .so.0.
CAPI_LIBRARY = $(LIBDIR)/libshm_fifo_redis.so
CAPI_ABI = $(shell sed -n 's/^const ABI: u32 = \(.*\);/\1/p' $(CAPI)/build.rs)
# Man pages and completions, as redis-shm writes them itself.
MANUAL := $(TARGET_DIR)/manual
BASH_COMPLETION = $(PREFIX)/share/bash-completion/completions/redis-shm
ZSH_COMPLETION = $(PREFIX)/share/zsh/site-functions/_redis-shm
FISH_COMPLETION = $(PREFIX)/share/fish/vendor_completions.d/redis-shm.fish
# The script and the alerts for Prometheus.
MONITORING = $(PREFIX)/share/shm-fifo/monitoring
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
# Programs are installed stripped (-s): three quarters of them are debug information, which
# stays in $(TARGET_DIR) for addr2line. Who splits it off, as debhelper does, says so by
# INSTALL="install --strip-program=true".
INSTALL ?= install
## install: install the module, redis-shm, its man pages, libraries, headers (PREFIX, DESTDIR)
install:
	@[ -e $(BUILT)/$(notdir $(MODULE)) ] && [ -e $(BUILT)/libshm_fifo_redis.so ] || \
		{ echo "make install: nothing is built in $(BUILT); run make build first" >&2; exit 1; }
	$(INSTALL) -sDm755 -t $(DESTDIR)$(PREFIX)/lib/redis/modules $(BUILT)/$(notdir $(MODULE))
	$(INSTALL) -sDm755 -t $(DESTDIR)$(PREFIX)/bin $(BUILT)/redis-shm
	$(INSTALL) -sDm755 -t $(DESTDIR)$(PREFIX)/lib $(BUILT)/libshm_fifo_redis_preload.so
	$(INSTALL) -sDm755 $(BUILT)/libshm_fifo_redis.so $(DESTDIR)$(CAPI_LIBRARY).$(VERSION)
	ln -sf $(notdir $(CAPI_LIBRARY)).$(VERSION) $(DESTDIR)$(CAPI_LIBRARY).$(CAPI_ABI)
	ln -sf $(notdir $(CAPI_LIBRARY)).$(CAPI_ABI) $(DESTDIR)$(CAPI_LIBRARY)
	$(INSTALL) -Dm644 -t $(DESTDIR)$(LIBDIR) $(BUILT)/libshm_fifo_redis.a
	$(INSTALL) -Dm644 -t $(DESTDIR)$(PREFIX)/include $(HEADERS)
	$(INSTALL) -d $(DESTDIR)$(LIBDIR)/pkgconfig
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(LIBDIR))|' -e 's|@VERSION@|$(VERSION)|' \
		$(CAPI)/shm_fifo_redis.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/shm_fifo_redis.pc
	rm -rf $(MANUAL)
	$(BUILT)/redis-shm generate $(MANUAL)
	$(INSTALL) -Dm644 -t $(DESTDIR)$(PREFIX)/share/man/man1 $(MANUAL)/*.1
	$(INSTALL) -Dm644 -t $(DESTDIR)$(MONITORING) $(PACKAGING)/monitoring/*
	$(INSTALL) -Dm644 -t $(DESTDIR)$(PREFIX)/share/man/man7 shm-fifo-redis-server/redis-shm-module.7
	$(INSTALL) -Dm644 $(MANUAL)/redis-shm.bash $(DESTDIR)$(BASH_COMPLETION)
	$(INSTALL) -Dm644 $(MANUAL)/_redis-shm $(DESTDIR)$(ZSH_COMPLETION)
	$(INSTALL) -Dm644 $(MANUAL)/redis-shm.fish $(DESTDIR)$(FISH_COMPLETION)

## uninstall: remove what install put there (the same PREFIX, DESTDIR)
uninstall:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/, bin/redis-shm lib/redis/modules/$(notdir $(MODULE)) \
		lib/libshm_fifo_redis_preload.so \
		$(addprefix include/, $(notdir $(HEADERS)))) \
		$(addprefix $(DESTDIR)$(LIBDIR)/, libshm_fifo_redis.a pkgconfig/shm_fifo_redis.pc) \
		$(DESTDIR)$(CAPI_LIBRARY) $(addprefix $(DESTDIR)$(CAPI_LIBRARY)., $(CAPI_ABI) $(VERSION)) \
		$(DESTDIR)$(PREFIX)/share/man/man1/redis-shm.1 $(DESTDIR)$(PREFIX)/share/man/man1/redis-shm-*.1 \
		$(DESTDIR)$(PREFIX)/share/man/man7/redis-shm-module.7 \
		$(addprefix $(DESTDIR), $(BASH_COMPLETION) $(ZSH_COMPLETION) $(FISH_COMPLETION))
	rm -rf $(DESTDIR)$(MONITORING)

PACKAGING := shm-fifo-redis-server/packaging
SHIPPED := $(TARGET_DIR)/shipped
.PHONY: shipped deb dist test-package

# What packages are made of: the same bytes everywhere, for systems of 2018 and newer.
shipped:
	@SHM_FIFO_SHIPPED=$(SHIPPED) .ci/setup package
	CARGO=$(CARGO) $(PACKAGING)/build $(SHIPPED)

## deb: Debian packages of module, tools and C library, in target/deb
deb: shipped
	$(PACKAGING)/deb $(SHIPPED) $(TARGET_DIR)/deb

## dist: the release's tarball with install.sh and checksum, in target/dist
dist: shipped
	$(PACKAGING)/dist $(SHIPPED) $(TARGET_DIR)/dist

# Suites whose servers try the packages: Debian 12 and 13, and Ubuntu 24.04 where its mirror and
# its key are to be had (UBUNTU_KEYRING names a file of it).
SUITES ?= bookworm trixie noble
## test-package: install what is shipped into clean roots, and use it there (root; SUITES)
test-package: deb dist
	@SHM_FIFO_SHIPPED=$(SHIPPED) .ci/setup test-package
	$(PACKAGING)/tests/dist $(SHIPPED) $(TARGET_DIR)/dist
	$(PACKAGING)/tests/deb $(TARGET_DIR)/deb $(TARGET_DIR)/dist $(TARGET_DIR)/roots $(SUITES)
	$(PACKAGING)/tests/oci $(TARGET_DIR)/dist $(TARGET_DIR)/roots

MUSL := x86_64-unknown-linux-musl
.PHONY: musl
## musl: test the libraries in programs for Alpine, also in C (rustup target add x86_64-unknown-linux-musl)
musl: module
	@if ! rustup target list --installed 2>/dev/null | grep -qx $(MUSL); then \
		echo "make musl: NOTHING WAS TESTED: rustup target add $(MUSL)" >&2; exit 1; fi
	$(CARGO) test --locked --target $(MUSL) --target-dir $(TARGET_DIR)/musl -p shm-fifo \
		--features std,virtual-fd --lib --test fd_passing
	$(CARGO) test --locked --target $(MUSL) --target-dir $(TARGET_DIR)/musl \
		-p shm-fifo-redis-client -p shm-fifo-redis-capi --lib
	$(CARGO) build --release --locked --target $(MUSL) --target-dir $(TARGET_DIR)/musl -p shm-fifo-redis-capi
	$(CAPI)/tests/run-musl $(TARGET_DIR)/musl/$(MUSL)/release $(MODULE) $(TARGET_DIR)/test-musl
	@echo "make musl: NOT RUN in a root of Alpine's own, which Debian's mirror does not have" >&2

AARCH64 := aarch64-unknown-linux-gnu
AARCH64_TEST = $(CARGO) test --locked --target $(AARCH64) --target-dir $(TARGET_DIR)
# qemu-user has no MADV_REMOVE and no MADV_DONTFORK, and its threads sleep in calls of
# the machine below it. What needs them, or too long, is left out by name: docs/testing.md.
AARCH64_SKIPPED := a_silent_session_keeps_nothing_that_was_read_and_goes_on \
	last_words_stay_until_they_are_read_or_nobody_maps_them \
	proc_a_forked_child_is_refused_and_harms_neither_end \
	a_forked_child_cannot_touch_the_connection_and_the_parent_goes_on \
	no_process_inherits_or_dumps_a_mapping \
	proc_every_method_of_a_channel_is_harmless_in_a_forked_child \
	proc_every_method_of_a_duplex_is_harmless_in_a_forked_child \
	proc_every_function_of_virtual_fds_is_harmless_in_a_forked_child \
	another_thread_may_add_a_ready_connection_while_the_loop_sleeps \
	the_next_wait_rings_a_peer_that_sleeps_over_a_reply \
	a_thread_that_does_not_wait_rings_at_once \
	a_connection_that_is_watched_no_more_rings_at_once \
	a_program_that_blocks_rings_before_it_does \
	the_parts_of_what_the_ring_cannot_hold_ring_at_once \
	where_two_threads_wait_in_turns_each_rings_at_once \
	a_second_thread_that_comes_to_wait_rings_for_the_first_at_whatever_moment \
	whatever_the_moment_an_early_message_is_found
# All but those with a server, and one for which there has to be MADV_DONTFORK.
GO_AARCH64 := ^(Test([^AR]|A[^M]|Re[pq])|Fuzz)
.PHONY: aarch64
## aarch64: test the libraries as AArch64 programs, by qemu-user, and build the module; installs them
aarch64: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER := aarch64-linux-gnu-gcc
aarch64: export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER := $(CURDIR)/.ci/run-aarch64
aarch64: export SHM_FIFO_CC := aarch64-linux-gnu-gcc -std=c11
aarch64:
	@.ci/setup aarch64
	$(CARGO) check --locked --target $(AARCH64) --target-dir $(TARGET_DIR) -p shm-fifo-redis-server
	$(AARCH64_TEST) -p shm-fifo-redis-client --lib --test handshake --test handshake_memory \
		--test lazy --test connection
	$(CARGO) build --locked --target $(AARCH64) --target-dir $(TARGET_DIR) -p shm-fifo --all-features --examples
	$(AARCH64_TEST) -p shm-fifo --all-features --lib --tests --no-fail-fast -- \
		$(addprefix --skip ,$(AARCH64_SKIPPED))
	cd $(GO_CLIENT) && GOARCH=arm64 go test -count=1 -exec qemu-aarch64 -short -run '$(GO_AARCH64)' .
	@echo "make aarch64: NOT RUN, since qemu-user cannot: $(AARCH64_SKIPPED)" >&2

## demo: PING, SET and GET over TCP, unix socket and shared memory, side by side
demo:
	@.ci/setup demo
	$(CARGO) build --release --locked --workspace
	$(TARGET_DIR)/release/redis-shm demo --module $(MODULE) --output $(TARGET_DIR)/demo $(DEMO_ARGS)

## test: everything CI checks: format, lints, docs, no_std and all tests
test:
	@.ci/setup test
	@$(MAKE) --no-print-directory lint doc no-std package module
	SHM_FIFO_MODULE=$(MODULE) $(CARGO) test --locked --workspace --all-features
	@$(MAKE) --no-print-directory corpora bench-check
	@echo "make test: format, lints, docs, no_std and all tests passed"

## matrix: fetch real servers and run the end-to-end tests on each (MATRIX=redis-8.0)
matrix: module
	@SHM_FIFO_MODULE=$(MODULE) CARGO_TARGET_DIR=$(TARGET_DIR) CARGO=$(CARGO) \
		shm-fifo-redis-server/matrix/run $(MATRIX)

# How many random commands are sent each way; SHM_FIFO_PARITY_SEED chooses others.
COMMANDS ?= 1000000
## parity: COMMANDS (1000000) random commands, on a socket and in shared memory
parity: module
	SHM_FIFO_MODULE=$(MODULE) SHM_FIFO_PARITY_COMMANDS=$(COMMANDS) \
		$(CARGO) test --locked -p shm-fifo-redis-server --test parity -- --nocapture

# shm-fifo's headers with each compiler, each language and each sanitizer. One for threads does
# not see fences: gcc says so.
ASAN_UBSAN := -fsanitize=address,undefined -fno-sanitize-recover=undefined
COMPILERS := "gcc -std=c11" "clang -std=c11" "g++ -std=c++11 -x c++" "clang++ -std=c++11 -x c++" \
	"g++ -std=c++17 -x c++ $(ASAN_UBSAN)" "clang -std=c17 $(ASAN_UBSAN)" \
	"gcc -std=c11 -fsanitize=thread -Wno-tsan" "clang++ -std=c++17 -x c++ -fsanitize=thread"
test-c-fifo:
	@.ci/setup test-c
	for compiler in $(COMPILERS); do \
		echo "test-c: shm_fifo.h, $$compiler"; \
		SHM_FIFO_CC="$$compiler" $(CARGO) test --locked -p shm-fifo --all-features --test c_peer || exit 1; \
	done

## test-c: test the C interfaces: shm-fifo's with each compiler, the client's with hiredis and libvalkey
test-c: module test-c-fifo
	@.ci/setup test-c
	$(CARGO) build --release --locked -p shm-fifo-redis-capi
	shm-fifo-redis-client/capi/tests/run $(TARGET_DIR)/release $(MODULE) $(TARGET_DIR)/test-c

# What the tests with client libraries take from Debian, and where they are built.
GO_CLIENT := shm-fifo-redis-client/go
GO_FILES := $(TARGET_DIR)/go
# In CI: make test-go GO_TEST=-short
GO_TEST ?=
.PHONY: test-go bench-go
## test-go: test the client for Go, also with go-redis and redigo; installs Go (GO_TEST=-short)
test-go: export SHM_FIFO_MODULE := $(MODULE)
test-go: module
	@.ci/setup test-go
	$(GO_CLIENT)/clients/fetch $(GO_FILES)
	@unformatted=$$(gofmt -l $(GO_CLIENT)); [ -z "$$unformatted" ] || { echo "gofmt -w $$unformatted" >&2; exit 1; }
	cd $(GO_CLIENT) && go vet ./... && GOARCH=arm64 go vet ./... && GOOS=darwin go vet . && GOOS=windows go vet .
	cd $(GO_CLIENT) && go test -count=1 $(GO_TEST) ./...
	cd $(GO_CLIENT) && go test -count=1 -short -race .
	$(GO_CLIENT)/clients/run $(GO_FILES) vet ./...
	$(GO_CLIENT)/clients/run $(GO_FILES) test -count=1 $(GO_TEST) ./...

# For example: make bench-go BENCH_ARGS="-rounds 9 -only 'PING, 1 goroutine'"
## bench-go: PING by go-redis and redigo, sockets and shared memory in turns (BENCH_ARGS)
bench-go: module
	@.ci/setup test-go
	$(GO_CLIENT)/clients/fetch $(GO_FILES)
	$(GO_CLIENT)/clients/run $(GO_FILES) run ./bench -module $(MODULE) $(BENCH_ARGS)

PYTHON_CLIENT := shm-fifo-redis-client/python
PYTHON_FILES := $(TARGET_DIR)/python
WHEELS := $(TARGET_DIR)/wheels
MATURIN = PATH=$(PYTHON_FILES)/bin:$$PATH maturin build --release --locked \
	--manifest-path $(PYTHON_CLIENT)/Cargo.toml --target-dir $(TARGET_DIR)
# For example: make test-python PYTHON_TEST="-k cluster"
PYTHON_TEST ?=
.PHONY: test-python test-python-suite wheel setup-python
setup-python:
	@SHM_FIFO_PYTHON=$(PYTHON_FILES) .ci/setup test-python

# The tests use what is installed: a wheel for this machine.
.PHONY: install-python
install-python: setup-python
	rm -rf $(WHEELS)/here
	$(MATURIN) --compatibility linux --out $(WHEELS)/here
	$(PYTHON_FILES)/bin/pip install --quiet --force-reinstall --no-deps $(WHEELS)/here/*.whl

## test-python: test the client for Python, with redis-py on each kind of loop; installs them
test-python: export SHM_FIFO_MODULE := $(MODULE)
test-python: module install-python
	$(CARGO) fmt --manifest-path $(PYTHON_CLIENT)/Cargo.toml --check
	PYO3_PYTHON=$(PYTHON_FILES)/bin/python3 $(CARGO) clippy --release --locked --target-dir $(TARGET_DIR) \
		--manifest-path $(PYTHON_CLIENT)/Cargo.toml -- -D warnings
	cd $(PYTHON_CLIENT) && $(PYTHON_FILES)/bin/mypy --cache-dir $(TARGET_DIR)/mypy shm_fifo_redis
	cd $(PYTHON_CLIENT) && $(PYTHON_FILES)/bin/pytest -q $(PYTHON_TEST)

## test-python-suite: redis-py's own tests, on sockets and in shared memory, compared
test-python-suite: module install-python
	$(PYTHON_CLIENT)/suite/run $(PYTHON_FILES) $(MODULE) $(TARGET_DIR)/redis-py

# For any distribution since 2014 with glibc, and with musl; a linker that knows older systems.
## wheel: Python wheels for glibc and musl, in target/wheels
wheel: setup-python
	$(MATURIN) --zig --compatibility manylinux2014 --out $(WHEELS)
	$(MATURIN) --zig --compatibility musllinux_1_2 --target $(MUSL) --out $(WHEELS)

## headers: make the C interface's headers anew from their sources
headers:
	SHM_FIFO_UPDATE_HEADERS=1 $(CARGO) test --locked -p shm-fifo-redis-capi --test header

# As root, since it makes a network namespace.
## test-netns: a cluster of which one node is on another network (root)
test-netns: module
	SHM_FIFO_MODULE=$(MODULE) $(CARGO) test --locked -p shm-fifo-redis-server --test cluster -- --ignored

## bench-clients: PINGs of each client library, shared memory beside its unix socket
bench-clients: build test-c install-python
	@SHM_FIFO_CLIENTS=$(TARGET_DIR)/clients .ci/setup bench-clients
	$(CARGO) build --release --locked -p shm-fifo-redis-client --features tokio --example ping_loop
	SHM_FIFO_CLIENTS=$(TARGET_DIR)/clients SHM_FIFO_PYTHON=$(PYTHON_FILES) \
		shm-fifo-redis-client/benches/clients $(TARGET_DIR)/release $(MODULE) $(TARGET_DIR)/test-c

# For example: make report REPORT_ARGS="--only sweep"
REPORT_ARGS ?=
## report: measure what README and docs/performance.md show, and write it there
report: build
	@.ci/setup demo
	$(TARGET_DIR)/release/redis-shm report --module $(MODULE) --plots docs \
		--update README.md docs/performance.md $(REPORT_ARGS)

## pictures: draw those of docs again, of what was measured last
pictures:
	$(CARGO) run --quiet --release --locked -p redis-shm -- report --draw docs/*.json

# The fuzz targets' inputs, without a fuzzer: they need no C++ compiler.
corpora:
	$(CARGO) clippy --locked --manifest-path fuzz/Cargo.toml --no-default-features --all-targets \
		--target-dir $(TARGET_DIR) -- -D warnings
	$(CARGO) test --locked --manifest-path fuzz/Cargo.toml --no-default-features \
		--target-dir $(TARGET_DIR)

## bench-fifo: the FIFO beside its peers and the limits of the machine
bench-fifo:
	$(CARGO) run --release --locked --manifest-path shm-fifo/bench/Cargo.toml \
		--target-dir $(TARGET_DIR) -- --output $(TARGET_DIR)/bench $(BENCH_ARGS)

# That the benchmark works, without the peer that takes minutes to compile.
bench-check:
	$(CARGO) clippy --locked --manifest-path shm-fifo/bench/Cargo.toml --no-default-features \
		--all-targets --target-dir $(TARGET_DIR) -- -D warnings
	$(CARGO) test --locked --manifest-path shm-fifo/bench/Cargo.toml --no-default-features \
		--target-dir $(TARGET_DIR)

## fuzz: run each fuzz target for FUZZ_SECONDS (60) and print a table
fuzz:
	@.ci/setup fuzz
	@CARGO_TARGET_DIR=$(TARGET_DIR) fuzz/run $(FUZZ_SECONDS)

CLIENTS := SHM_FIFO_MODULE=$(MODULE) SHM_FIFO_CLIENTS=$(TARGET_DIR)/clients
CLIENTS_TEST := $(CLIENTS) $(CARGO) test --locked -p shm-fifo-redis-preload
## clients: programs of each kind of runtime, unmodified, on shared memory; installs them
clients: module
	@$(CLIENTS) .ci/setup clients
	$(CARGO) build --locked -p shm-fifo-redis-preload --example redis_rs
	$(CLIENTS_TEST) --test clients -- --ignored

# How many random calls `make attack` makes; SHM_FIFO_ATTACK_SEED chooses others.
ATTACK_STEPS ?= 1000000
ATTACK_TEST := $(CARGO) test --locked -p shm-fifo-redis-preload --test attack -- --ignored --nocapture
## attack: ATTACK_STEPS (1000000) random calls, preloaded and not, compared with a socket's
attack: module
	SHM_FIFO_MODULE=$(MODULE) SHM_FIFO_ATTACK_STEPS=$(ATTACK_STEPS) $(ATTACK_TEST)

## attack-short: 20000 of them, always the same
attack-short: module
	SHM_FIFO_MODULE=$(MODULE) SHM_FIFO_ATTACK_SEED=1 SHM_FIFO_ATTACK_STEPS=20000 $(ATTACK_TEST)

## clients-all: the same and more of each kind, and proxies: minutes more, and more packages
clients-all: clients
	@$(CLIENTS) .ci/setup clients-all
	$(CLIENTS_TEST) --test clients_all -- --ignored

## lint: check the format and clippy's warnings
lint:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) fmt --manifest-path shm-fifo/bench/Cargo.toml --check
	$(CARGO) fmt --manifest-path shm-fifo/no-std/Cargo.toml --check
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings
	$(CARGO) clippy --locked -p redis-shm --no-default-features --all-targets -- -D warnings

## doc: build the API documentation; a warning is an error
doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --all-features --no-deps

NO_STD_BUILD = $(CARGO) build --locked --manifest-path shm-fifo/no-std/Cargo.toml --target-dir $(TARGET_DIR)/no-std

# The library that is built has a panic handler and no allocator: std or alloc, from
# whatever crate, are errors. Where rustup has a target without operating system, so is libc.
## no-std: link the core without std, allocator and operating system
no-std:
	$(NO_STD_BUILD)
	@if rustup target list --installed 2>/dev/null | grep -qx x86_64-unknown-none; then \
		set -x; $(NO_STD_BUILD) --target x86_64-unknown-none; \
	else \
		echo "make no-std: NOT RUN for x86_64-unknown-none, which is not installed" >&2; \
	fi

## portable: check shm-fifo for other kinds of machines, big-endian ones too (rustup fetches their targets)
.PHONY: portable
portable:
	@CARGO=$(CARGO) .ci/portable $(TARGET_DIR)/portable

# What is published, and what each package has for who finds it at crates.io. The C library
# and the one that is preloaded are none: packages of the system carry them.
PUBLISHED := shm-fifo shm-fifo-redis-server shm-fifo-redis-client redis-shm
FIELDS := description readme keywords categories license repository rust-version
# One warning is meant: tests that need what is beside them in the repository stay there.
## package: build each crate from what would be published; a warning is an error
package:
	@log=$$($(CARGO) package --locked --allow-dirty $(addprefix -p ,$(PUBLISHED)) 2>&1) || { echo "$$log" >&2; exit 1; }; \
	if echo "$$log" | grep -v 'ignoring test ' | grep -q warning; then echo "$$log" >&2; exit 1; fi
	@for name in $(PUBLISHED); do \
		package=$(TARGET_DIR)/package/$$name-$(VERSION); \
		lacks() { echo "make package: $$name has no $$1" >&2; exit 1; }; \
		for file in README.md CHANGELOG.md LICENSE; do \
			tar -tf $$package.crate $$name-$(VERSION)/$$file >/dev/null 2>&1 || lacks $$file; \
		done; \
		for field in $(FIELDS); do \
			tar -xOf $$package.crate $$name-$(VERSION)/Cargo.toml | grep -q "^$$field = " || lacks $$field; \
		done; \
	done
	@echo "make package: $(PUBLISHED) build from their packages"

# The compiler that Cargo.toml promises is enough: for what users build, tests may ask for more.
MSRV = $(call rust_version,Cargo.toml)
MSRV_FIFO = $(call rust_version,shm-fifo/Cargo.toml)
rust_version = $(shell sed -n 's/^rust-version = "\(.*\)"/\1.0/p' $(1))
.PHONY: msrv deny semver
## msrv: build everything with the oldest compilers that Cargo.toml and shm-fifo/Cargo.toml name
msrv:
	@for toolchain in $(MSRV) $(MSRV_FIFO); do \
		$(CARGO) +$$toolchain --version || { \
			echo "make msrv: NOTHING WAS CHECKED: rustup toolchain install $$toolchain --profile minimal" >&2; \
			exit 1; }; \
	done
	$(CARGO) +$(MSRV) check --locked --workspace --all-features --target-dir $(TARGET_DIR)/msrv
	$(CARGO) +$(MSRV_FIFO) check --locked -p shm-fifo --all-features --target-dir $(TARGET_DIR)/msrv
	$(CARGO) +$(MSRV_FIFO) check --locked -p shm-fifo --no-default-features --target-dir $(TARGET_DIR)/msrv

# Without a network: make deny DENY="bans licenses sources"
DENY ?= advisories bans licenses sources
## deny: advisories, licences and sources of the dependencies, by deny.toml; installs cargo-deny
deny:
	@.ci/setup deny
	$(CARGO) deny check $(DENY)

# What the interfaces are compared with: a commit; the last release, if there was one.
SEMVER_BASE ?= $(shell git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null)
## semver: what has changed in the public Rust interfaces since SEMVER_BASE; installs cargo-semver-checks
semver:
	@[ -n "$(SEMVER_BASE)" ] || { \
		echo "make semver: NOTHING WAS COMPARED: no release here; make semver SEMVER_BASE=COMMIT" >&2; \
		exit 1; }
	@.ci/setup semver-checks
	$(CARGO) semver-checks --baseline-rev $(SEMVER_BASE) -p shm-fifo -p shm-fifo-redis-client

# What only a nightly compiler can do (NIGHTLY=+name chooses one).
NIGHTLY ?= +nightly
NATIVE_TARGET = $(shell rustc -vV | sed -n 's/^host: //p')
# loom and the sanitizers compile everything in their own way: each has its own place,
# and its binaries are optimised, without debug information.
loom mutants: export CARGO_PROFILE_DEV_OPT_LEVEL := 2
loom mutants: export CARGO_PROFILE_DEV_DEBUG := 0

## proof: loom, its mutants, the spin models and, where there is a nightly, Miri
proof:
	@.ci/setup proof
	@$(MAKE) --no-print-directory loom mutants model
	@if $(CARGO) $(NIGHTLY) miri --version >/dev/null 2>&1; then \
		$(MAKE) --no-print-directory miri; \
	else \
		echo "make proof: all but Miri passed. NOT RUN: Miri, which needs a nightly toolchain" >&2; \
	fi

## loom: run the core in all executions that the memory model allows
loom:
	RUSTFLAGS="--cfg loom" $(CARGO) test --locked -p shm-fifo --test models --target-dir $(TARGET_DIR)/loom

# Which of shm-fifo/mutants to put in; none named are all.
MUTANTS ?=

## mutants: check that loom notices each fault of shm-fifo/mutants
mutants:
	CARGO_TARGET_DIR=$(TARGET_DIR) shm-fifo/mutants/run $(MUTANTS)

## model: explore shm-fifo/models/*.pml with spin, whole and with faults
model:
	CARGO_TARGET_DIR=$(TARGET_DIR) shm-fifo/models/check

# The orders of threads that Miri tries of each race.
MIRI_SEEDS ?= 0..16
# The tests that it runs besides; those after the first take a minute and a half each.
MIRI_PARTS ?= miri-lib miri-oracle miri-hostile
# Without the flags: cargo is no part of the job of make.
MIRI_TEST = MAKEFLAGS= $(CARGO) $(NIGHTLY) miri test --locked -p shm-fifo --target-dir $(TARGET_DIR)/miri

## miri: run the core in Miri, the races with 16 seeds each (MIRI_SEEDS=0..16)
miri:
	@$(CARGO) $(NIGHTLY) miri --version || { \
		echo "make miri: NOTHING WAS CHECKED: there is no Miri here. It comes with" >&2; \
		echo "  rustup toolchain install nightly --component miri,rust-src" >&2; \
		exit 1; }
	@$(MAKE) --no-print-directory --jobs=2 --output-sync $(MIRI_PARTS)
	MIRIFLAGS="-Zmiri-many-seeds=$(MIRI_SEEDS)" $(MIRI_TEST) --test models

# Miri has one thread: they take half the time beside each other.
.PHONY: miri-lib miri-oracle miri-hostile
miri-lib miri-oracle miri-hostile: export MIRIFLAGS := -Zmiri-disable-isolation
miri-lib:
	$(MIRI_TEST) --lib
miri-oracle:
	$(MIRI_TEST) --test oracle
miri-hostile:
	$(MIRI_TEST) --test hostile

# A sanitizer does not see what assembly accesses: the portable copies stand for it.
# For ThreadSanitizer std is built anew, or it would report what std does.
## tsan: run the threads of the core and of event loops under ThreadSanitizer (nightly, with rust-src)
tsan:
	RUSTFLAGS="-Zsanitizer=thread --cfg portable_copies" $(CARGO) $(NIGHTLY) test --locked \
		-Zbuild-std --target $(NATIVE_TARGET) --target-dir $(TARGET_DIR)/tsan \
		-p shm-fifo --all-features --test models --test threads --test vfd_rings --test vfd_threads

## asan: run all of shm-fifo's tests under AddressSanitizer
asan: export RUSTC_BOOTSTRAP := 1
asan: export RUSTFLAGS := -Zsanitizer=address --cfg portable_copies
asan: ASAN = --locked --target $(NATIVE_TARGET) --target-dir $(TARGET_DIR)/asan -p shm-fifo --all-features
asan:
	$(CARGO) build $(ASAN) --examples
	$(CARGO) test $(ASAN) --lib --tests --no-fail-fast

## fmt: format the code
fmt:
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml
	$(CARGO) fmt --manifest-path shm-fifo/bench/Cargo.toml
	$(CARGO) fmt --manifest-path shm-fifo/no-std/Cargo.toml
	$(CARGO) fmt --manifest-path $(PYTHON_CLIENT)/Cargo.toml

## clean: remove everything that was built
clean:
	$(CARGO) clean
