#include "base/testing.h"

#include "base/file.h"
#include "base/json.h"
#include "contentd/ctl/spec.h"

#include <fcntl.h>
#include <sys/stat.h>

static void the_image_says_what_to_run(void **state)
{
	AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;

	OK(spec_process_from_image(STR("{\"architecture\":\"amd64\",\"config\":{\"Entrypoint\":[\"/e\",\"-x\"],"
	                               "\"Cmd\":[\"a\"],\"Env\":[\"A=1\"],\"WorkingDir\":\"/w\",\"User\":\"7:8\"}}"),
	                           NULL, NULL, 0, &p, err));
	assert_int_equal(p.args.n, 3);
	assert_string_equal(p.args.p[0], "/e");
	assert_string_equal(p.args.p[2], "a");
	assert_string_equal(p.env.p[0], "A=1");
	assert_true(str_starts(str_of(p.env.p[1]), STR("PATH=/usr/local/sbin")));
	assert_string_equal(p.cwd, "/w");
	assert_string_equal(p.user, "7:8");
}

static void arguments_replace_cmd_not_entrypoint(void **state)
{
	AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;
	char *args[] = {(char *)"b", (char *)"c"};

	OK(spec_process_from_image(STR("{\"config\":{\"Entrypoint\":[\"/e\"],\"Cmd\":[\"a\"],\"Env\":[\"PATH=/x\"]}}"),
	                           NULL, args, 2, &p, err));
	assert_int_equal(p.args.n, 3);
	assert_string_equal(p.args.p[1], "b");
	assert_int_equal(p.env.n, 1);
	assert_string_equal(p.cwd, "/");
}

static void an_entrypoint_replaces_both(void **state)
{
	AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;
	AUTO(spec_process) struct spec_process q = SPEC_PROCESS_INIT;
	struct str config = STR("{\"config\":{\"Entrypoint\":[\"/e\"],\"Cmd\":[\"a\"]}}");
	char *args[] = {(char *)"b"};

	OK(spec_process_from_image(config, "/x", NULL, 0, &p, err));
	assert_int_equal(p.args.n, 1);
	assert_string_equal(p.args.p[0], "/x");
	OK(spec_process_from_image(config, "/x", args, 1, &q, err));
	assert_int_equal(q.args.n, 2);
	assert_string_equal(q.args.p[1], "b");
}

static void an_image_without_a_program_needs_one(void **state)
{
	AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;
	struct err err = ERR_INIT;

	assert_int_equal(spec_process_from_image(STR("{\"config\":{\"Cmd\":null}}"), NULL, NULL, 0, &p, &err),
	                 -ERR_INVALID);
	assert_non_null(strstr(err.msg, "names no program"));
	err = ERR_INIT;
	assert_true(spec_process_from_image(STR("{\"config\":{\"Cmd\":7}}"), NULL, NULL, 0, &p, &err) < 0);
	assert_true(spec_process_from_image(STR("["), NULL, NULL, 0, &p, &err) < 0);
}

static void exec_inherits_environment_and_user(void **state)
{
	AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;
	AUTO(spec_process) struct spec_process q = SPEC_PROCESS_INIT;
	AUTO(buf) struct buf spec = BUF_INIT;
	struct spec_opts opts = {.id = "c1", .ns = "default"};
	char *args[] = {(char *)"ls"};

	OK(spec_process_from_image(STR("{\"config\":{\"Cmd\":[\"a\"],\"Env\":[\"A=\\u00e9\"],\"WorkingDir\":\"/w\"}}"),
	                           NULL, NULL, 0, &p, err));
	p.uid = 5;
	p.gid = 6;
	vec_push(&p.groups, 9);
	spec_write(&opts, &p, &spec);
	OK(spec_process_from_spec(buf_str(&spec), args, 1, &q, err));
	assert_int_equal(q.args.n, 1);
	assert_string_equal(q.args.p[0], "ls");
	assert_string_equal(q.env.p[0], "A=\xc3\xa9");
	assert_string_equal(q.cwd, "/w");
	assert_int_equal(q.uid, 5);
	assert_int_equal(q.gid, 6);
	assert_int_equal(q.groups.n, 1);
	assert_int_equal(q.groups.p[0], 9);
}

