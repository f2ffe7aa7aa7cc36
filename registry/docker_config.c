/* ~/.docker/config.json and the credential helpers it names. */
#include "registry/auth.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/unix.h"
#include "registry/reference.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define CONFIG_BYTES_MAX (1u << 20)
#define HELPER_ANSWER_MAX (4 * REG_SECRET_MAX)
/* The name under which Docker has kept its own registry since v1. */
#define DOCKER_LEGACY_KEY "https://index.docker.io/v1/"

static void wipe(struct buf *b)
{
	if (b->p)
		explicit_bzero(b->p, b->cap);
	buf_fini(b);
}
static inline void secret_buf_fini(struct buf *b)
{
	wipe(b);
}
DEFINE_CLEANUP(secret_buf, struct buf, secret_buf_fini(it));

/* Strings that the reader unescaped lie in its own heap buffer, which it frees without wiping. */
static void wipe_view(struct str s)
{
	if (s.n)
		explicit_bzero((char *)(uintptr_t)s.p, s.n);
}

static bool is_docker(struct str host)
{
	return str_eqc(host, REG_DOCKER_HOST);
}

/*
 * How well a key of `auths` names the host: 0 not at all, 1 as an URL ("https://host/v1/"), 2 exactly. Keys with a
 * repository path, podman's extension, are for that repository alone and do not count.
 */
static int key_fit(struct str key, struct str host)
{
	if (str_ieq(key, host))
		return 2;
	if (!str_skip(&key, STR("https://")))
		str_skip(&key, STR("http://"));
	ptrdiff_t slash = str_find(key, '/');
	if (slash >= 0) {
		struct str path = str_sub(key, (size_t)slash, SIZE_MAX);

		if (!str_eqc(path, "/") && !str_eqc(path, "/v1/") && !str_eqc(path, "/v1") && !str_eqc(path, "/v2/") &&
		    !str_eqc(path, "/v2"))
			return 0;
		key.n = (size_t)slash;
	}
	if (str_ieq(key, host))
		return 1;
	return is_docker(host) && (str_ieq(key, STR("index.docker.io")) || str_ieq(key, STR("registry-1.docker.io")));
}

/* "auth": base64 of user:password, padded with NULs by some old clients. */
static int set_from_auth(struct str auth, struct reg_credentials *out, struct err *err)
{
	AUTO(secret_buf) struct buf plain = BUF_INIT;
	struct str text;

	if (auth.n > 2 * REG_SECRET_MAX)
		return err_set(err, ERR_INVALID, "auth: too long");
	buf_reserve(&plain, auth.n); /* no growth, so no copy is left behind */
	TRY_WRAP(base64_decode(auth, &plain, err), err, "auth");
	text = buf_str(&plain);
	while (text.n && text.p[text.n - 1] == '\0')
		text.n--;
	return reg_credentials_parse(text, out, err);
}

/* One value of `auths`. Leaves *out empty when it holds no secret (a placeholder for credsStore), or is not `wanted`:
 * such entries are read all the same, so that every secret of the file is wiped. */
static int parse_auth_entry(struct json_reader *r, bool wanted, struct reg_credentials *out, struct err *err)
{
	struct str key, auth = STR_NONE, user = STR_NONE, password = STR_NONE, token = STR_NONE;
	int k;

	TRY(json_object_begin(r, err));
	while ((k = json_object_next(r, &key, err)) > 0)
		if (json_key_is(key, "auth"))
			TRY(json_string(r, &auth, err));
		else if (json_key_is(key, "username"))
			TRY(json_string(r, &user, err));
		else if (json_key_is(key, "password"))
			TRY(json_string(r, &password, err));
		else if (json_key_is(key, "identitytoken"))
			TRY(json_string(r, &token, err));
		else
			TRY(json_skip(r, err));
	if (k == 0 && wanted && token.n)
		k = reg_credentials_set(out, STR_NONE, token, err);
	else if (k == 0 && wanted && auth.n)
		k = set_from_auth(auth, out, err);
	else if (k == 0 && wanted && password.n)
		k = reg_credentials_set(out, user, password, err);
	wipe_view(auth);
	wipe_view(password);
	wipe_view(token);
	return k;
}

static int parse_auths(struct json_reader *r, struct str host, struct reg_credentials *out, struct err *err)
{
	int k, best = 0;
	struct str key;

	TRY(json_object_begin(r, err));
	while ((k = json_object_next(r, &key, err)) > 0) {
		AUTO(reg_credentials) struct reg_credentials found = REG_CREDENTIALS_INIT;
		int fit = key_fit(key, host);

		TRY_WRAP(parse_auth_entry(r, fit > best, &found, err), err, "auths[\"" STR_FMT "\"]", STR_ARG(key));
		if (reg_credentials_empty(&found))
			continue;
		best = fit;
		reg_credentials_fini(out);
		*out = found;
		found = REG_CREDENTIALS_INIT;
	}
	return k;
}

