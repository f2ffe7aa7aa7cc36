#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "registry/auth.h"

#include "base/clock.h"
#include "base/file.h"

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* Challenges */

static void challenges(void **state)
{
	AUTO(reg_challenges) struct reg_challenges c = REG_CHALLENGES_INIT;
	const struct reg_challenge *best;

	reg_challenges_parse(&c, STR("Negotiate YII+/a==, Basic realm=\"a, \\\"b\\\"\", "
	                             "BEARER Realm=\"https://auth.example/token\" , SERVICE=reg.example,"
	                             "scope=\"repository:a/b:pull,push\",error=\"insufficient_scope\""));
	assert_int_equal(c.n, 3);
	assert_int_equal(c.v[0].scheme, REG_AUTH_OTHER);
	assert_int_equal(c.v[1].scheme, REG_AUTH_BASIC);
	assert_true(str_eqc(c.v[1].realm, "a, \"b\""));
	best = reg_challenges_choose(&c);
	assert_ptr_equal(best, &c.v[2]);
	assert_true(str_eqc(best->realm, "https://auth.example/token"));
	assert_true(str_eqc(best->service, "reg.example"));
	assert_true(str_eqc(best->scope, "repository:a/b:pull,push"));
	assert_true(str_eqc(best->error, "insufficient_scope"));
}

static void challenges_over_several_lines(void **state)
{
	AUTO(reg_challenges) struct reg_challenges c = REG_CHALLENGES_INIT;

	reg_challenges_parse(&c, STR("Basic realm=x"));
	reg_challenges_parse(&c, STR("Bearer realm=\"y\""));
	assert_int_equal(c.n, 2);
	assert_true(str_eqc(c.v[0].realm, "x"));
	assert_true(str_eqc(reg_challenges_choose(&c)->realm, "y"));
}

static void challenge_junk(void **state)
{
	static const char *const junk[] = {
	    "",        ",,,", "\"", "Bearer", "Bearer realm=\"unterminated", "=a", "Bearer =x", "Bearer realm=\"a\\",
	    "\x01\x02"};

	for (size_t i = 0; i < ARRAY_LEN(junk); i++) {
		AUTO(reg_challenges) struct reg_challenges c = REG_CHALLENGES_INIT;
		reg_challenges_parse(&c, str_of(junk[i]));
		assert_null(reg_challenges_choose(&c)); /* no realm, no Bearer */
	}
	/* More than there is room for. */
	AUTO(reg_challenges) struct reg_challenges many = REG_CHALLENGES_INIT;
	for (int i = 0; i < 100; i++)
		reg_challenges_parse(&many, STR("Basic realm=\"x\", Basic realm=\"y\""));
	assert_int_equal(many.n, REG_CHALLENGES_MAX);
}

/* Docker's configuration */

static int look(const char *json, const char *host, struct reg_credentials *c, char **helper)
{
	AUTO_FREE char *server = NULL;

	return reg_docker_config_parse(str_of(json), str_of(host), c, helper, &server, NULL);
}

static void assert_user(const char *json, const char *host, const char *user)
{
	AUTO(reg_credentials) struct reg_credentials c = REG_CREDENTIALS_INIT;
	AUTO_FREE char *helper = NULL;
	int r = look(json, host, &c, &helper);

	assert_int_equal(r, user ? 0 : REG_AUTH_NONE);
	if (user)
		assert_string_equal(c.username, user);
	else
		assert_true(reg_credentials_empty(&c));
}

/* u1:p, u2:p, u3:p, u4:p, u5:p */
static const char AUTHS[] =
    "{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"dTE6cA==\"},"
    "\"reg.example\":{\"auth\":\"dTI6cA==\"},\"https://url.example/v2/\":{\"auth\":\"dTM6cA==\"},"
    "\"reg.example:5000\":{\"auth\":\"dTQ6cA==\"},\"path.example/team\":{\"auth\":\"dTU6cA==\"},"
    "\"empty.example\":{}}}";

