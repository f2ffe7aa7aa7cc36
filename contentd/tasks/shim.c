#include "contentd/tasks/shim.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/unix.h"
#include "base/vec.h"
#include "rpc/pb.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/un.h>
#include <sys/wait.h>

#define ANSWER_BYTES_MAX 65536
#define START_PATIENCE (30 * NS_PER_S)
#define DELETE_PATIENCE (20 * NS_PER_S)

extern char **environ;

struct shim {
	struct ttrpc_client *rpc;
	char *ns;
	shim_gone_fn *gone;
	void *arg;
};

/* ---- names ---- */

int shim_binary(const char *runtime, char **out, struct err *err)
{
	struct str name = str_of(runtime), kind, version;
	ptrdiff_t dot = str_rfind(name, '.');

	if (runtime[0] == '/') {
		*out = xstrdup(runtime);
		return 0;
	}
	version = dot > 0 ? str_sub(name, (size_t)dot + 1, name.n) : STR_NONE;
	name = dot > 0 ? str_sub(name, 0, (size_t)dot) : STR_NONE;
	dot = str_rfind(name, '.');
	kind = dot > 0 ? str_sub(name, (size_t)dot + 1, name.n) : STR_NONE;
	if (str_empty(kind) || str_empty(version) || str_find(name, '/') >= 0 || str_find(version, '/') >= 0)
		return err_set(err, ERR_INVALID, "runtime %s is neither a name like io.containerd.runc.v2 nor a path",
		               runtime);
	*out = xasprintf("containerd-shim-" STR_FMT "-" STR_FMT, STR_ARG(kind), STR_ARG(version));
	return 0;
}

static int json_answer(struct str text, char **out, struct err *err)
{
	AUTO(json_reader) struct json_reader *j = json_reader_new(text);
	struct str key, protocol = STR("ttrpc"), address = STR_NONE;
	int more;

	TRY(json_object_begin(j, err));
	while ((more = json_object_next(j, &key, err)) > 0) {
		if (str_eqc(key, "address"))
			TRY(json_string(j, &address, err));
		else if (str_eqc(key, "protocol"))
			TRY(json_string(j, &protocol, err));
		else
			TRY(json_skip(j, err));
	}
	TRY(more);
	if (!str_eqc(protocol, "ttrpc"))
		return err_set(err, ERR_UNIMPLEMENTED, "the shim speaks " STR_FMT ", not ttrpc", STR_ARG(protocol));
	*out = str_dup(address);
	return 0;
}

int shim_parse_answer(struct str answer, char **out, struct err *err)
{
	struct str text = str_trim(answer);
	AUTO_FREE char *address = NULL;

	if (str_starts(text, STR("{")))
		TRY_WRAP(json_answer(text, &address, err), err, "answer of the shim");
	else
		address = str_dup(text);
	for (const char *c = address; *c; c++)
		if ((unsigned char)*c <= ' ')
			return err_set(err, ERR_INVALID, "the shim answered with no address: %.200s", address);
	if (!*address)
		return err_set(err, ERR_INVALID, "the shim answered with no address");
	*out = STEAL(address);
	return 0;
}

/* ---- running the binary ---- */

struct envp {
	VEC(char *) v;
};

static void envp_fini(struct envp *e)
{
	vec_each(&e->v, s)
		free(*s);
	vec_fini(&e->v);
}
DEFINE_AUTO_FINI(envp);

static void make_env(const struct shim_env *env, const struct bundle *b, struct envp *out)
{
	for (char **e = environ; *e; e++)
		vec_push(&out->v, xstrdup(*e));
	vec_push(&out->v, xasprintf("TTRPC_ADDRESS=%s", env->ttrpc_address));
	vec_push(&out->v, xasprintf("GRPC_ADDRESS=%s", env->address));
	vec_push(&out->v, xasprintf("NAMESPACE=%s", b->ns));
	vec_push(&out->v, xstrdup("MAX_SHIM_VERSION=2"));
	vec_push(&out->v, xstrdup("GOMAXPROCS=2"));
	vec_push(&out->v, NULL);
}

