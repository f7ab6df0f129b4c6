# memjail's house-keeping. `make help` lists the targets; the text comes from
# the "##" comments below.

SHELL        := /bin/sh
GO           ?= go
PREFIX       ?= /usr/local
DESTDIR      ?=
# What `make bench` runs: a regular expression for the names of the cases.
BENCH        ?= .
# More for it: -page (write the pages), -json FILE, -seconds N (for all of it), -runs N, -list.
BENCHFLAGS   ?=
# Where `make launchers` puts other launchers, and `make bench` looks for them first.
LAUNCHERS    ?= bin/launchers
# How long each kind of attempt of `make soak` goes on.
SOAK         ?= 10m
# How long `make fuzz` and `make check` run each fuzz target.
FUZZTIME     ?= 5s
# Up to how many calls of one kind `make faults` lets fail.
MOST         ?= 16
# How long `make mutation` goes on, and what it tries: -only PATTERN, -every N, -survivors, -slow.
MUTATION     ?= 10m
MUTATIONFLAGS ?=
# How long the long run of `make load` takes, and what it does: -only PATTERN, -sandboxes N.
LOAD         ?= 10m
LOADFLAGS    ?=
# How many opens each race of `make races` makes, and which: -only PATTERN, -seconds N.
RACES        ?= 10000000
RACESFLAGS   ?=
# Which suites `make corpus` runs: a regular expression for their names.
CORPUS       ?= .
# Where `make services` makes the root directory with Debian's servers.
SERVICES     ?= $(CURDIR)/bin/services
# What `make packages` calls the version.
VERSION      ?= 0.1.0
# DEPS=skip leaves the system's packages alone; tests that lack one are skipped.
DEPS         ?= install
# Pinned, so that a new release of a tool cannot turn a good tree red.
STATICCHECK  ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2
DEADCODE     ?= golang.org/x/tools/cmd/deadcode@v0.52.0

# The program that ships has no cgo; only the generator of the filters has.
export CGO_ENABLED = 0
# The program begins at an entry point of its own, which remembers the ignored
# signals before the Go runtime replaces them (sandbox/kernel/early).
LDFLAGS      ?= -E memjail_entry

# Where `make build` puts the program.
BIN          ?= bin/memjail

.DEFAULT_GOAL := build
.NOTPARALLEL:

.PHONY: build
build: ## build the program: bin/memjail
	$(GO) build -trimpath -ldflags='$(LDFLAGS)' -o '$(BIN)' ./cmd/memjail

.PHONY: demo
demo: build ## show a real program working, and attempts on memory failing
	@DEPS=$(DEPS) .ci/deps gcc libc6-dev git procps python3
	@testdata/demo/demo.sh bin/memjail

.PHONY: test
test: deps build format vet generated arm64 ## everything that has to hold; installs what it needs (DEPS=skip: does not)
	$(GO) test -count=1 -timeout 19m ./...

.PHONY: check
check: format tidy vet lint deadcode architecture fuzz ## what can be said without starting a sandbox

.PHONY: bench
bench: build ## speed, in one run: native, the bare limit, memjail, other launchers (BENCHFLAGS=-page: docs/benchmarks.md)
	@DEPS=$(DEPS) .ci/deps gcc libc6-dev git util-linux bubblewrap firejail make nginx-light procps python3 redis-server \
		redis-tools postgresql
	@mkdir -p bin && $(GO) build -o bin/bench ./testdata/bench
	@bin/bench -memjail bin/memjail -launchers '$(LAUNCHERS)' -only '$(BENCH)' $(BENCHFLAGS)

.PHONY: launchers
launchers: ## install other launchers for `make bench` into LAUNCHERS (bin/launchers), as far as they are to be had
	@testdata/bench/launchers.sh '$(LAUNCHERS)'

.PHONY: scale
scale: ## how each cost grows: rules, mounts, processes, sandboxes at once, ... (BENCHFLAGS=-page: docs/scale.md)
	@$(MAKE) -s bench BENCH='^scale/'