static void config_hosts(void **state)
{
	assert_user(AUTHS, "docker.io", "u1");
	assert_user(AUTHS, "reg.example", "u2");
	assert_user(AUTHS, "reg.example:5000", "u4");
	assert_user(AUTHS, "url.example", "u3");
	assert_user(AUTHS, "other.example", NULL);
	assert_user(AUTHS, "path.example", NULL);
	assert_user(AUTHS, "empty.example", NULL);
	assert_user("{}", "docker.io", NULL);
	/* The host itself before an URL of it, whatever the order. */
	assert_user("{\"auths\":{\"a.b\":{\"auth\":\"dTE6cA==\"},\"https://a.b/v1/\":{\"auth\":\"dTI6cA==\"}}}", "a.b",
	            "u1");
	assert_user("{\"auths\":{\"https://a.b/v1/\":{\"auth\":\"dTI6cA==\"},\"a.b\":{\"auth\":\"dTE6cA==\"}}}", "a.b",
	            "u1");
	/* Another host's broken entry is its own affair. */
	assert_user("{\"auths\":{\"x.y\":{\"auth\":\"!!\"},\"a.b\":{\"auth\":\"dTE6cA==\"}}}", "a.b", "u1");
}

static void config_forms(void **state)
{
	AUTO(reg_credentials) struct reg_credentials identity = REG_CREDENTIALS_INIT;
	AUTO(reg_credentials) struct reg_credentials plain = REG_CREDENTIALS_INIT;
	AUTO(reg_credentials) struct reg_credentials bad = REG_CREDENTIALS_INIT;
	AUTO_FREE char *helper = NULL;

	assert_int_equal(
	    look("{\"auths\":{\"a.b\":{\"auth\":\"dTE6cA==\",\"identitytoken\":\"tok\"}}}", "a.b", &identity, &helper),
	    0);
	assert_string_equal(identity.identity_token, "tok");
	assert_null(identity.password);
	assert_int_equal(
	    look("{\"auths\":{\"a.b\":{\"username\":\"u\",\"password\":\"p:q\"}}}", "a.b", &plain, &helper), 0);
	assert_string_equal(plain.password, "p:q");
	assert_int_equal(look("{\"auths\":{\"a.b\":{\"auth\":\"!!\"}}}", "a.b", &bad, &helper), -ERR_INVALID);
	assert_int_equal(look("{\"auths\":", "a.b", &bad, &helper), -ERR_INVALID);
	assert_int_equal(look("{\"auths\":[]}", "a.b", &bad, &helper), -ERR_INVALID);
}

static void config_helpers(void **state)
{
	static const char json[] = "{\"credsStore\":\"desktop\",\"credHelpers\":{\"gcr.io\":\"gcloud\"},"
				   "\"auths\":{\"gcr.io\":{\"auth\":\"dTE6cA==\"},\"a.b\":{\"auth\":\"dTI6cA==\"}}}";
	AUTO(reg_credentials) struct reg_credentials c = REG_CREDENTIALS_INIT;
	char *helper = NULL, *server = NULL;

	assert_int_equal(reg_docker_config_parse(str_of(json), STR("gcr.io"), &c, &helper, &server, NULL), 0);
	assert_string_equal(helper, "gcloud");
	assert_string_equal(server, "gcr.io");
	assert_true(reg_credentials_empty(&c));
	free(helper);
	free(server);
	assert_int_equal(reg_docker_config_parse(str_of(json), STR("docker.io"), &c, &helper, &server, NULL), 0);
	assert_string_equal(helper, "desktop");
	assert_string_equal(server, "https://index.docker.io/v1/");
	free(helper);
	free(server);
	assert_int_equal(reg_docker_config_parse(str_of(json), STR("a.b"), &c, &helper, &server, NULL), 0);
	assert_null(helper);
	assert_string_equal(c.username, "u2");
	/* A name that would leave PATH is refused. */
	assert_int_equal(
	    reg_docker_config_parse(STR("{\"credsStore\":\"../../bin/sh\"}"), STR("a.b"), &c, &helper, &server, NULL),
	    -ERR_INVALID);
}

static void assert_refused(const char *json, enum err_code code, const char *text)
{
	AUTO(reg_credentials) struct reg_credentials c = REG_CREDENTIALS_INIT;
	AUTO_FREE char *helper = NULL;
	AUTO_FREE char *server = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(reg_docker_config_parse(str_of(json), STR("a.b"), &c, &helper, &server, &err), -(int)code);
	assert_string_equal(err.msg, text);
	assert_true(reg_credentials_empty(&c));
	assert_null(helper);
}

static char *filled(const char *before, char c, size_t n, const char *behind)
{
	AUTO(buf) struct buf b = BUF_INIT;

	buf_adds(&b, before);
	memset(buf_reserve(&b, n), c, n);
	b.n += n;
	buf_adds(&b, behind);
	return buf_steal(&b);
}

