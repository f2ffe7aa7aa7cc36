#include "contentd/tasks/action.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/unix.h"
#include "base/vec.h"
#include "rpc/pb.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#define ANSWER_BYTES_MAX 65536
#define START_PATIENCE (30 * NS_PER_S)
#define DELETE_PATIENCE (20 * NS_PER_S)

extern char **environ;

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

int shim_find(const struct shim_env *env, const char *runtime, char **out, struct err *err)
{
	AUTO_FREE char *name = NULL;
	AUTO_FREE char *ours = NULL;

	TRY(shim_binary(runtime, &name, err));
	if (name[0] == '/') {
		if (!program_is(name))
			return err_set(err, ERR_NOT_FOUND, "runtime %s is not an executable file", runtime);
		*out = STEAL(name);
		return 0;
	}
	if (program_find(name, out, NULL) == 0)
		return 0;
	ours = xasprintf("%.*s/%s", (int)str_rfind(str_of(env->daemon), '/'), env->daemon, name);
	if (program_is(ours)) {
		*out = STEAL(ours);
		return 0;
	}
	return err_set(err, ERR_NOT_FOUND, "runtime %s: its shim %s is not installed", runtime, name);
}

/* ---- running it ---- */

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

/* Ours come first: of a name that is there twice, Go takes the first. */
static void make_env(const struct shim_env *env, const struct bundle *b, struct envp *out)
{
	vec_push(&out->v, xasprintf("TTRPC_ADDRESS=%s", env->ttrpc_address));
	vec_push(&out->v, xasprintf("GRPC_ADDRESS=%s", env->address));
	vec_push(&out->v, xasprintf("NAMESPACE=%s", b->ns));
	vec_push(&out->v, xstrdup("MAX_SHIM_VERSION=2"));
	vec_push(&out->v, xstrdup("GOMAXPROCS=2"));
	for (char **e = environ; *e; e++)
		vec_push(&out->v, xstrdup(*e));
	vec_push(&out->v, NULL);
}

struct output {
	int read_fd, write_fd;
};
#define OUTPUT_INIT ((struct output){-1, -1})

static void output_fini(struct output *o)
{
	if (o->read_fd >= 0)
		close(STEAL_FD(o->read_fd));
	if (o->write_fd >= 0)
		close(STEAL_FD(o->write_fd));
}
DEFINE_AUTO_FINI(output);

static int output_pipe(struct output *o, struct err *err)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(err, errno, "pipe");
	*o = (struct output){fds[0], fds[1]};
	if (fcntl(o->read_fd, F_SETFL, O_NONBLOCK) < 0)
		return err_errno(err, errno, "pipe");
	return 0;
}

static int output_fifo(const struct bundle *b, struct output *o, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/" BUNDLE_START_FIFO, b->path);

	o->read_fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (o->read_fd >= 0)
		o->write_fd = open(path, O_WRONLY | O_CLOEXEC);
	return o->write_fd < 0 ? err_errno(err, errno, "open %s", path) : 0;
}

/* Reads until the end of the stream, or ERR_DEADLINE. Reads before it polls: a FIFO that nobody has opened for writing
 * is at its end, but poll does not say so. */
static int read_until(int fd, int64_t deadline_ns, struct buf *out, struct err *err)
{
	for (;;) {
		ssize_t n = read(fd, buf_reserve(out, 4096), 4096);
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left = deadline_ns - clock_mono_ns();

		if (n == 0)
			return 0;
		if (n > 0)
			out->n += (size_t)n;
		else if (errno != EINTR && errno != EAGAIN)
			return err_errno(err, errno, "read its output");
		if (out->n > ANSWER_BYTES_MAX)
			return err_set(err, ERR_EXHAUSTED, "more than %d bytes of output", ANSWER_BYTES_MAX);
		if (left <= 0)
			return err_set(err, ERR_DEADLINE, "no end of output in time");
		if (n < 0)
			poll(&p, 1, (int)(left / NS_PER_MS) + 1);
	}
}

static int reap(pid_t pid, int read_result, int64_t deadline_ns, int *status, struct err *err)
{
	AUTO_FD int pidfd = pidfd_open(pid, 0);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	int64_t left = deadline_ns - clock_mono_ns();

	if (read_result < 0 || left <= 0 || poll(&p, 1, (int)(left / NS_PER_MS) + 1) <= 0)
		kill(pid, SIGKILL);
	TRY(spawn_wait(pid, status, err));
	return read_result;
}

