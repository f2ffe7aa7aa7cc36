#!/bin/bash
# How many lines of the rooms that read formats and documents their unit tests and fuzz corpora run, a file a line; fails
# when one of the parsers that read bytes from outside is below the bound. A room's lines count when its own tests run them.
#
#	sudo tests/coverage.sh [--missing]     --missing: and which lines do not run
#
# Only these libraries are built (preset coverage: gcc's counters). Root: some tests mount what was written.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
bound=95
# What is read by these comes from registries, or from disks that may be damaged.
parsers="estargz/tar/ estargz/toc/ estargz/index/ estargz/inflate/ estargz/gzseek/ estargz/erofs/erofs_format.c
estargz/erofs/erofs_read.c registry/reference.c registry/platform.c registry/manifest.c registry/docker_config.c
registry/credentials.c registry/challenge.c registry/http.c registry/url.c registry/token.c registry/document.c
registry/referrers.c registry/receive.c"
rooms=(estargz registry)
dir=build/coverage

launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
cmake --preset coverage "${launcher[@]}" >/dev/null
cmake --build --preset coverage --target "${rooms[@]/%//all}" >/dev/null
find "$dir" -name '*.gcda' -delete
objects=()
for room in "${rooms[@]}"; do
	ctest --test-dir "$dir/$room" --output-on-failure --no-tests=error -j "$(nproc)" | tail -n 1
	objects+=("$dir/$room/CMakeFiles/$room.dir")
done
python3 -I - "$bound" "${1:-}" "$parsers" "${objects[@]}" <<-'END'
	import json, pathlib, subprocess, sys

	bound, missing, parsers, *objects = sys.argv[1:]
	source = pathlib.Path.cwd()
	rooms = [source / pathlib.Path(o).parents[1].name for o in objects]
	lines = {}
	notes = [str(p.resolve()) for o in objects for p in pathlib.Path(o).rglob("*.gcno")]
	told = subprocess.run(["gcov", "--json-format", "--stdout", *notes], stdout=subprocess.PIPE, check=True).stdout
	for data in map(json.loads, told.splitlines()):
	    for file in data["files"]:
	        path = pathlib.Path(data["current_working_directory"], file["file"])
	        if path.suffix == ".c" and any(map(path.is_relative_to, rooms)):
	            found = lines.setdefault(str(path.relative_to(source)), {})
	            for line in file["lines"]:
	                number = line["line_number"]
	                found[number] = found.get(number, 0) + line["count"]

	def share(found):
	    return 100 * sum(map(bool, found.values())) / max(len(found), 1)

	total, low = {}, []
	for name, found in sorted(lines.items()):
	    parser = name.startswith(tuple(parsers.split()))
	    mark = "parser" if parser else ""
	    if parser:
	        total.update({(name, number): count for number, count in found.items()})
	        if share(found) < int(bound):
	            low.append(name)
	            mark = "PARSER, below the bound"
	    print(f"{share(found):6.1f} %  {len(found):5} lines  {name}  {mark}")
	    if missing and (holes := [str(number) for number, count in sorted(found.items()) if not count]):
	        print("          not run:", " ".join(holes))
	print(f"{share(total):6.1f} %  {len(total):5} lines of parsers, the bound is {bound} % for each of their files")
	sys.exit(1 if low else 0)
END