static void config_is_bounded(void **state)
{
	AUTO_FREE char *big = filled("{\"x\":\"", 'x', 1 << 20, "\"}");
	AUTO_FREE char *auth = filled("{\"auths\":{\"a.b\":{\"auth\":\"", 'A', 2 * REG_SECRET_MAX + 4, "\"}}}");
	AUTO_FREE char *user =
	    filled("{\"auths\":{\"a.b\":{\"username\":\"", 'u', REG_SECRET_MAX + 1, "\",\"password\":\"p\"}}}");
	AUTO_FREE char *token = filled("{\"auths\":{\"a.b\":{\"identitytoken\":\"", 't', REG_SECRET_MAX + 1, "\"}}}");
	AUTO_FREE char *store = filled("{\"credsStore\":\"", 's', 65, "\"}");
	AUTO_FREE char *longest = filled("{\"credsStore\":\"", 's', 64, "\"}");
	AUTO(reg_credentials) struct reg_credentials none = REG_CREDENTIALS_INIT;
	AUTO_FREE char *helper = NULL;

	assert_refused(big, ERR_EXHAUSTED, "more than 1048576 bytes");
	assert_refused(auth, ERR_INVALID, "auths[\"a.b\"]: auth: too long");
	assert_refused(user, ERR_INVALID, "auths[\"a.b\"]: user name or secret longer than 65536 bytes");
	assert_refused(token, ERR_INVALID, "auths[\"a.b\"]: user name or secret longer than 65536 bytes");
	assert_refused(store, ERR_INVALID, "credsStore: credential helper with a name of 65 bytes");
	assert_int_equal(look(longest, "a.b", &none, &helper), 0);
	assert_int_equal(strlen(helper), 64);
}

static void config_oddities(void **state)
{
	AUTO(reg_credentials) struct reg_credentials none = REG_CREDENTIALS_INIT;
	AUTO_FREE char *helper = NULL;

	/* u1:p, and the NULs that old clients wrote behind it; one in between is a lie about what is sent. */
	assert_user("{\"auths\":{\"a.b\":{\"auth\":\"dTE6cAAAAA==\"}}}", "a.b", "u1");
	assert_refused("{\"auths\":{\"a.b\":{\"auth\":\"dTE6cABw\"}}}", ERR_INVALID,
	               "auths[\"a.b\"]: user name or secret with a NUL byte");
	assert_refused("{\"auths\":{\"a.b\":{\"username\":\"u\\u0000v\",\"password\":\"p\"}}}", ERR_INVALID,
	               "auths[\"a.b\"]: user name or secret with a NUL byte");
	assert_refused("{\"auths\":{\"a.b\":1}}", ERR_INVALID,
	               "auths[\"a.b\"]: JSON: '1' at byte 16 where an object is expected");
	/* A store without a name is none; a helper without one is not. */
	assert_user("{\"credsStore\":\"\"}", "a.b", NULL);
	assert_refused("{\"credHelpers\":{\"a.b\":\"\"}}", ERR_INVALID,
	               "credHelpers: credential helper with a name of 0 bytes");
	assert_refused("{\"credHelpers\":{\"a.b\":\"x y\"}}", ERR_INVALID,
	               "credHelpers: credential helper with a name of other characters than letters, digits, '.', '_' "
	               "and '-'");
	/* Another host's is its own affair; Docker's has more names than one. */
	assert_int_equal(look("{\"credHelpers\":{\"c.d\":\"x y\"}}", "a.b", &none, &helper), REG_AUTH_NONE);
	assert_int_equal(look("{\"credHelpers\":{\"registry-1.docker.io\":\"x\"}}", "docker.io", &none, &helper), 0);
	assert_string_equal(helper, "x");
	assert_user("{\"auths\":{\"http://a.b/v2\":{\"auth\":\"dTE6cA==\"}}}", "a.b", "u1");
	assert_user("{\"auths\":{\"index.docker.io\":{\"auth\":\"dTE6cA==\"}}}", "docker.io", "u1");
}

