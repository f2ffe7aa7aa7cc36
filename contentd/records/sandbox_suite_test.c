/* The cases of containerd's unit tests of its sandboxes' records, as in suite_test.c. docs/conformance.md lists them. */
#include "contentd/records/suite.h"
#include "rpc/proto/sandbox.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SANDBOXES(method, req, rsp) world_call(w, &sandbox__store__descriptor, method, (req), (rsp))

struct sandbox {
	const char *labels, *runtime, *options, *spec, *extensions;
};

static Types__Sandbox *sandbox_new(struct world *w, const char *id, const struct sandbox *from)
{
	Types__Sandbox *s = pb_new(&w->a, &types__sandbox__descriptor);

	s->sandbox_id = id;
	s->runtime = pb_new(&w->a, &types__sandbox__runtime__descriptor);
	s->runtime->name = from->runtime;
	s->runtime->options = suite_any(w, from->options);
	s->spec = suite_any(w, from->spec);
	s->sandboxer = "shim";
	WORLD_KVS(w, s, labels, from->labels);
	s->extensions = suite_extensions_of(w, from->extensions, &s->n_extensions);
	return s;
}

static int sandbox_create(struct world *w, const char *id, const struct sandbox *from)
{
	Sandbox__StoreCreateRequest req = SANDBOX__STORE_CREATE_REQUEST__INIT;

	req.sandbox = sandbox_new(w, id, from);
	return SANDBOXES("Create", &req, NULL);
}

static int sandbox_get(struct world *w, const char *id, Types__Sandbox **out)
{
	Sandbox__StoreGetRequest req = SANDBOX__STORE_GET_REQUEST__INIT;
	Sandbox__StoreGetResponse *rsp = NULL;
	int r;

	req.sandbox_id = id;
	r = SANDBOXES("Get", &req, &rsp);
	if (r >= 0 && out)
		*out = rsp->sandbox;
	return r;
}

static int sandbox_delete(struct world *w, const char *id)
{
	Sandbox__StoreDeleteRequest req = SANDBOX__STORE_DELETE_REQUEST__INIT;

	req.sandbox_id = id;
	return SANDBOXES("Delete", &req, NULL);
}

static const char *sandbox_text(struct world *w, const Types__Sandbox *s)
{
	return arena_printf(&w->a, "%s|%s|%s|%s|%s", world_kvs_text(w, s->labels, s->n_labels), s->runtime->name,
	                    s->runtime->options->type_url, s->spec->type_url,
	                    suite_extensions_text(w, s->extensions, s->n_extensions));
}