.PHONY: soak
soak: build ## the races and the long runs, SOAK=10m each
	MEMJAIL_SOAK=$(SOAK) $(GO) test -count=1 -timeout 12h -run 'Race|Soak|Spellings' -v ./...

.PHONY: faults
faults: build ## each system call of memjail's own fails once with each errno: docs/reliability.md (MOST=16 calls of a kind)
	@DEPS=$(DEPS) .ci/deps gcc libc6-dev
	gcc -O1 -static -o bin/faulted testdata/attacks/c/faulted.c
	$(GO) run ./testdata/faults -most $(MOST) -page docs/reliability.md $(CURDIR)/bin/memjail $(CURDIR)/bin/faulted

.PHONY: mutation
mutation: ## take away or invert one piece at a time: a test has to notice (MUTATION=10m, MUTATIONFLAGS=-only PATTERN)
	@DEPS=$(DEPS) .ci/deps util-linux
	$(GO) run ./testdata/mutation -time $(MUTATION) -page docs/reliability.md $(MUTATIONFLAGS)

.PHONY: load
load: build ## stress-ng inside, a thousand sandboxes, a long run: nothing grows, nothing is left (LOAD=10m)
	@DEPS=$(DEPS) .ci/deps stress-ng util-linux
	$(GO) build -o bin/load ./testdata/load
	bin/load -time $(LOAD) -page docs/reliability.md $(LOADFLAGS) $(CURDIR)/bin/memjail

.PHONY: races
races: build ## paths, directories and process IDs that change meanwhile: docs/reliability.md (RACES=10000000 opens)
	@DEPS=$(DEPS) .ci/deps gcc libc6-dev util-linux
	@mkdir -p bin/races
	for program in race leaders reuse checkcontinue; do \
		gcc -O1 -static -pthread -o bin/races/$$program testdata/attacks/c/$$program.c || exit; \
	done
	$(GO) run ./testdata/races -tries $(RACES) -page docs/reliability.md $(RACESFLAGS) bin/memjail bin/races

.PHONY: corpus
corpus: build ## test suites of other projects inside as outside: docs/reliability.md (CORPUS=pattern)
	@DEPS=$(DEPS) .ci/deps acl busybox-static cargo gcc libc6-dev make redis-server redis-tools python3 python3-venv python3-dev tcl util-linux dpkg-dev zlib1g-dev
	$(GO) run ./testdata/corpus -memjail bin/memjail -only '$(CORPUS)' -page docs/reliability.md

.PHONY: kernels
kernels: build ## stock Debian kernels in qemu, arm64 too: the promise on each of them, and the table of docs/kernels.md
	@DEPS=$(DEPS) .ci/deps busybox-static gcc libc6-dev qemu-system-arm qemu-system-x86
	MEMJAIL_KERNELS=all MEMJAIL_KERNELS_TABLE=$(CURDIR)/docs/kernels.md \
		$(GO) test -count=1 -timeout 3h -run "Kernel|Capability|Drop|Yama" -v ./cmd/memjail

.PHONY: kernels-bench
kernels-bench: build ## real programs inside and outside with the memory capability, on kernels in qemu: ratios
	@DEPS=$(DEPS) .ci/deps busybox-static gcc git libc6-dev make procps python3 qemu-system-x86 strace
	MEMJAIL_KERNELS=bench $(GO) test -count=1 -timeout 1h -run TestKernelBenchmark -v ./cmd/memjail

.PHONY: containers
containers: build ## Docker, Podman, containerd and CRI with memjail-oci, and servers in containers
	@DEPS=$(DEPS) .ci/deps busybox-static catatonit containerd crun debootstrap docker.io iproute2 podman postgresql \
		python3 redis-tools runc util-linux
	MEMJAIL_CONTAINERS=all $(GO) test -count=1 -timeout 1h -run 'TestContainers|TestOCI' -v ./cmd/memjail
	cd testdata/containers/cri && $(GO) test -count=1 ./...