static void helper_answers(void **state)
{
	AUTO_FREE char *big = filled("{\"Username\":\"u\",\"x\":\"", 'x', 4 * REG_SECRET_MAX, "\"}");
	static const struct {
		const char *json, *text;
		enum err_code code;
	} cases[] = {
	    {"{\"Username\":\"u\"}", "empty password", ERR_INVALID},
	    {"{\"Username\":\"u\",\"Secret\":\"a\\u0000b\"}", "user name or secret with a NUL byte", ERR_INVALID},
	};
	AUTO(reg_credentials) struct reg_credentials c = REG_CREDENTIALS_INIT;
	struct err err = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(reg_helper_answer_parse(str_of(cases[i].json), &c, &err), -(int)cases[i].code);
		assert_string_equal(err.msg, cases[i].text);
	}
	assert_int_equal(reg_helper_answer_parse(str_of(big), &c, &err), -ERR_EXHAUSTED);
	assert_string_equal(err.msg, "answer longer than 262144 bytes");
	assert_true(reg_credentials_empty(&c));
}

/* Helpers are programs: a folder of scripts in PATH. */

static char *dir;

static void write_file(const char *name, const char *text, mode_t mode)
{
	AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
	struct err err = ERR_INIT;

	if (file_write_atomic(AT_FDCWD, path, str_of(text), mode, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(chmod(path, mode), 0);
}

static int with_helpers(void **state)
{
	char template[] = "/tmp/registry-auth-test-XXXXXX";
	AUTO_FREE char *path = NULL;

	if (!mkdtemp(template))
		return -1;
	dir = xstrdup(template);
	path = xasprintf("%s:%s", dir, getenv("PATH"));
	setenv("PATH", path, 1);
	write_file("docker-credential-good",
	           "#!/bin/sh\n[ \"$1\" = get ] && read -r host; printf '{\"ServerURL\":\"%s\",\"Username\":\"u-%s\","
	           "\"Secret\":\"s\"}' \"$host\" \"$host\"\n",
	           0755);
	write_file("docker-credential-none", "#!/bin/sh\necho 'credentials not found in native keychain'; exit 1\n",
	           0755);
	write_file("docker-credential-slow", "#!/bin/sh\nsleep 60\n", 0755);
	write_file("docker-credential-bad", "#!/bin/sh\necho oops; exit 3\n", 0755);
	write_file("docker-credential-flood", "#!/bin/sh\nexec yes\n", 0755);
	write_file("docker-credential-killed", "#!/bin/sh\nkill -9 $$\n", 0755);
	return 0;
}

static int without_helpers(void **state)
{
	AUTO_FD int tmp = open("/tmp", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = dir_remove(tmp, strrchr(dir, '/') + 1, NULL);

	free(dir);
	return r;
}

static int lookup(const char *store, const char *host, int64_t deadline_ns, struct reg_credentials *c, struct err *err)
{
	AUTO_FREE char *json = xasprintf("{\"credsStore\":\"%s\"}", store);
	AUTO_FREE char *path = xasprintf("%s/config.json", dir);

	write_file("config.json", json, 0600);
	return reg_docker_config_lookup(path, str_of(host), deadline_ns, c, err);
}

static void helpers_run(void **state)
{
	AUTO(reg_credentials) struct reg_credentials c = REG_CREDENTIALS_INIT;
	int64_t deadline = clock_mono_ns() + 20 * NS_PER_S;
	struct err err = ERR_INIT;

	if (lookup("good", "a.b", deadline, &c, &err) != 0)
		fail_msg("%s", err.msg);
	assert_string_equal(c.username, "u-a.b");
	assert_string_equal(c.password, "s");
	reg_credentials_fini(&c);
	assert_int_equal(lookup("none", "a.b", deadline, &c, &err), REG_AUTH_NONE);
	assert_int_equal(lookup("bad", "a.b", deadline, &c, &err), -ERR_UNAUTHENTICATED);
	assert_int_equal(lookup("slow", "a.b", clock_mono_ns() + 100 * NS_PER_MS, &c, &err), -ERR_DEADLINE);
	assert_string_equal(err.msg, "docker-credential-slow: no answer in time");
	assert_int_equal(lookup("flood", "a.b", deadline, &c, &err), -ERR_EXHAUSTED);
	assert_string_equal(err.msg, "docker-credential-flood: answer longer than 262144 bytes");
	assert_int_equal(lookup("killed", "a.b", deadline, &c, &err), -ERR_UNAUTHENTICATED);
	assert_string_equal(err.msg, "docker-credential-killed failed (signal 9)");
	assert_true(lookup("absent", "a.b", deadline, &c, &err) < 0);
	assert_true(reg_credentials_empty(&c));
	assert_int_equal(reg_docker_config_lookup("/nonexistent/config.json", STR("a.b"), deadline, &c, &err),
	                 REG_AUTH_NONE);
}

/* Puts a variable of the environment back. */
static void restore(const char *name, const char *value)
{
	if (value)
		setenv(name, value, 1);
	else
		unsetenv(name);
}

static void assert_found(const char *user)
{
	AUTO(reg_credentials) struct reg_credentials c = REG_CREDENTIALS_INIT;
	struct err err = ERR_INIT;
	int r = reg_docker_config_lookup(NULL, STR("a.b"), clock_mono_ns() + 20 * NS_PER_S, &c, &err);

	assert_int_equal(r, user ? 0 : REG_AUTH_NONE);
	if (user)
		assert_string_equal(c.username, user);
}

static void config_places(void **state)
{
	AUTO_FREE char *home = getenv("HOME") ? xstrdup(getenv("HOME")) : NULL;
	AUTO_FREE char *config = getenv("DOCKER_CONFIG") ? xstrdup(getenv("DOCKER_CONFIG")) : NULL;
	AUTO_FREE char *folder = xasprintf("%s/.docker", dir);
	AUTO_FREE char *bad = xasprintf("%s/bad.json", dir);
	AUTO_FREE char *text = xasprintf("%s: JSON ends where a key is expected", bad);
	AUTO(reg_credentials) struct reg_credentials c = REG_CREDENTIALS_INIT;
	struct err err = ERR_INIT;

	assert_int_equal(mkdir(folder, 0700), 0);
	write_file(".docker/config.json", "{\"auths\":{\"a.b\":{\"auth\":\"dTE6cA==\"}}}", 0600);
	write_file("config.json", "{\"auths\":{\"a.b\":{\"auth\":\"dTI6cA==\"}}}", 0600);
	write_file("bad.json", "{", 0600);
	setenv("HOME", dir, 1);
	unsetenv("DOCKER_CONFIG");
	assert_found("u1");
	setenv("DOCKER_CONFIG", dir, 1);
	assert_found("u2");
	setenv("DOCKER_CONFIG", "", 1); /* as if it were not set */
	assert_found("u1");
	unsetenv("HOME");
	assert_found(NULL);
	restore("HOME", home);
	restore("DOCKER_CONFIG", config);

	assert_int_equal(reg_docker_config_lookup(bad, STR("a.b"), 1, &c, &err), -ERR_INVALID);
	assert_string_equal(err.msg, text);
	/* One that cannot be read is no missing one: the user means something by it. */
	assert_true(reg_docker_config_lookup(dir, STR("a.b"), 1, &c, &err) < 0);
	assert_non_null(strstr(err.msg, dir));
}

static void values(void **state)
{
	AUTO(reg_credentials) struct reg_credentials a = REG_CREDENTIALS_INIT;
	AUTO(reg_credentials) struct reg_credentials b = REG_CREDENTIALS_INIT;

	assert_int_equal(reg_credentials_parse(STR("user:pass:word"), &a, NULL), 0);
	assert_string_equal(a.password, "pass:word");
	reg_credentials_copy(&b, &a);
	assert_true(reg_credentials_eq(&a, &b));
	b.password[0] = 'x';
	assert_false(reg_credentials_eq(&a, &b));
	reg_credentials_fini(&a);
	assert_true(reg_credentials_empty(&a));
	assert_int_equal(reg_credentials_set(&a, STR("<token>"), STR("t"), NULL), 0);
	assert_string_equal(a.identity_token, "t");
	assert_int_equal(reg_credentials_parse(STR("user"), &a, NULL), -ERR_INVALID);
	assert_int_equal(reg_credentials_parse(STR("user:"), &a, NULL), -ERR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(challenges),
	    cmocka_unit_test(challenges_over_several_lines),
	    cmocka_unit_test(challenge_junk),
	    cmocka_unit_test(config_hosts),
	    cmocka_unit_test(config_forms),
	    cmocka_unit_test(config_helpers),
	    cmocka_unit_test(config_is_bounded),
	    cmocka_unit_test(config_oddities),
	    cmocka_unit_test(helper_answers),
	    cmocka_unit_test_setup_teardown(helpers_run, with_helpers, without_helpers),
	    cmocka_unit_test_setup_teardown(config_places, with_helpers, without_helpers),
	    cmocka_unit_test(values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
