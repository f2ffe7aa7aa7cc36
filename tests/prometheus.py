#!/usr/bin/env python3
"""Reads a page in Prometheus' text format 0.0.4 strictly, and holds docs/metrics.md against it.

	prometheus.py check FILE            the page is well-formed; prints the number of its families
	prometheus.py documented FILE DOC   the families of the page are those of the documentation's tables
	prometheus.py value FILE SERIES     the value of one series, as it is written there: name{label="value",...}
"""
import re
import sys

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)?\}})? (\S+)")


class Family:
	def __init__(self, name, help_text):
		self.name, self.help, self.kind, self.series = name, help_text, None, {}


def fail(number, why):
	sys.exit(f"line {number}: {why}")


def parse_value(number, text):
	if text == "+Inf":
		return float("inf")
	if not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", text):
		fail(number, f"no number: {text}")
	return float(text)


def check_histogram(family):
	groups = {}
	for (name, labels), value in family.series.items():
		rest = tuple(l for l in labels if l[0] != "le")
		group = groups.setdefault(rest, {"buckets": []})
		if name == family.name + "_bucket":
			bounds = [v for k, v in labels if k == "le"]
			if len(bounds) != 1:
				sys.exit(f"{family.name}: a bucket has {len(bounds)} bounds")
			group["buckets"].append((float(bounds[0].replace("+Inf", "inf")), value))
		else:
			group[name[len(family.name) + 1 :]] = value
	for labels, group in groups.items():
		buckets = group["buckets"]
		if set(group) != {"buckets", "sum", "count"}:
			sys.exit(f"{family.name}{labels}: has {sorted(group)}")
		if buckets != sorted(buckets) or any(a[1] > b[1] for a, b in zip(buckets, buckets[1:])):
			sys.exit(f"{family.name}{labels}: buckets do not rise")
		if buckets[-1] != (float("inf"), group["count"]):
			sys.exit(f"{family.name}{labels}: the last bucket is not the count")


def parse(text):
	families, family = {}, None
	if text and not text.endswith("\n"):
		sys.exit("the last line has no end")
	for number, line in enumerate(text.splitlines(), 1):
		if m := re.fullmatch(rf"# HELP ({NAME}) (.+)", line):
			if m[1] in families:
				fail(number, f"{m[1]} comes twice")
			family = families[m[1]] = Family(m[1], m[2])
		elif m := re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge|histogram)", line):
			if not family or family.name != m[1] or family.kind:
				fail(number, f"TYPE of {m[1]} does not follow its HELP")
			family.kind = m[2]
			if (family.kind == "counter") != m[1].endswith("_total"):
				fail(number, f"{m[1]}: _total is the end of counters, and theirs alone")
		elif m := SAMPLE.fullmatch(line):
			if not family or not family.kind:
				fail(number, f"{m[1]} has no TYPE")
			ends = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
			if m[1] not in [family.name + end for end in ends]:
				fail(number, f"{m[1]} stands below {family.name}")
			labels = tuple(re.findall(LABEL, m[2] or ""))
			if len({name for name, _ in labels}) != len(labels):
				fail(number, "a label comes twice")
			if (m[1], labels) in family.series:
				fail(number, f"{line}: comes twice")
			value = parse_value(number, m[m.lastindex])
			if family.kind != "gauge" and value < 0:
				fail(number, f"{m[1]} is negative")
			family.series[m[1], labels] = value
		else:
			fail(number, f"not understood: {line!r}")
	for f in families.values():
		if not f.kind:
			sys.exit(f"{f.name} has no TYPE")
		if f.kind == "histogram":
			check_histogram(f)
	return families


def main():
	command, path = sys.argv[1:3]
	text = open(path, encoding="utf-8").read()
	families = parse(text)
	if command == "check":
		print(len(families))
	elif command == "documented":
		rows = re.findall(r"^\| `(\S+?)(?:\{(\S+)\})?` \| (\w+) \|", open(sys.argv[3], encoding="utf-8").read(), re.M)
		documented = {name: kind for name, _, kind in rows}
		shown = {f.name: f.kind for f in families.values()}
		for name in sorted(documented.keys() | shown.keys()):
			if documented.get(name) != shown.get(name):
				sys.exit(f"{name}: documented as {documented.get(name)}, shown as {shown.get(name)}")
	elif command == "value":
		for line in text.splitlines():
			if line.startswith(sys.argv[3] + " "):
				print(line[len(sys.argv[3]) + 1 :])
	else:
		sys.exit(__doc__)


main()