static int start_action(const struct shim_env *env, const char *binary, const struct bundle *b, const char *action,
                        const int stdio[3], pid_t *pid, struct err *err)
{
	AUTO(envp) struct envp envp = {VEC_INIT};
	const char *argv[16];
	unsigned n = 0;

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
	TRY_WRAP(spawn_start(&(struct spawn){.argv = argv,
	                                     .envp = (const char *const *)envp.v.p,
	                                     .cwd = b->path,
	                                     .stdio = {stdio[0], stdio[1], stdio[2]},
	                                     .new_group = true},
	                     pid, err),
	         err, "run %s", binary);
	return 0;
}

static int check_status(const char *binary, const char *action, int status, struct buf *complaint, struct err *err)
{
	struct str text = str_trim(buf_str(complaint));

	if (!status)
		return 0;
	return err_set(err, ERR_UNKNOWN, "%s %s failed: " STR_FMT, binary, action, STR_ARG(text));
}

void action_put_options(const Pb__Any *options, struct buf *out)
{
	static const char no_extension[] = {8 << 3 | 2, 1, 1 << 3 | 2}; /* ends in the middle of its first field */

	pb_pack(&options->base, out);
	buf_add(out, no_extension, sizeof(no_extension));
}

int action_start(const struct shim_env *env, const char *binary, const struct bundle *b, const Pb__Any *options,
                 struct buf *answer, struct err *err)
{
	int64_t deadline = clock_mono_ns() + START_PATIENCE;
	AUTO(output) struct output out = OUTPUT_INIT;
	AUTO(buf) struct buf input = BUF_INIT;
	AUTO_FD int input_fd = -1;
	int status = 0;
	pid_t pid;

	TRY(output_fifo(b, &out, err));
	if (options) {
		action_put_options(options, &input);
		TRY(memfd_of("options", buf_str(&input), &input_fd, err));
	}
	TRY(start_action(env, binary, b, "start", (int[]){input_fd, out.write_fd, out.write_fd}, &pid, err));
	close(STEAL_FD(out.write_fd));
	TRY_WRAP(reap(pid, read_until(out.read_fd, deadline, answer, err), deadline, &status, err), err, "%s start",
	         binary);
	return check_status(binary, "start", status, answer, err);
}

void action_wait_start(const struct bundle *b, int64_t deadline_ns)
{
	AUTO_FREE char *path = xasprintf("%s/" BUNDLE_START_FIFO, b->path);
	AUTO_FD int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	AUTO(buf) struct buf answer = BUF_INIT;

	if (fd >= 0)
		read_until(fd, deadline_ns, &answer, NULL);
}

/* Takes output and complaints to their ends, and the program to its. */
static int collect(const char *binary, const char *action, pid_t pid, struct output *out, struct output *complaints,
                   int64_t deadline, struct buf *answer, struct err *err)
{
	AUTO(buf) struct buf complaint = BUF_INIT;
	int status = 0, r;

	close(STEAL_FD(out->write_fd));
	close(STEAL_FD(complaints->write_fd));
	r = read_until(out->read_fd, deadline, answer, err);
	if (r >= 0)
		r = read_until(complaints->read_fd, deadline, &complaint, err);
	TRY_WRAP(reap(pid, r, deadline, &status, err), err, "%s %s", binary, action);
	return check_status(binary, action, status, &complaint, err);
}

int action_delete(const struct shim_env *env, const char *binary, const struct bundle *b, struct buf *answer,
                  struct err *err)
{
	int64_t deadline = clock_mono_ns() + DELETE_PATIENCE;
	AUTO(output) struct output out = OUTPUT_INIT, complaints = OUTPUT_INIT;
	pid_t pid;

	TRY(output_pipe(&out, err));
	TRY(output_pipe(&complaints, err));
	TRY(start_action(env, binary, b, "delete", (int[]){-1, out.write_fd, complaints.write_fd}, &pid, err));
	return collect(binary, "delete", pid, &out, &complaints, deadline, answer, err);
}

int action_info(const struct shim_env *env, const char *binary, const Pb__Any *options, struct buf *answer,
                struct err *err)
{
	int64_t deadline = clock_mono_ns() + START_PATIENCE;
	AUTO(output) struct output out = OUTPUT_INIT, complaints = OUTPUT_INIT;
	const char *argv[] = {binary, "-info", NULL};
	AUTO(buf) struct buf input = BUF_INIT;
	AUTO_FD int input_fd = -1;
	pid_t pid;

	TRY(output_pipe(&out, err));
	TRY(output_pipe(&complaints, err));
	if (options)
		pb_pack(&options->base, &input);
	TRY(memfd_of("options", buf_str(&input), &input_fd, err));
	TRY_WRAP(spawn_start(&(struct spawn){.argv = argv,
	                                     .stdio = {input_fd, out.write_fd, complaints.write_fd},
	                                     .new_group = true},
	                     &pid, err),
	         err, "run %s", binary);
	return collect(binary, "-info", pid, &out, &complaints, deadline, answer, err);
}
