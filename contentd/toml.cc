#include "contentd/toml.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include <toml++/toml.h>

namespace
{

struct leaf {
	std::string key;
	const toml::node *node;
};

void collect(const toml::table &t, const std::string &prefix, std::vector<leaf> &out)
{
	for (auto &&[k, node] : t) {
		std::string key = prefix + std::string(k.str());

		if (const toml::table *sub = node.as_table())
			collect(*sub, key + ".", out);
		else
			out.push_back({key, &node});
	}
}

/* False for types that configuration does not use. */
bool convert(const leaf &l, toml_value &v, std::vector<std::string> &items, std::vector<const char *> &pointers)
{
	if (auto *s = l.node->as_string()) {
		v.type = TOML_STRING;
		v.string = s->get().c_str();
	} else if (auto *i = l.node->as_integer()) {
		v.type = TOML_INTEGER;
		v.integer = i->get();
	} else if (auto *b = l.node->as_boolean()) {
		v.type = TOML_BOOLEAN;
		v.boolean = b->get();
	} else if (auto *a = l.node->as_array()) {
		v.type = TOML_STRINGS;
		for (auto &&e : *a) {
			if (!e.is_string())
				return false;
			items.push_back(e.as_string()->get());
		}
		for (auto &item : items)
			pointers.push_back(item.c_str());
		v.strings = pointers.data();
		v.n_strings = pointers.size();
	} else
		return false;
	return true;
}

int deliver(const toml::table &doc, int (*fn)(void *, const toml_value *), void *arg, char *why, size_t why_bytes)
{
	std::vector<leaf> leaves;

	collect(doc, "", leaves);
	std::stable_sort(leaves.begin(), leaves.end(), [](const leaf &a, const leaf &b) {
		return a.node->source().begin.line < b.node->source().begin.line;
	});
	for (const leaf &l : leaves) {
		std::vector<std::string> items;
		std::vector<const char *> pointers;
		toml_value v = {};
		int r;

		v.key = l.key.c_str();
		v.line = (int)l.node->source().begin.line;
		if (!convert(l, v, items, pointers)) {
			snprintf(why, why_bytes,
			         "%d: %s must be a string, an integer, true or false, or a list of strings", v.line,
			         v.key);
			return -1;
		}
		r = fn(arg, &v);
		if (r < 0)
			return r;
	}
	return 0;
}

} // namespace

int toml_each(const char *text, size_t n, int (*fn)(void *arg, const struct toml_value *v), void *arg, char *why,
              size_t why_bytes)
{
	try {
		return deliver(toml::parse(std::string_view(text, n)), fn, arg, why, why_bytes);
	} catch (const toml::parse_error &x) {
		snprintf(why, why_bytes, "%d: %s", (int)x.source().begin.line, std::string(x.description()).c_str());
	} catch (const std::bad_alloc &) {
		snprintf(why, why_bytes, "1: out of memory");
	}
	return -1;
}
