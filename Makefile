# Thin aliases; the build itself is CMake (CMakePresets.json).
JOBS ?= $(shell nproc)

.PHONY: all setup demo check peers chaos bench bench-api fuzz coverage format install clean

all:
	cmake --preset release
	cmake --build --preset release -j $(JOBS)

setup:
	cmake/setup.sh

# A real image, lazily and plainly, over a modelled network. ARGS="--image python --rtt 10"
demo:
	bench/demo.sh $(ARGS)

check:
	tests/check.sh

# The tests with programs of newer Debian suites, with the newest there are, stargz-snapshotter's daemon among them, which
# is compiled the first time. What `check` uses is trixie.
peers:
	bench/peers/stargz.sh sid
	PEERS="sid" tests/check.sh $$(basename -s .sh $$(grep -l PEERS tests/integration/*.sh))

# 300 containers while the daemon is killed; CHAOS_SEED=N makes a run again.
chaos:
	CHAOS_CONTAINERS=300 tests/check.sh chaos

# Cold starts beside containerd's, in some minutes: build/bench/report.html; the run before is forgotten. SUITE=peers and others:
# bench/suites.
SUITE ?= quick
bench: all
	rm -f build/bench/samples.jsonl
	build/bin/coldbench run bench/suites/$(SUITE).toml --out build/bench

# Latency and throughput of the API beside the installed containerd's.
bench-api: all
	bench/api.sh

# Every fuzz target for a minute, or SECONDS=N; TOTAL=N: all together for that long.
fuzz:
	tests/fuzz/run.sh $(if $(TOTAL),--total $(TOTAL),$(or $(SECONDS),60))

# Lines of the format library and of the registry's client that their tests run; at least 95 % of each parser's.
coverage:
	tests/coverage.sh

format:
	git ls-files -z '*.c' '*.h' | xargs -0 clang-format -i

install: all
	cmake --install build

clean:
	rm -rf build