static void only_a_private_network_has_a_namespace(void **state)
{
	AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;
	AUTO(buf) struct buf none = BUF_INIT;
	AUTO(buf) struct buf host = BUF_INIT;

	OK(spec_process_from_image(STR("{\"config\":{\"Cmd\":[\"a\"]}}"), NULL, NULL, 0, &p, err));
	spec_write(&(struct spec_opts){.id = "c", .ns = "n"}, &p, &none);
	spec_write(&(struct spec_opts){.id = "c", .ns = "n", .host_network = true}, &p, &host);
	assert_non_null(strstr(buf_cstr(&none), "{\"type\":\"network\"}"));
	assert_null(strstr(buf_cstr(&host), "{\"type\":\"network\"}"));
	assert_non_null(strstr(buf_cstr(&host), "/etc/resolv.conf"));
	assert_non_null(strstr(buf_cstr(&none), "\"cgroupsPath\":\"/n/c\""));
}

/* ---- users ---- */

static char root[] = "/tmp/spec-test-XXXXXX";

static void put(const char *name, const char *text)
{
	AUTO_FREE char *path = xasprintf("%s/etc/%s", root, name);
	AUTO_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	OK(fd_write_all(fd, str_of(text), err));
}

static int make_root(void **state)
{
	AUTO_FREE char *etc = NULL;

	if (!mkdtemp(root))
		return -1;
	etc = xasprintf("%s/etc", root);
	if (dir_make(etc, 0755, NULL) < 0)
		return -1;
	put("passwd", "root:x:0:0::/:/bin/sh\nbroken line\nweb:x:33:34::/:/bin/sh\n:x:1:1\n");
	put("group", "root:x:0:\nweb:x:34:\nextra:x:50:web,other\nmore:x:51:web\n");
	return 0;
}

static int drop_root(void **state)
{
	AUTO_FD int tmp = open("/tmp", O_DIRECTORY | O_CLOEXEC);

	return dir_remove(tmp, strrchr(root, '/') + 1, NULL);
}

static int resolve(const char *user, struct spec_process *p, struct err *err)
{
	spec_process_fini(p);
	p->user = xstrdup(user);
	return spec_resolve_user(p, root, err);
}

static void users_by_name_and_number(void **state)
{
	AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;

	OK(resolve("web", &p, err));
	assert_int_equal(p.uid, 33);
	assert_int_equal(p.gid, 34);
	assert_int_equal(p.groups.n, 2);
	OK(resolve("33", &p, err));
	assert_int_equal(p.gid, 34);
	OK(resolve("web:extra", &p, err));
	assert_int_equal(p.gid, 50);
	OK(resolve("1000", &p, err));
	assert_int_equal(p.uid, 1000);
	assert_int_equal(p.gid, 0);
	OK(resolve("7:8", &p, err));
	assert_int_equal(p.uid, 7);
	assert_int_equal(p.gid, 8);
	OK(resolve("", &p, err));
	assert_int_equal(p.uid, 0);
}

static void unknown_users_are_named(void **state)
{
	AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;
	struct err err = ERR_INIT;

	assert_int_equal(resolve("nobody", &p, &err), -ERR_NOT_FOUND);
	assert_non_null(strstr(err.msg, "no user nobody"));
	err = ERR_INIT;
	assert_int_equal(resolve("web:wheel", &p, &err), -ERR_NOT_FOUND);
	assert_non_null(strstr(err.msg, "no group wheel"));
}

static void files_are_needed_for_names_alone(void **state)
{
	static const struct {
		const char *user;
		bool needs;
	} cases[] = {{"", false}, {"root", false}, {"0", false}, {"7:8", false},
	             {"7", true}, {"web", true},   {"7:g", true}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;

		p.user = xstrdup(cases[i].user);
		assert_int_equal(spec_user_needs_files(&p), cases[i].needs);
	}
}

/* An image may have anything in that place; nobody is there to write into a pipe. The last test: it takes the file away. */
static void a_pipe_does_not_hold_us_up(void **state)
{
	AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;
	AUTO_FREE char *passwd = xasprintf("%s/etc/passwd", root);

	assert_int_equal(unlink(passwd), 0);
	assert_int_equal(mkfifo(passwd, 0600), 0);
	OK(resolve("7", &p, err));
	assert_int_equal(p.uid, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_image_says_what_to_run),
	    cmocka_unit_test(arguments_replace_cmd_not_entrypoint),
	    cmocka_unit_test(an_entrypoint_replaces_both),
	    cmocka_unit_test(an_image_without_a_program_needs_one),
	    cmocka_unit_test(exec_inherits_environment_and_user),
	    cmocka_unit_test(only_a_private_network_has_a_namespace),
	    cmocka_unit_test(users_by_name_and_number),
	    cmocka_unit_test(unknown_users_are_named),
	    cmocka_unit_test(files_are_needed_for_names_alone),
	    cmocka_unit_test(a_pipe_does_not_hold_us_up),
	};

	return cmocka_run_group_tests(tests, make_root, drop_root);
}