/* Reads until the end of the stream, or ERR_DEADLINE. */
static int read_until(int fd, int64_t deadline_ns, struct buf *out, struct err *err)
{
	for (;;) {
		int64_t left = deadline_ns - clock_mono_ns();
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (left <= 0)
			return err_set(err, ERR_DEADLINE, "no end of output in time");
		if (poll(&p, 1, (int)(left / NS_PER_MS) + 1) <= 0)
			continue;
		n = read(fd, buf_reserve(out, 4096), 4096);
		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return err_errno(err, errno, "read its output");
		if (n > 0)
			out->n += (size_t)n;
		if (out->n > ANSWER_BYTES_MAX)
			return err_set(err, ERR_EXHAUSTED, "more than %d bytes of output", ANSWER_BYTES_MAX);
	}
}

static int finish(pid_t pid, int read_result, int64_t deadline_ns, int *status, struct err *err)
{
	AUTO_FD int pidfd = pidfd_open(pid, 0);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	int64_t left = deadline_ns - clock_mono_ns();

	if (read_result < 0 || left <= 0 || poll(&p, 1, (int)(left / NS_PER_MS) + 1) <= 0)
		kill(pid, SIGKILL);
	TRY(spawn_wait(pid, status, err));
	return read_result;
}

/* Runs `binary … action` in the bundle; its standard output is appended to `out`, standard error to `complaint`
 * (which may be the same buffer). */
static int run_action(const struct shim_env *env, const char *binary, const struct bundle *b, const char *action,
                      int64_t patience_ns, struct buf *out, struct buf *complaint, struct err *err)
{
	int64_t deadline = clock_mono_ns() + patience_ns;
	AUTO(envp) struct envp envp = {VEC_INIT};
	AUTO_FD int out_read = -1;
	AUTO_FD int err_read = -1;
	int out_pipe[2], err_pipe[2], status = 0, r;
	const char *argv[16];
	unsigned n = 0;
	pid_t pid;

	argv[n++] = binary;
	argv[n++] = "-namespace";
	argv[n++] = b->ns;
	argv[n++] = "-address";
	argv[n++] = env->address;
	argv[n++] = "-publish-binary";
	argv[n++] = env->daemon;
	argv[n++] = "-id";
	argv[n++] = b->id;
	if (!strcmp(action, "delete")) {
		argv[n++] = "-bundle";
		argv[n++] = b->path;
	}
	if (env->debug)
		argv[n++] = "-debug";
	argv[n++] = action;
	argv[n] = NULL;
	make_env(env, b, &envp);
	if (pipe2(out_pipe, O_CLOEXEC) < 0)
		return err_errno(err, errno, "pipe");
	if (complaint == out) {
		err_pipe[0] = -1;
		err_pipe[1] = out_pipe[1];
	} else if (pipe2(err_pipe, O_CLOEXEC) < 0) {
		r = err_errno(err, errno, "pipe");
		close(out_pipe[0]);
		close(out_pipe[1]);
		return r;
	}
	out_read = out_pipe[0];
	err_read = err_pipe[0];
	r = spawn_start(&(struct spawn){.argv = argv,
	                                .envp = (const char *const *)envp.v.p,
	                                .cwd = b->path,
	                                .stdio = {-1, out_pipe[1], err_pipe[1]},
	                                .new_group = true},
	                &pid, err);
	close(out_pipe[1]);
	if (err_pipe[1] != out_pipe[1])
		close(err_pipe[1]);
	if (r < 0)
		return err_wrap(err, "run %s", binary);
	r = read_until(out_read, deadline, out, err);
	if (r >= 0 && err_read >= 0)
		r = read_until(err_read, deadline, complaint, err);
	TRY_WRAP(finish(pid, r, deadline, &status, err), err, "%s %s", binary, action);
	if (status != 0)
		return err_set(err, ERR_UNKNOWN, "%s %s failed: %.*s", binary, action,
		               (int)str_trim(buf_str(complaint)).n, buf_cstr(complaint));
	return 0;
}