/* A helper is a program of PATH: nothing that could leave it. */
static int helper_name(struct str suffix, char **out, struct err *err)
{
	if (suffix.n == 0 || suffix.n > 64)
		return err_set(err, ERR_INVALID, "credential helper with a name of %zu bytes", suffix.n);
	for (size_t i = 0; i < suffix.n; i++) {
		char c = suffix.p[i];

		if (!(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z') && !strchr("._-", c))
			return err_set(err, ERR_INVALID,
			               "credential helper with a name of other characters than "
			               "letters, digits, '.', '_' and '-'");
	}
	free(*out);
	*out = xstrndup(suffix.p, suffix.n);
	return 0;
}

static int parse_helpers(struct json_reader *r, struct str host, char **helper, struct err *err)
{
	struct str key, value;
	int k;

	TRY(json_object_begin(r, err));
	while ((k = json_object_next(r, &key, err)) > 0) {
		TRY(json_string(r, &value, err));
		if (str_ieq(key, host) || (is_docker(host) && key_fit(key, host)))
			TRY_WRAP(helper_name(value, helper, err), err, "credHelpers");
	}
	return k;
}

int reg_docker_config_parse(struct str json, struct str host, struct reg_credentials *out, char **helper, char **server,
                            struct err *err)
{
	AUTO(json_reader) struct json_reader *r = NULL;
	AUTO_FREE char *own_helper = NULL;
	AUTO_FREE char *store = NULL;
	struct str key, value;
	int k;

	*helper = *server = NULL;
	if (json.n > CONFIG_BYTES_MAX)
		return err_set(err, ERR_EXHAUSTED, "more than %u bytes", CONFIG_BYTES_MAX);
	r = json_reader_new(json);
	TRY(json_object_begin(r, err));
	while ((k = json_object_next(r, &key, err)) > 0)
		if (json_key_is(key, "auths")) {
			TRY(parse_auths(r, host, out, err));
		} else if (json_key_is(key, "credHelpers")) {
			TRY(parse_helpers(r, host, &own_helper, err));
		} else if (json_key_is(key, "credsStore")) {
			TRY(json_string(r, &value, err));
			if (value.n)
				TRY_WRAP(helper_name(value, &store, err), err, "credsStore");
		} else {
			TRY(json_skip(r, err));
		}
	TRY(k);
	TRY(json_end(r, err));

	if (own_helper)
		reg_credentials_fini(out);
	else if (!reg_credentials_empty(out))
		return 0;
	*helper = own_helper ? STEAL(own_helper) : STEAL(store);
	if (!*helper)
		return REG_AUTH_NONE;
	*server = is_docker(host) ? xstrdup(DOCKER_LEGACY_KEY) : xstrndup(host.p, host.n);
	return 0;
}

int reg_helper_answer_parse(struct str json, struct reg_credentials *out, struct err *err)
{
	AUTO(json_reader) struct json_reader *r = NULL;
	struct str key, user = STR_NONE, secret = STR_NONE;
	int k;

	if (json.n > HELPER_ANSWER_MAX)
		return err_set(err, ERR_EXHAUSTED, "answer longer than %d bytes", HELPER_ANSWER_MAX);
	r = json_reader_new(json);
	TRY(json_object_begin(r, err));
	while ((k = json_object_next(r, &key, err)) > 0)
		if (json_key_is(key, "Username"))
			TRY(json_string(r, &user, err));
		else if (json_key_is(key, "Secret"))
			TRY(json_string(r, &secret, err));
		else
			TRY(json_skip(r, err));
	if (k == 0)
		k = json_end(r, err);
	if (k == 0)
		k = reg_credentials_set(out, user, secret, err);
	wipe_view(secret);
	return k;
}

/* Milliseconds for poll(2) until a deadline, at least 0. */
static int poll_ms(int64_t deadline_ns)
{
	int64_t left = deadline_ns == INT64_MAX ? 60000 : (deadline_ns - clock_mono_ns() + NS_PER_MS - 1) / NS_PER_MS;

	return left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

/* Waits until fd is readable; ERR_DEADLINE. */
static int await(int fd, int64_t deadline_ns, struct err *err)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	for (;;) {
		int n = poll(&p, 1, poll_ms(deadline_ns));

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return err_errno(err, errno, "poll");
		if (n == 0 && clock_mono_ns() >= deadline_ns)
			return err_set(err, ERR_DEADLINE, "no answer in time");
	}
}

/* Reads the helper's standard output to its end, then waits for its exit, both until the deadline. */
static int collect_answer(pid_t pid, int out_fd, int64_t deadline_ns, struct buf *out, struct err *err)
{
	AUTO_FD int pid_fd = -1;

	buf_reserve(out, HELPER_ANSWER_MAX); /* no growth, so no copy of a secret is left behind */
	for (;;) {
		ssize_t n;

		TRY(await(out_fd, deadline_ns, err));
		n = read(out_fd, out->p + out->n, HELPER_ANSWER_MAX - out->n);
		if (n < 0 && errno != EINTR)
			return err_errno(err, errno, "read");
		if (n == 0)
			break;
		out->n += n > 0 ? (size_t)n : 0;
		if (out->n == HELPER_ANSWER_MAX)
			return err_set(err, ERR_EXHAUSTED, "answer longer than %d bytes", HELPER_ANSWER_MAX);
	}
	pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pid_fd < 0)
		return err_errno(err, errno, "pidfd_open");
	return await(pid_fd, deadline_ns, err);
}

static int run_helper(const char *program, const char *server, int64_t deadline_ns, struct buf *answer, int *status,
                      struct err *err)
{
	AUTO_FD int in_r = -1;
	AUTO_FD int out_r = -1;
	AUTO_FD int out_w = -1;
	const char *argv[] = {program, "get", NULL};
	struct spawn s = {.argv = argv, .stdio = {-1, -1, -1}, .new_group = true};
	int pipe_fds[2], r;
	pid_t pid;

	/* A memfd as standard input: no pipe that could be full or broken. */
	TRY(memfd_of("credential-helper-stdin", str_of(server), &in_r, err));
	if (pipe2(pipe_fds, O_CLOEXEC))
		return err_errno(err, errno, "pipe");
	out_r = pipe_fds[0];
	out_w = pipe_fds[1];
	s.stdio[0] = in_r;
	s.stdio[1] = out_w;
	TRY(spawn_start(&s, &pid, err));
	close(STEAL_FD(out_w));
	r = collect_answer(pid, out_r, deadline_ns, answer, err);
	if (r < 0)
		kill(-pid, SIGKILL);
	if (spawn_wait(pid, status, r < 0 ? NULL : err) < 0 && r == 0)
		r = -(int)ERR_INTERNAL;
	return r;
}

static int ask_helper(const char *helper, const char *server, int64_t deadline_ns, struct reg_credentials *out,
                      struct err *err)
{
	AUTO(secret_buf) struct buf answer = BUF_INIT;
	AUTO_FREE char *program = xasprintf("docker-credential-%s", helper);
	int status = 0;

	TRY_WRAP(run_helper(program, server, deadline_ns, &answer, &status, err), err, "%s", program);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		TRY_WRAP(reg_helper_answer_parse(buf_str(&answer), out, err), err, "%s", program);
		return 0;
	}
	/* The protocol's only way to say "nothing stored" is this text (docker-credential-helpers, errors.go). */
	if (strstr(buf_cstr(&answer), "credentials not found"))
		return REG_AUTH_NONE;
	return err_set(err, ERR_UNAUTHENTICATED, "%s failed (%s %d)", program,
	               WIFSIGNALED(status) ? "signal" : "exit status",
	               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

int reg_docker_config_lookup(const char *path, struct str host, int64_t deadline_ns, struct reg_credentials *out,
                             struct err *err)
{
	AUTO(secret_buf) struct buf text = BUF_INIT;
	AUTO_FREE char *default_path = NULL;
	AUTO_FREE char *helper = NULL;
	AUTO_FREE char *server = NULL;
	const char *dir = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
	struct err read_err = ERR_INIT;
	int r;

	if (!path && dir && *dir)
		path = default_path = xasprintf("%s/config.json", dir);
	else if (!path && home && *home)
		path = default_path = xasprintf("%s/.docker/config.json", home);
	if (!path)
		return REG_AUTH_NONE;
	buf_reserve(&text, CONFIG_BYTES_MAX); /* no growth, so no copy of a secret is left behind */
	if (file_read(AT_FDCWD, path, CONFIG_BYTES_MAX, &text, &read_err) < 0) {
		if (read_err.code == ERR_NOT_FOUND)
			return REG_AUTH_NONE;
		return err_set(err, read_err.code, "%s", read_err.msg);
	}
	r = reg_docker_config_parse(buf_str(&text), host, out, &helper, &server, err);
	if (r < 0)
		return err_wrap(err, "%s", path);
	if (r > 0 || !helper)
		return r;
	return ask_helper(helper, server, deadline_ns, out, err);
}
