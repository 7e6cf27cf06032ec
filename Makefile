# `make` shows what there is. All of it works in a fresh clone on Debian 12 with Go and make; demo and test
# need root, and fetch what is missing from the Go module proxy or with apt.

# The PATH of sudo often lacks Go.
export PATH := $(PATH):/usr/local/go/bin
# As root, git refuses to read the revision of a clone that belongs to another user: do not ask it.
export GOFLAGS += -buildvcs=false

VERSION  ?= 0.1.0
COMMIT   := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
LDFLAGS  := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
PREFIX   ?= /usr
FUZZTIME ?= 30s
SOAKTIME ?= 20m
SURVIVE  ?= -kill 20
FLOODTIME ?= 1m
LINT     := go tool -modfile=tools/lint/go.mod

need_root = @[ "$$(id -u)" = 0 ] || { echo "make $@ needs root, because it makes network namespaces: sudo make $@" >&2; exit 1; }
need_go   = @command -v go >/dev/null || { echo "make $@ needs Go 1.26 or later in the PATH: https://go.dev/dl" >&2; exit 1; }

.PHONY: help demo test bench bench-net bench-flood soak survive lint fuzz build install deb generate

help:
	@echo 'make demo       a lab of namespaces on this machine, with real traffic through every mode (root)'
	@echo 'make test       everything that must pass (root)'
	@echo 'make bench      the pipeline in memory: writes bench/out/pipeline.json'
	@echo 'make bench-net  generator, balancer and sink over veth: writes bench/out/net.json (root)'
	@echo 'make bench-flood  what floods do to real clients, FLOODTIME=$(FLOODTIME) each: writes bench/out/flood.json (root)'
	@echo 'make soak       clients, deaths, reloads and loss for SOAKTIME=$(SOAKTIME): every broken connection is explained (root)'
	@echo 'make survive    10,000 connections while the daemon is killed, SURVIVE="$(SURVIVE)": none may notice (root)'
	@echo 'make build      bin/sluice and bin/pktgen'
	@echo 'make lint       golangci-lint, as pinned in tools/lint/go.mod, and tools/inline'
	@echo 'make fuzz       each fuzz test for FUZZTIME=$(FUZZTIME), and how much it did'
	@echo 'make generate   compile the XDP programs again (needs clang-14)'
	@echo 'make install    programs, unit, man pages, completions and manual below DESTDIR=$(DESTDIR)'
	@echo 'make deb        a package of the same in bin/'

build:
	$(need_go)
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/sluice ./cmd/sluice
	CGO_ENABLED=0 go build -trimpath -o bin/pktgen ./tools/pktgen

demo:
	$(need_root)
	@$(MAKE) --no-print-directory build
	CGO_ENABLED=0 go build -o bin/demo ./tools/demo
	bin/demo -sluice bin/sluice

test:
	$(need_root)
	$(need_go)
	@go run ./tools/testall

bench:
	$(need_go)
	@mkdir -p bench/out
	go run ./bench pipeline

bench-net:
	$(need_root)
	$(need_go)
	@$(MAKE) --no-print-directory build
	CGO_ENABLED=0 go build -o bin/bench ./bench
	bin/bench net -sluice bin/sluice

bench-flood:
	$(need_root)
	$(need_go)
	@$(MAKE) --no-print-directory build
	CGO_ENABLED=0 go build -o bin/bench ./bench
	bin/bench flood -sluice bin/sluice -time $(FLOODTIME)

soak:
	$(need_root)
	@$(MAKE) --no-print-directory build
	CGO_ENABLED=0 go build -o bin/soak ./tools/soak
	bin/soak -sluice bin/sluice -time $(SOAKTIME)

survive:
	$(need_root)
	@$(MAKE) --no-print-directory build
	CGO_ENABLED=0 go build -o bin/survive ./tools/survive
	bin/survive -sluice bin/sluice $(SURVIVE)

lint:
	$(need_go)
	$(LINT) golangci-lint run ./...
	go run ./tools/inline

fuzz:
	$(need_go)
	go run ./tools/fuzz -time $(FUZZTIME)

generate:
	$(need_go)
	@command -v clang-14 >/dev/null && command -v llvm-strip-14 >/dev/null || { \
		echo 'make generate needs clang 14: apt-get install clang-14 llvm-14' >&2; exit 1; }
	go generate ./...

# All files of an installed Sluice. The Debian package has the same. Manuals keep their paths, so that their links hold.
MANUALS := $(wildcard *.md bench/*.md bench/results/*/* cmd/sluice/*.md conf/*.md engine/*/*.md pipeline/rewrite/*.md tools/pktgen/*.md)
install: build
	install -D -m 0755 bin/sluice $(DESTDIR)$(PREFIX)/sbin/sluice
	install -D -m 0755 bin/pktgen $(DESTDIR)$(PREFIX)/sbin/pktgen
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/share/sluice $(DESTDIR)$(PREFIX)/share/doc/sluice/examples
	sed 's,/usr/sbin/,$(PREFIX)/sbin/,' cmd/sluice/sluice.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/sluice.service
	bin/sluice manual $(DESTDIR)$(PREFIX)/share
	bin/pktgen manual $(DESTDIR)$(PREFIX)/share
	install -m 0644 engine/metrics/sluice-alerts.yml engine/metrics/sluice-dashboard.json $(DESTDIR)$(PREFIX)/share/sluice/
	install -m 0644 conf/examples/*.toml $(DESTDIR)$(PREFIX)/share/doc/sluice/examples/
	install -d $(DESTDIR)$(PREFIX)/share/doc/sluice/conf
	ln -sfn ../examples $(DESTDIR)$(PREFIX)/share/doc/sluice/conf/examples
	for page in $(MANUALS); do install -D -m 0644 $$page $(DESTDIR)$(PREFIX)/share/doc/sluice/$$page || exit 1; done
	[ -e $(DESTDIR)/etc/sluice/sluice.toml ] || install -D -m 0640 conf/sluice.toml $(DESTDIR)/etc/sluice/sluice.toml

deb:
	$(need_go)
	rm -rf bin/deb
	@umask 022 && $(MAKE) --no-print-directory install DESTDIR=bin/deb PREFIX=/usr
	gzip -9n bin/deb/usr/share/man/man?/*
	VERSION=$(VERSION) ARCH=$$(go env GOARCH) go tool -modfile=tools/deb/go.mod nfpm package --config tools/deb/nfpm.yaml --packager deb --target bin/
