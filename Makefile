# vitrine. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 60s
DIR ?= $(shell go env GOROOT)/src

# libzstd, as its authors build it: with Go's own -O2 a backup of text takes 2 % longer.
export CGO_CFLAGS ?= -O3 -g

C_PACKAGES := ./repo/chunker ./repo/internal/compress ./repo/internal/seal

.PHONY: build setup demo test race lint sanitize fuzz accept bench clean help

build: ## build bin/vitrine
	go build -trimpath -ldflags "-X vitrine/cmd/internal/cli.Version=$(VERSION)" -o bin/vitrine ./cmd/vitrine

setup: ## install what the tests, the demo and the bench need besides Go (Debian, root or sudo)
	scripts/setup

demo: setup build ## back up DIR (default: Go's own sources), mount it, copy it out, compare
	scripts/demo "$(DIR)"

test: setup ## all tests under the race detector, acceptance tests in their short form
	scripts/test

race: test ## the same: `make test` runs everything under the race detector

lint: ## gofmt, go vet, staticcheck, the architecture rules, the builds without cgo and for 32 bits
	scripts/lint

sanitize: ## what is written in C, under the sanitizers of addresses and of undefined behaviour
	go test -count=1 -short -asan $(C_PACKAGES)
	CGO_CFLAGS="-O1 -g -fsanitize=undefined -fno-sanitize-recover=all" CGO_LDFLAGS=-fsanitize=undefined go test -count=1 -short $(C_PACKAGES)

fuzz: ## every fuzz target for FUZZTIME (60s)
	scripts/fuzz $(FUZZTIME)

accept: setup ## acceptance tests in their long form (about half an hour, 6 GiB in /dev/shm)
	VITRINE_ACCEPT=long go test -count=1 -timeout 3h -v ./scripts/accept ./repo/retention

bench: setup build ## measure against Debian's restic, write scripts/bench/RESULTS.md (RUNS=1 ONLY=mount,large DATA=directory)
	go run ./scripts/bench -vitrine bin/vitrine $(if $(RUNS),-runs $(RUNS)) $(if $(ONLY),-only $(ONLY)) $(if $(DATA),-data "$(DATA)")

clean: ## remove what was built
	rm -rf bin

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile
