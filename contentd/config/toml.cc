#include "contentd/config/toml.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

/* toml++ asserts that it is not asked to read what "[*]" asks it to read (3.3): a mistake of the document, not ours. */
struct broken {
};
static constexpr void require(bool condition)
{
	if (!condition)
		throw broken();
}
#define TOML_ASSERT(condition) require(!!(condition))
#include <toml++/toml.h>

namespace
{

struct leaf {
	std::string key;
	std::vector<std::string> path;
	const toml::node *node;
};

void collect(const toml::table &t, const std::string &prefix, const std::vector<std::string> &above,
             std::vector<leaf> &out)
{
	for (auto &&[k, node] : t) {
		std::string key = prefix + std::string(k.str());
		std::vector<std::string> path = above;

		path.emplace_back(k.str());
		out.push_back({key, path, &node});
		if (const toml::table *sub = node.as_table())
			collect(*sub, key + ".", path, out);
	}
}

struct items {
	std::vector<std::string> texts;
	std::vector<const char *> strings;
	std::vector<int64_t> integers;
};

toml_type convert_list(const toml::array &list, toml_value &v, items &to)
{
	v.n_items = list.size();
	if (list.is_homogeneous<int64_t>()) {
		for (auto &&e : list)
			to.integers.push_back(e.as_integer()->get());
		v.integers = to.integers.data();
		return TOML_INTEGERS;
	}
	if (!list.empty() && !list.is_homogeneous<std::string>())
		return TOML_OTHER;
	for (auto &&e : list)
		to.texts.push_back(e.as_string()->get());
	for (auto &text : to.texts)
		to.strings.push_back(text.c_str());
	v.strings = to.strings.data();
	return TOML_STRINGS;
}

toml_type convert(const leaf &l, toml_value &v, items &to)
{
	if (l.node->is_table())
		return TOML_TABLE;
	if (auto *s = l.node->as_string()) {
		v.string = s->get().c_str();
		return TOML_STRING;
	}
	if (auto *i = l.node->as_integer()) {
		v.integer = i->get();
		return TOML_INTEGER;
	}
	if (auto *f = l.node->as_floating_point()) {
		v.real = f->get();
		return std::isfinite(v.real) ? TOML_REAL : TOML_OTHER;
	}
	if (auto *b = l.node->as_boolean()) {
		v.boolean = b->get();
		return TOML_BOOLEAN;
	}
	if (auto *a = l.node->as_array()) {
		const toml::array *inner = a->size() == 1 ? a->get(0)->as_array() : nullptr;

		if (!inner)
			return convert_list(*a, v, to);
		return convert_list(*inner, v, to) == TOML_STRINGS ? TOML_NESTED_STRINGS : TOML_OTHER;
	}
	return TOML_OTHER;
}

int deliver(const toml::table &doc, int (*fn)(void *, const toml_value *), void *arg)
{
	std::vector<leaf> leaves;

	collect(doc, "", {}, leaves);
	std::stable_sort(leaves.begin(), leaves.end(), [](const leaf &a, const leaf &b) {
		return a.node->source().begin.line < b.node->source().begin.line;
	});
	for (const leaf &l : leaves) {
		toml_value v = {};
		std::vector<const char *> path;
		items to;
		int r;

		for (const std::string &piece : l.path)
			path.push_back(piece.c_str());
		v.key = l.key.c_str();
		v.path = path.data();
		v.n_path = path.size();
		v.line = (int)l.node->source().begin.line;
		v.type = convert(l, v, to);
		r = fn(arg, &v);
		if (r < 0)
			return r;
	}
	return 0;
}

bool is_broken(std::string_view text)
{
	try {
		(void)toml::parse(text);
	} catch (const broken &) {
		return true;
	} catch (const toml::parse_error &) {
	}
	return false;
}

/* The line that breaks it: the texts that end before it do not. */
int broken_line(std::string_view text)
{
	std::vector<size_t> ends;
	size_t low = 0, high;

	for (size_t at = text.find('\n'); at != text.npos; at = text.find('\n', at + 1))
		ends.push_back(at + 1);
	for (high = ends.size(); low < high;) {
		size_t middle = (low + high) / 2;

		if (is_broken(text.substr(0, ends[middle])))
			high = middle;
		else
			low = middle + 1;
	}
	return (int)low + 1;
}

} // namespace

int toml_each(const char *text, size_t n, int (*fn)(void *arg, const struct toml_value *v), void *arg, char *why,
              size_t why_bytes)
{
	try {
		return deliver(toml::parse(std::string_view(text, n)), fn, arg);
	} catch (const toml::parse_error &x) {
		snprintf(why, why_bytes, "%d: %s", (int)x.source().begin.line, std::string(x.description()).c_str());
	} catch (const broken &) {
		snprintf(why, why_bytes, "%d: this is no key", broken_line(std::string_view(text, n)));
	} catch (const std::bad_alloc &) {
		snprintf(why, why_bytes, "1: out of memory");
	}
	return -1;
}
