#include "bench/coldbench/suite.h"

#include "base/testing.h"
#include "bench/coldbench/engines/engine.h"
#include "bench/coldbench/plan.h"

#include <stdlib.h>

#define TOP                                                                                                            \
	"title = \"a title\"\n"                                                                                        \
	"repetitions = 3\n"                                                                                            \
	"[network.lan]\n"                                                                                              \
	"rtt_ms = 1\n"                                                                                                 \
	"mbit = 1000.5\n"                                                                                              \
	"faults = [\"stall=5 1,every=2 /blobs/\", \"reset all HEAD\"]\n"                                               \
	"[network.none]\n"

#define CASE                                                                                                           \
	"[case.cold]\n"                                                                                                \
	"mode = \"start\"\n"                                                                                           \
	"images = [\"shell\", \"python\"]\n"                                                                           \
	"engines = [\"contentd\", \"containerd:zstd\"]\n"                                                              \
	"networks = [\"none\", \"lan\"]\n"

static void test_product(void **state)
{
	static const char *const names[] = {
	    "shell/%s/contentd/none",      "shell/%s/contentd/lan",      "python/%s/contentd/none",
	    "python/%s/contentd/lan",      "shell/zstd/containerd/none", "shell/zstd/containerd/lan",
	    "python/zstd/containerd/none", "python/zstd/containerd/lan",
	};
	struct suite s = {0};

	OK(suite_parse("dir/quick.toml",
	               STR(TOP CASE "[case.more]\nmode=\"warm\"\nimages=[\"shell\"]\nengines=[\"containerd\"]\n"
	                            "networks=[\"lan\"]\ncount=7\nrepetitions=2\n"),
	               &s, err));
	assert_string_equal(s.name, "quick");
	assert_string_equal(s.title, "a title");
	assert_int_equal(s.n_networks, 2);
	assert_int_equal(s.n_cases, 9);
	for (size_t i = 0; i < 8; i++) {
		const struct bench_case *c = &s.cases[i];
		AUTO_FREE char *got = case_name(c);
		AUTO_FREE char *want = i < 4 ? xasprintf(names[i], engine_find("contentd")->form) : xstrdup(names[i]);

		assert_string_equal(got, want);
		assert_string_equal(c->group, "cold");
		assert_string_equal(c->mode, "start");
		assert_int_equal(c->count, 1);
		assert_int_equal(c->repetitions, 3);
	}
	assert_true(s.cases[1].network->rtt_ms == 1 && s.cases[1].network->mbit == 1000.5);
	assert_true(s.cases[0].network->rtt_ms == 0 && s.cases[0].network->mbit == 0);
	assert_string_equal(s.cases[1].network->faults, "stall=5 1,every=2 /blobs/; reset all HEAD");
	assert_null(s.cases[0].network->faults);
	assert_int_equal(s.cases[8].count, 7);
	assert_int_equal(s.cases[8].repetitions, 2);
	AUTO_FREE char *last = case_name(&s.cases[8]);
	AUTO_FREE char *want = xasprintf("shell/%s/containerd/lan/x7", engine_find("containerd")->form);
	assert_string_equal(last, want);
	suite_fini(&s);
}

#define BURST "[network.lan]\n[case.all]\nengines=[\"contentd\"]\nnetworks=[\"lan\"]\nmode=\"burst\"\n"

static void test_several_images(void **state)
{
	struct plan_filter filter = {.only = "python\\+nginx"};
	AUTO(plan) struct plan p = {0};
	struct suite s = {0};

	OK(suite_parse("x", STR(BURST "images=[\"python+nginx\", \"shell\", \"nginx+shell+python\"]\ncount=3\n"), &s,
	               err));
	assert_int_equal(s.n_cases, 3);
	assert_string_equal(s.cases[0].image, "python+nginx");
	assert_int_equal(s.cases[0].n_images, 2);
	assert_int_equal(s.cases[1].n_images, 1);
	assert_int_equal(s.cases[2].n_images, 3);
	AUTO_FREE char *name = case_name(&s.cases[0]);
	AUTO_FREE char *want = xasprintf("python+nginx/%s/contentd/lan/x3", engine_find("contentd")->form);
	assert_string_equal(name, want);
	OK(plan_make(&s, &filter, 1, &p, err));
	assert_int_equal(p.items.n, 10);
	assert_int_equal(p.items.p[0].i_case, 0);
	suite_fini(&s);
}

/* The table of a network may come after who uses it. */
static void test_order(void **state)
{
	struct suite s = {0};

	OK(suite_parse("x", STR(CASE "[network.lan]\n[network.none]\n"), &s, err));
	assert_int_equal(s.n_cases, 8);
	assert_int_equal(s.cases[0].repetitions, 10);
	assert_string_equal(s.title, "");
	suite_fini(&s);
}