/* ---- the connection ---- */

static void on_close(void *arg, const struct err *why)
{
	struct shim *s = arg;

	(void)why;
	s->gone(s->arg);
}

/* Addresses without "unix://" are abstract sockets. */
static int dial_abstract(const char *name, int *out, struct err *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	size_t n = strlen(name);
	AUTO_FD int fd = -1;

	if (n + 1 > sizeof(a.sun_path))
		return err_set(err, ERR_INVALID, "address of the shim is too long: %.120s", name);
	memcpy(a.sun_path + 1, name, n);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
	    connect(fd, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n)) < 0)
		return err_errno(err, errno, "connect to the shim at %s", name);
	*out = STEAL_FD(fd);
	return 0;
}

static int dial(const struct shim_env *env, const struct bundle *b, const char *address, shim_gone_fn *gone, void *arg,
                struct shim **out, struct err *err)
{
	struct str path = str_of(address);
	struct shim *s;
	int fd = -1, r;

	if (str_skip(&path, STR("unix://")))
		TRY_WRAP(unix_connect(path.p, SOCK_STREAM, &fd, err), err, "shim of task %s", b->id);
	else
		TRY(dial_abstract(address, &fd, err));
	s = xcalloc(1, sizeof(*s));
	s->ns = xstrdup(b->ns);
	s->gone = gone;
	s->arg = arg;
	r = ttrpc_client_new(fd, &(struct ttrpc_client_opts){.io = env->io, .on_close = on_close, .arg = s}, &s->rpc,
	                     err);
	if (r < 0) {
		free(s->ns);
		free(s);
		return r;
	}
	*out = s;
	return 0;
}

int shim_start(const struct shim_env *env, const char *binary, const struct bundle *b, shim_gone_fn *gone, void *arg,
               struct shim **out, struct err *err)
{
	AUTO(buf) struct buf answer = BUF_INIT;
	AUTO_FREE char *address = NULL;

	TRY(run_action(env, binary, b, "start", START_PATIENCE, &answer, &answer, err));
	TRY(shim_parse_answer(buf_str(&answer), &address, err));
	TRY(bundle_write(b, "shim-binary-path", binary, err));
	return dial(env, b, address, gone, arg, out, err);
}

int shim_reconnect(const struct shim_env *env, const struct bundle *b, shim_gone_fn *gone, void *arg, struct shim **out,
                   struct err *err)
{
	AUTO_FREE char *address = NULL;

	TRY(bundle_read(b, "address", &address, err));
	return dial(env, b, address, gone, arg, out, err);
}

void shim_close(struct shim *s)
{
	if (!s)
		return;
	ttrpc_client_free(s->rpc);
	free(s->ns);
	free(s);
}

bool shim_alive(const struct shim *s)
{
	return ttrpc_client_alive(s->rpc);
}

int shim_call(struct shim *s, const char *method, const ProtobufCMessage *msg, int64_t deadline_ns,
              struct rpc_call *on_behalf, void *rsp, struct err *err)
{
	struct ttrpc_req req = {.svc = &shim__task__descriptor,
	                        .method = method,
	                        .ns = s->ns,
	                        .msg = msg,
	                        .deadline_ns = deadline_ns,
	                        .on_behalf = on_behalf};

	return ttrpc_call(s->rpc, &req, rsp, NULL, err);
}

int shim_delete(const struct shim_env *env, const char *binary, const struct bundle *b, Shim__DeleteResponse **out,
                struct err *err)
{
	AUTO(buf) struct buf answer = BUF_INIT;
	AUTO(buf) struct buf complaint = BUF_INIT;

	TRY(run_action(env, binary, b, "delete", DELETE_PATIENCE, &answer, &complaint, err));
	return pb_unpack(&shim__delete_response__descriptor, buf_str(&answer), out, err);
}
