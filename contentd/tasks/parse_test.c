#include "base/testing.h"

#include "contentd/tasks/bundle.h"
#include "contentd/tasks/shim.h"
#include "rpc/pb.h"
#include "rpc/proto/shim_bootstrap.pb-c.h"

static void runtime_names_become_binaries(void **state)
{
	static const struct {
		const char *runtime, *binary; /* NULL: refused */
	} cases[] = {
	    {"io.containerd.runc.v2", "containerd-shim-runc-v2"},
	    {"a.b", NULL},
	    {"io.lrun.v2", "containerd-shim-lrun-v2"},
	    {"/opt/bin/shim", "/opt/bin/shim"},
	    {"runc", NULL},
	    {"", NULL},
	    {"io.containerd.", NULL},
	    {"io.../x.v2", NULL},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO_FREE char *binary = NULL;
		struct err err = ERR_INIT;
		int r = shim_binary(cases[i].runtime, &binary, &err);

		if (cases[i].binary) {
			assert_int_equal(r, 0);
			assert_string_equal(binary, cases[i].binary);
		} else {
			assert_int_equal(r, -ERR_INVALID);
		}
	}
}

static void the_group_of_a_containers_root(void **state)
{
	static const struct {
		const char *config;
		int64_t group;
	} cases[] = {
	    {"{}", 0},
	    {"{\"linux\":null}", 0},
	    {"{\"linux\":{\"gidMappings\":[]}}", 0},
	    {"{\"linux\":{\"gidMappings\":[{\"containerID\":0,\"hostID\":0,\"size\":1}]}}", 0},
	    {"{\"a\":[1],\"linux\":{\"uidMappings\":[{\"containerID\":0,\"hostID\":1000,\"size\":1}],"
	     "\"gidMappings\":[{\"containerID\":1,\"hostID\":7,\"size\":9},"
	     "{\"size\":1,\"hostID\":2000,\"containerID\":0}]},\"hooks\":{}}",
	     2000},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(bundle_root_group(str_of(cases[i].config)), cases[i].group);
	assert_true(bundle_root_group(STR("{\"linux\":[")) < 0);
	assert_true(bundle_root_group(STR("")) < 0);
}

static void answers_of_all_generations(void **state)
{
	static const struct {
		const char *answer, *address; /* NULL: refused */
		unsigned version;
	} cases[] = {
	    {"unix:///run/containerd/s/ab", "unix:///run/containerd/s/ab", 2},
	    {"unix:///run/containerd/s/ab\n", "unix:///run/containerd/s/ab", 2},
	    {"{\"version\":2,\"address\":\"unix:///x\",\"protocol\":\"ttrpc\"}", "unix:///x", 2},
	    {"{\"version\":3,\"address\":\"unix:///x\",\"protocol\":\"ttrpc\"}", "unix:///x", 3},
	    {"{\"version\":4,\"address\":\"unix:///x\",\"protocol\":\"ttrpc\"}", NULL},
	    {"{\"version\":3,\"address\":\"unix:///x\",\"protocol\":\"grpc\"}", NULL},
	    {"{\"version\":2,", NULL},
	    {"{}", NULL},
	    {"", NULL},
	    {"panic: something\ngoroutine 1", NULL},
	    {"\b\003\022\tunix:///x\032\005ttrpc", "unix:///x", 3},
	    {"\b\002\022\tunix:///x\032\005ttrpc\042\001\001\052\006\n\001a\022\001b", "unix:///x", 2},
	    {"\b\004\022\tunix:///x\032\005ttrpc", NULL},
	    {"\b\003\022\tunix:///x\032\004grpc", NULL},
	    {"\b\003\022\011unix:///", NULL},
	    {"\b\003\032\005ttrpc", NULL},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(shim_answer) struct shim_answer answer = {NULL, 0};
		struct err err = ERR_INIT;
		int r = shim_parse_answer(str_of(cases[i].answer), &answer, &err);

		if (cases[i].address) {
			assert_int_equal(r, 0);
			assert_string_equal(answer.address, cases[i].address);
			assert_int_equal(answer.version, cases[i].version);
		} else {
			assert_true(r < 0);
		}
	}
}

static void options_for_all_generations(void **state)
{
	Pb__Any options = PB__ANY__INIT;
	AUTO(buf) struct buf wire = BUF_INIT;
	AUTO(pb) ShimBootstrap__BootstrapParams *params = NULL;
	AUTO(pb) Pb__Any *any = NULL;

	options.type_url = "containerd.runc.v1.Options";
	options.value = (ProtobufCBinaryData){4, (uint8_t *)"\032\002/x"};
	action_put_options(&options, &wire);
	OK(pb_unpack(&pb__any__descriptor, buf_str(&wire), &any, err));
	assert_string_equal(any->type_url, options.type_url);
	assert_memory_equal(any->value.data, options.value.data, options.value.len);
	/* A newer shim would take the type for its container's name. */
	FAILS(pb_unpack(&shim_bootstrap__bootstrap_params__descriptor, buf_str(&wire), &params, err), ERR_INVALID);
}

static void a_task_is_one_path_component(void **state)
{
	static const char *const bad[] = {"", ".", "..", "a/b"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		AUTO(bundle) struct bundle b = BUNDLE_INIT;

		assert_int_equal(bundle_init(&b, "/r", "/s", "ns", bad[i], NULL), -ERR_INVALID);
		assert_int_equal(bundle_init(&b, "/r", "/s", bad[i], "id", NULL), -ERR_INVALID);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(runtime_names_become_binaries), cmocka_unit_test(the_group_of_a_containers_root),
	    cmocka_unit_test(answers_of_all_generations),    cmocka_unit_test(options_for_all_generations),
	    cmocka_unit_test(a_task_is_one_path_component),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