static void check(const char *text, const char *where, const char *what)
{
	struct suite s = {0};
	struct err e = ERR_INIT;

	assert_int_equal(suite_parse("s.toml", str_of(text), &s, &e), -ERR_INVALID);
	if (strncmp(e.msg, where, strlen(where)) != 0 || !strstr(e.msg, what))
		fail_msg("\"%s\" does not begin with \"%s\", or has no \"%s\"", e.msg, where, what);
	assert_null(s.cases);
}

static void test_mistakes(void **state)
{
	check("", "s.toml:1: ", "no [case.NAME]");
	check("title = [", "s.toml:1", "");
	check("title = 7\n" CASE, "s.toml:1: ", "string");
	check("\xc3\xa9 = 1\n", "s.toml:1", "");
	check("\ncolour = 1\n", "s.toml:2: ", "colour");
	check("[colour]\n", "s.toml:1: ", "[colour]");
	check("network = 1\n", "s.toml:1: ", "table");
	check("case = [\"a\"]\n", "s.toml:1: ", "table");
	check("network.lan = 1\n", "s.toml:1: ", "table");
	check("[network.\"a/b\"]\n", "s.toml:1: ", "no name");
	check("[network.\"..\"]\n", "s.toml:1: ", "no name");
	check("[network.lan]\nloss = 1\n", "s.toml:2: ", "network.lan.loss");
	check("[network.lan]\nrtt_ms = -1\n", "s.toml:2: ", "from 0 to");
	check("[network.lan]\nrtt_ms = nan\n", "s.toml:2: ", "from 0 to");
	check("[network.lan]\nmbit = \"fast\"\n", "s.toml:2: ", "number");
	check("[network.lan.rtt_ms]\nx = 1\n", "s.toml:", "network.lan.rtt_ms");
	check("[network.lan]\nfaults = \"reset 1 /\"\n", "s.toml:2: ", "network.lan.faults must be a list");
	check("[network.lan]\nfaults = [\"explode 1 /\"]\n",
	      "s.toml:2: ", "network.lan.faults: fault: no action 'explode'");
	check("[network.lan]\nfaults = [\"reset 1 /\", \"reset never /\"]\n", "s.toml:2: ", "'never'");
	check("[network.lan]\nfaults = [\"reset 1 /a;b\"]\n", "s.toml:2: ", "without ';'");
	check("[case.a]\ncolour = 1\n", "s.toml:2: ", "case.a.colour");
	check("[case.a]\nmode = 1\n", "s.toml:2: ", "string");
	check("[case.a]\nmode = \"start\"\n", "s.toml:1: ", "no images");
	check("[case.a]\nimages = [\"shell\"]\n", "s.toml:1: ", "no mode");
	check("[case.a]\nimages = []\n", "s.toml:2: ", "list");
	check("[case.a]\nimages = [1]\n", "s.toml:2: ", "list");
	check("[case.a]\nimages = [\"shell\", \"shell\"]\n", "s.toml:2: ", "twice");
	check("repetitions = 0\n", "s.toml:1: ", "from 1 to");
	check("repetitions = 1000000000000\n", "s.toml:1: ", "from 1 to");
	check(TOP CASE "count = 1.5\n", "s.toml:13: ", "integer");
	check(BURST "images=[\"shell+no\"]\ncount=2\n", "s.toml:6: ", "unknown image \"no\"");
	check(BURST "images=[\"shell+\"]\ncount=2\n", "s.toml:6: ", "unknown image \"\"");
	check(BURST "images=[\"nginx+shell+nginx\"]\ncount=3\n", "s.toml:6: ", "has nginx twice");
	check(BURST "images=[\"shell+nginx\"]\n", "s.toml:2: ", "which are 2 images");
	check("[network.lan]\n[case.a]\nengines=[\"contentd\"]\nnetworks=[\"lan\"]\nmode=\"start\"\n"
	      "images=[\"shell+nginx\"]\ncount=2\n",
	      "s.toml:6: ", "mode start takes one image at a time");
}

static void check_unknown(const char *key, const char *value, const char *line, const char *what)
{
	static const char *const keys[] = {"mode", "images", "engines", "networks"};
	static const char *const right[] = {"\"start\"", "[\"shell\"]", "[\"contentd\"]", "[\"lan\"]"};
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO_FREE char *where = xasprintf("s.toml:%s: ", line);

	buf_adds(&text, "[network.lan]\n[case.a]\n");
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		buf_addf(&text, "%s = %s\n", keys[i], strcmp(keys[i], key) ? right[i] : value);
	check(buf_cstr(&text), where, what);
}