.PHONY: services
services: build ## Debian's servers by their policies in a booted systemd: loads, reloads (SERVICES=directory of the root)
	@DEPS=$(DEPS) .ci/deps debootstrap systemd util-linux
	testdata/systemd/services.sh '$(SERVICES)'
	MEMJAIL_SERVICES_ROOT=$(SERVICES) MEMJAIL_SERVICES_TABLE=$(CURDIR)/docs/systemd.md $(GO) test -count=1 -timeout 30m -run TestServices -v ./cmd/memjail

.PHONY: packages
packages: ## packages for Debian, Red Hat and Alpine, an archive, an image, SBOM and checksums: bin/packages/ (VERSION=0.1.0)
	cd .ci/packages && $(GO) run . -version '$(VERSION)' -top ../.. -o ../../bin/packages

.PHONY: packages-test
packages-test: ## install, upgrade and remove the packages in a new Debian system, run the image, and build all twice
	@DEPS=$(DEPS) .ci/deps debootstrap iproute2 man-db rpm runc util-linux
	cd .ci/packages && $(GO) test -count=1 -timeout 20m -v ./...

.PHONY: comparison
comparison: build ## attack memjail and other launchers alike: docs/comparison.md
	@DEPS=$(DEPS) .ci/deps bubblewrap firejail runc util-linux
	testdata/comparison/compare.sh bin/memjail docs/comparison.md

.PHONY: learn-table
learn-table: build ## learn real programs and run them under what was learned: the table of docs/learn.md
	@DEPS=$(DEPS) .ci/deps
	@DEPS=$(DEPS) .ci/deps chromium firejail
	MEMJAIL_LEARN_TABLE=$(CURDIR)/docs/learn.md $(GO) test -count=1 -timeout 1h -parallel 2 -run 'TestLearn$$' -v ./cmd/memjail

.PHONY: generate
generate: ## compile the filters with libseccomp and the capability's programs with clang again
	@DEPS=$(DEPS) .ci/deps gcc libc6-dev libseccomp-dev pkg-config
	CGO_ENABLED=1 $(GO) generate ./sandbox/filter
	@DEPS=$(DEPS) .ci/deps clang libbpf-dev llvm
	$(GO) generate ./sandbox/capability/install

.PHONY: install
install: build ## install the program and its manual page below PREFIX (/usr/local)
	install -D -m 0755 bin/memjail $(DESTDIR)$(PREFIX)/bin/memjail
	install -D -m 0644 docs/memjail.1 $(DESTDIR)$(PREFIX)/share/man/man1/memjail.1

.PHONY: clean
clean: ## remove what was built
	rm -rf bin

.PHONY: deps
deps: ## install the Debian packages that the tests use, if any is missing
	@DEPS=$(DEPS) .ci/deps

.PHONY: format
format:
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then echo "not as gofmt writes it:" $$unformatted >&2; exit 1; fi

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (5s)
	@GO='$(GO)' .ci/fuzz $(FUZZTIME)

.PHONY: tidy
tidy:
	$(GO) mod tidy -diff

.PHONY: vet
vet:
	$(GO) vet ./...

.PHONY: lint
lint:
	$(GO) run $(STATICCHECK) ./...

.PHONY: deadcode
deadcode:
	@GO='$(GO)' DEADCODE='$(DEADCODE)' .ci/deadcode

.PHONY: architecture
architecture:
	$(GO) test -count=1 -run 'TestArchitecture|TestDocs' ./cmd/memjail

# The embedded filters and BPF programs are what their sources say.
.PHONY: generated
generated:
	$(GO) test -count=1 -run TestProgramsAreCurrent ./sandbox/capability/install
	CGO_ENABLED=1 $(GO) test -tags libseccomp -count=1 ./sandbox/filter/...

.PHONY: arm64
arm64:
	GOARCH=arm64 $(GO) build ./...
	GOARCH=arm64 $(GO) vet ./...

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
