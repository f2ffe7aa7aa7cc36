#!/bin/bash
# How many lines of the format library its unit tests and fuzz corpora run, a file a line; fails when those of the parsers
# that read bytes from outside are below the bound.
#
#	sudo tests/coverage.sh [--missing]     --missing: and which lines do not run
#
# Only the library is built (preset coverage: gcc's counters). Root: some tests mount what was written.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
bound=95
# What is read by these comes from registries, or from disks that may be damaged.
parsers="tar/ toc/ index/ inflate/ gzseek/ erofs/erofs_format.c erofs/erofs_read.c"
dir=build/coverage

launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
cmake --preset coverage "${launcher[@]}" >/dev/null
cmake --build --preset coverage --target estargz/all >/dev/null
find "$dir" -name '*.gcda' -delete
ctest --test-dir "$dir/estargz" --output-on-failure --no-tests=error -j "$(nproc)" | tail -n 1
python3 -I - "$dir/estargz/CMakeFiles/estargz.dir" "$bound" "${1:-}" "$parsers" <<-'END'
	import gzip, json, pathlib, subprocess, sys, tempfile

	objects, bound, missing, parsers = sys.argv[1:]
	source = pathlib.Path.cwd() / "estargz"
	lines = {}
	with tempfile.TemporaryDirectory() as place:
	    notes = [str(p.resolve()) for p in pathlib.Path(objects).rglob("*.gcno")]
	    subprocess.run(["gcov", "--json-format", *notes], cwd=place, stdout=subprocess.DEVNULL, check=True)
	    for result in pathlib.Path(place).glob("*.gz"):
	        data = json.loads(gzip.decompress(result.read_bytes()))
	        for file in data["files"]:
	            path = pathlib.Path(data["current_working_directory"], file["file"])
	            if path.suffix == ".c" and path.is_relative_to(source):
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