static void test_unknown(void **state)
{
	check_unknown("mode", "\"fly\"", "3", "unknown mode \"fly\"");
	check_unknown("images", "[\"shell\", \"no\"]", "4", "unknown image \"no\"");
	check_unknown("engines", "[\"docker\"]", "5", "unknown engine \"docker\"");
	check_unknown("engines", "[\"contentd:zip\"]", "5", "unknown form \"zip\"");
	check_unknown("engines", "[\"contentd:\"]", "5", "unknown form \"\"");
	check_unknown("networks", "[\"wan\"]", "6", "unknown network \"wan\"");
}

/* Whatever the bytes, there is an answer. */
static void test_rubbish(void **state)
{
	char text[] = TOP CASE;

	srand(1);
	for (unsigned i = 0; i < 3000; i++) {
		char broken[sizeof(text)];
		struct suite s = {0};

		memcpy(broken, text, sizeof(text));
		for (unsigned k = 0; k < 1 + i % 4; k++)
			broken[(size_t)rand() % (sizeof(text) - 1)] = (char)rand();
		if (suite_parse("x", str_make(broken, sizeof(text) - 1), &s, NULL) >= 0)
			suite_fini(&s);
	}
}

/* ---- plans ---- */

static size_t count(const struct plan *p, size_t i_case)
{
	size_t n = 0;

	vec_each(&p->items, item)
		n += item->i_case == i_case;
	return n;
}

static void test_plan(void **state)
{
	AUTO(plan) struct plan a = {0};
	AUTO(plan) struct plan b = {0};
	AUTO(plan) struct plan c = {0};
	struct plan_filter all = {0};
	struct suite s = {0};
	bool same = true;

	OK(suite_parse("x",
	               STR(TOP CASE
	                   "repetitions = 4\n[case.few]\nmode=\"warm\"\nimages=[\"shell\"]\nengines=[\"contentd\"]\n"
	                   "networks=[\"lan\"]\nrepetitions=2\n"),
	               &s, err));
	OK(plan_make(&s, &all, 1, &a, err));
	OK(plan_make(&s, &all, 1, &b, err));
	OK(plan_make(&s, &all, 2, &c, err));
	assert_int_equal(a.items.n, 4 * 8 + 2);
	assert_int_equal(count(&a, 0), 4);
	assert_int_equal(count(&a, 8), 2);
	for (size_t i = 0; i < a.items.n; i++) {
		/* each repetition is through before the next begins */
		assert_int_equal(a.items.p[i].repetition, i < 9 ? 1 : i < 18 ? 2 : i < 26 ? 3 : 4);
		assert_int_equal(a.items.p[i].i_case, b.items.p[i].i_case);
		same = same && a.items.p[i].i_case == c.items.p[i].i_case;
	}
	assert_false(same);
	suite_fini(&s);
}

static void test_filter(void **state)
{
	struct plan_filter by_engine = {.engines = "containerd, contentd-plain", .repetitions = 1};
	struct plan_filter by_name = {.only = "^cold/shell/.*/lan$", .repetitions = 5};
	struct plan_filter broken = {.only = "("}, unknown = {.engines = "containerd,docker"},
			   none = {.only = "no such"};
	AUTO(plan) struct plan p = {0};
	AUTO(plan) struct plan q = {0};
	AUTO(plan) struct plan r = {0};
	struct suite s = {0};

	OK(suite_parse("x", STR(TOP CASE), &s, err));
	OK(plan_make(&s, &by_engine, 1, &p, err));
	assert_int_equal(p.items.n, 4);
	vec_each(&p.items, item)
		assert_string_equal(s.cases[item->i_case].engine, "containerd");
	OK(plan_make(&s, &by_name, 1, &q, err));
	assert_int_equal(q.items.n, 2 * 5);
	vec_each(&q.items, item) {
		assert_string_equal(s.cases[item->i_case].image, "shell");
		assert_string_equal(s.cases[item->i_case].network->name, "lan");
	}
	FAILS(plan_make(&s, &broken, 1, &r, err), ERR_INVALID);
	FAILS(plan_make(&s, &unknown, 1, &r, err), ERR_INVALID);
	FAILS(plan_make(&s, &none, 1, &r, err), ERR_NOT_FOUND);
	suite_fini(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_product),  cmocka_unit_test(test_several_images), cmocka_unit_test(test_order),
	    cmocka_unit_test(test_mistakes), cmocka_unit_test(test_unknown),        cmocka_unit_test(test_rubbish),
	    cmocka_unit_test(test_plan),     cmocka_unit_test(test_filter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