/* TestSandboxCreate, TestSandboxCreateDup, TestSandboxUpdate, TestSandboxGetInvalid, TestSandboxDelete */
static void sandboxes_create_update_delete(void **state)
{
	static const struct sandbox base = {"a=1 b=2", "rt", "opt", "spec", "one=1 two=2"};
	static const struct {
		const char *name;
		struct sandbox input;
		const char *fields;
		int update;
		const char *after;
	} rows[] = {
#define INPUT {"b=9", "rt", "opt2", "spec2", "two=9"}
	    {"everything", INPUT, NULL, 0, "b=9|rt|opt2|spec2|two=9"},
	    {"labels", INPUT, "labels", 0, "b=9|rt|opt|spec|one=1 two=2"},
	    {"one label", INPUT, "labels.b", 0, "a=1 b=9|rt|opt|spec|one=1 two=2"},
	    {"a label that goes", INPUT, "labels.a", 0, "b=2|rt|opt|spec|one=1 two=2"},
	    {"extensions", INPUT, "extensions", 0, "a=1 b=2|rt|opt|spec|two=9"},
	    {"one extension", INPUT, "extensions.two", 0, "a=1 b=2|rt|opt|spec|one=1 two=9"},
	    {"spec and runtime", INPUT, "spec,runtime", 0, "a=1 b=2|rt|opt2|spec2|one=1 two=2"},
	    {"another runtime", {"", "other", "", "", ""}, NULL, ERR_INVALID, NULL},
	    {"another runtime by field", {"", "other", "", "", ""}, "runtime", ERR_INVALID, NULL},
	    {"another id", INPUT, "id", ERR_INVALID, NULL},
	    {"another sandboxer", INPUT, "sandboxer", ERR_INVALID, NULL},
#undef INPUT
	};
	Sandbox__StoreCreateRequest nothing = SANDBOX__STORE_CREATE_REQUEST__INIT;
	struct world *w = *state;

	FAILS(SANDBOXES("Create", &nothing, NULL), ERR_INVALID);
	FAILS(sandbox_create(w, "a--b", &base), ERR_INVALID);
	FAILS(sandbox_get(w, "none", NULL), ERR_NOT_FOUND);
	FAILS(sandbox_delete(w, "none"), ERR_NOT_FOUND);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		Sandbox__StoreUpdateRequest req = SANDBOX__STORE_UPDATE_REQUEST__INIT;
		Types__Sandbox *before = NULL, *after = NULL;
		Pb__FieldMask *fields = suite_mask_of(w, rows[i].fields);
		const char *name = rows[i].name;

		OK(sandbox_create(w, "s", &base));
		FAILS(sandbox_create(w, "s", &base), ERR_EXISTS);
		OK(sandbox_get(w, "s", &before));
		assert_string_equal(before->sandboxer, "shim");
		assert_int_equal(suite_ns_of(before->created_at), suite_ns_of(before->updated_at));
		req.sandbox = sandbox_new(w, "s", &rows[i].input);
		if (fields) {
			req.fields = fields->paths;
			req.n_fields = fields->n_paths;
		}
		suite_expect_code(w, name, "update", SANDBOXES("Update", &req, NULL), rows[i].update);
		OK(sandbox_get(w, "s", &after));
		suite_expect_text(name, "the sandbox", sandbox_text(w, after),
		                  rows[i].update ? "a=1 b=2|rt|opt|spec|one=1 two=2" : rows[i].after);
		assert_int_equal(suite_ns_of(after->created_at), suite_ns_of(before->created_at));
		assert_int_equal(suite_ns_of(after->updated_at) > suite_ns_of(before->updated_at), rows[i].update == 0);
		OK(sandbox_delete(w, "s"));
		FAILS(sandbox_delete(w, "s"), ERR_NOT_FOUND);
		FAILS(SANDBOXES("Update", &req, NULL), ERR_NOT_FOUND);
	}
}

/* TestSandboxList, TestSandboxListWithFilter */
static void sandboxes_list(void **state)
{
	static const struct suite_list_row rows[] = {
	    {"All", "", "s1 s2 s3 "},        {"Id", "id==s2", "s2 "},     {"Ids", "id==s2;id==s3", "s2 s3 "},
	    {"Label", "labels.a==1", "s1 "}, {"None", "labels.none", ""},
	};
	static const char *const labels[] = {"a=1", "a=2", ""};
	Sandbox__StoreListRequest req = SANDBOX__STORE_LIST_REQUEST__INIT;
	Sandbox__StoreListResponse *rsp = NULL;
	struct world *w = *state;
	const char *got;

	for (int i = 0; i < 3; i++)
		OK(sandbox_create(w, arena_printf(&w->a, "s%d", i + 1),
		                  &(struct sandbox){labels[i], "rt", "opt", "spec", ""}));
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		req.filters = suite_filters_of(w, rows[i].filters, &req.n_filters);
		OK(SANDBOXES("List", &req, &rsp));
		SUITE_NAMES_OF(got, rsp->list, rsp->n_list, sandbox_id);
		suite_expect_text(rows[i].name, "the list", got, rows[i].want);
	}
	req.filters = suite_filters_of(w, "id=", &req.n_filters);
	FAILS(SANDBOXES("List", &req, NULL), ERR_INVALID);
	rpc_client_set_metadata(w->c, "containerd-namespace", "other");
	req.n_filters = 0;
	OK(SANDBOXES("List", &req, &rsp));
	assert_int_equal(rsp->n_list, 0);
}

/* Nothing here runs sandboxes. */
static void no_sandbox_controller(void **state)
{
	Sandbox__ControllerCreateRequest req = SANDBOX__CONTROLLER_CREATE_REQUEST__INIT;
	struct world *w = *state;

	req.sandbox_id = "s";
	FAILS(world_call(w, &sandbox__controller__descriptor, "Create", &req, NULL), ERR_UNIMPLEMENTED);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_set_up, world_tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(sandboxes_create_update_delete),
	    TEST(sandboxes_list),
	    TEST(no_sandbox_controller),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
