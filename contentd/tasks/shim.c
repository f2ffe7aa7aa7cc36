#include "contentd/tasks/shim.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/unix.h"
#include "contentd/tasks/process.h"
#include "rpc/pb.h"
#include "rpc/proto/shim_bootstrap.pb-c.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>

#define VERSION_MAX 3
#define SERVICE_3 "containerd.task.v3.Task"
#define STOCK_SOCKETS "/run/containerd/s"
#define CONNECT_PATIENCE (2 * NS_PER_S)

struct shim {
	struct ttrpc_client *rpc;
	char *ns;
	const char *service; /* on the wire; NULL: version 2's */
	shim_gone_fn *gone;
	void *arg;
};

/* ---- answers ---- */

static int take_answer(int64_t version, struct str address, struct str protocol, struct shim_answer *out,
                       struct err *err)
{
	if (!str_eqc(protocol, "ttrpc"))
		return err_set(err, ERR_UNIMPLEMENTED, "the shim speaks " STR_FMT ", not ttrpc", STR_ARG(protocol));
	if (version < 2 || version > VERSION_MAX)
		return err_set(err, ERR_UNIMPLEMENTED, "the shim speaks version %lld of its protocol, not 2 or %d",
		               (long long)version, VERSION_MAX);
	out->address = str_dup(address);
	out->version = (unsigned)version;
	return 0;
}

static int json_answer(struct str text, struct shim_answer *out, struct err *err)
{
	AUTO(json_reader) struct json_reader *j = json_reader_new(text);
	struct str key, protocol = STR("ttrpc"), address = STR_NONE;
	int64_t version = 2;
	int more;

	TRY(json_object_begin(j, err));
	while ((more = json_object_next(j, &key, err)) > 0) {
		if (str_eqc(key, "address"))
			TRY(json_string(j, &address, err));
		else if (str_eqc(key, "protocol"))
			TRY(json_string(j, &protocol, err));
		else if (str_eqc(key, "version"))
			TRY(json_i64(j, &version, err));
		else
			TRY(json_skip(j, err));
	}
	TRY(more);
	return take_answer(version, address, protocol, out, err);
}

/* As those of containerd 2.3 and later answer. */
static int binary_answer(struct str text, struct shim_answer *out, struct err *err)
{
	AUTO(pb) ShimBootstrap__BootstrapResult *m = NULL;

	TRY(pb_unpack(&shim_bootstrap__bootstrap_result__descriptor, text, &m, err));
	return take_answer(m->version, str_of(m->address), str_of(m->protocol), out, err);
}

int shim_parse_answer(struct str answer, struct shim_answer *out, struct err *err)
{
	AUTO(shim_answer) struct shim_answer a = {NULL, 2};
	struct str text = str_trim(answer);

	/* A message begins with the tag of its version; no text does. */
	if (str_starts(answer, STR("\b")))
		TRY_WRAP(binary_answer(answer, &a, err), err, "answer of the shim");
	else if (str_starts(text, STR("{")))
		TRY_WRAP(json_answer(text, &a, err), err, "answer of the shim");
	else
		a.address = str_dup(text);
	for (const char *c = a.address; *c; c++)
		if ((unsigned char)*c <= ' ')
			return err_set(err, ERR_INVALID, "the shim answered with no address: %.200s", a.address);
	if (!*a.address)
		return err_set(err, ERR_INVALID, "the shim answered with no address");
	*out = a;
	a.address = NULL;
	return 0;
}

/* containerd's own name and form, so that the tools of others find it. */
static int keep_answer(const struct bundle *b, const struct shim_answer *a, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &text, NULL);
	json_w_object_begin(&w);
	json_w_ki64(&w, "version", a->version);
	json_w_kcstr(&w, "address", a->address);
	json_w_kcstr(&w, "protocol", "ttrpc");
	json_w_object_end(&w);
	return bundle_write(b, "bootstrap.json", buf_cstr(&text), err);
}

int shim_kept_answer(const struct bundle *b, struct shim_answer *out, struct err *err)
{
	AUTO_FREE char *text = NULL;

	if (bundle_read(b, "bootstrap.json", &text, NULL) < 0)
		TRY(bundle_read(b, "address", &text, err));
	return shim_parse_answer(str_of(text), out, err);
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

static int dial(const struct shim_env *env, const struct bundle *b, const struct shim_answer *a, shim_gone_fn *gone,
                void *arg, struct shim **out, struct err *err)
{
	struct str path = str_of(a->address);
	struct shim *s;
	int fd = -1, r;

	if (str_skip(&path, STR("unix://")))
		TRY_WRAP(unix_connect(path.p, SOCK_STREAM, &fd, err), err, "shim of task %s", b->id);
	else
		TRY(dial_abstract(a->address, &fd, err));
	s = xcalloc(1, sizeof(*s));
	s->ns = xstrdup(b->ns);
	s->service = a->version == 3 ? SERVICE_3 : NULL;
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

/* What cannot be asked now is not known later; the shim is not used for what it does not answer here. */
static void note_process(struct shim *s, const struct bundle *b)
{
	Shim__ConnectRequest req = SHIM__CONNECT_REQUEST__INIT;
	AUTO(pb) Shim__ConnectResponse *rsp = NULL;

	req.id = b->id;
	if (shim_call_within(s, "Connect", &req.base, CONNECT_PATIENCE, &rsp, NULL) >= 0)
		shim_process_note(b, rsp->shim_pid);
}

int shim_start(const struct shim_env *env, const char *binary, const struct bundle *b, const Pb__Any *options,
               shim_gone_fn *gone, void *arg, struct shim **out, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO(shim_answer) struct shim_answer answer = {NULL, 0};

	TRY(bundle_write(b, "shim-binary-path", binary, err));
	TRY(action_start(env, binary, b, options, &text, err));
	TRY(shim_parse_answer(buf_str(&text), &answer, err));
	TRY(keep_answer(b, &answer, err));
	TRY(dial(env, b, &answer, gone, arg, out, err));
	note_process(*out, b);
	return 0;
}

int shim_reconnect(const struct shim_env *env, const struct bundle *b, shim_gone_fn *gone, void *arg, struct shim **out,
                   struct err *err)
{
	AUTO(shim_answer) struct shim_answer answer = {NULL, 0};

	TRY(shim_kept_answer(b, &answer, err));
	return dial(env, b, &answer, gone, arg, out, err);
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

static struct ttrpc_req request_of(struct shim *s, const char *method, const ProtobufCMessage *msg, int64_t deadline_ns)
{
	return (struct ttrpc_req){.svc = &shim__task__descriptor,
	                          .method = method,
	                          .service = s->service,
	                          .ns = s->ns,
	                          .msg = msg,
	                          .deadline_ns = deadline_ns};
}

int shim_call(struct shim *s, const char *method, const ProtobufCMessage *msg, const struct shim_wait *wait, void *rsp,
              struct err *err)
{
	struct ttrpc_req req = request_of(s, method, msg, wait->deadline_ns);
	int r;

	req.on_behalf = wait->on_behalf;
	req.patience_ns = wait->patience_ns;
	req.still_there = wait->still_there;
	req.arg = wait->arg;
	if (!wait->on_behalf)
		return ttrpc_call(s->rpc, &req, rsp, NULL, err);
	TRY(rpc_wait_begin(wait->on_behalf, err));
	r = ttrpc_call(s->rpc, &req, rsp, NULL, err);
	rpc_wait_end(wait->on_behalf);
	return r;
}

int shim_call_within(struct shim *s, const char *method, const ProtobufCMessage *msg, int64_t ns, void *rsp,
                     struct err *err)
{
	return shim_call(s, method, msg, &(struct shim_wait){.deadline_ns = clock_mono_ns() + ns}, rsp, err);
}

int shim_call_async(struct shim *s, const char *method, const ProtobufCMessage *msg, int64_t deadline_ns,
                    void (*done)(void *arg, int rc, void *rsp, const struct err *why), void *arg, struct err *err)
{
	struct ttrpc_req req = request_of(s, method, msg, deadline_ns);

	return ttrpc_call_async(s->rpc, &req, done, arg, err);
}

int shim_delete(const struct shim_env *env, const char *binary, const struct bundle *b, Shim__DeleteResponse **out,
                struct err *err)
{
	AUTO(buf) struct buf answer = BUF_INIT;

	TRY(action_delete(env, binary, b, &answer, err));
	return pb_unpack(&shim__delete_response__descriptor, buf_str(&answer), out, err);
}

/* ---- what is left of it ---- */

static void remove_dead_socket(const char *path)
{
	struct err err = ERR_INIT;
	struct stat st;
	int fd = -1;

	if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return;
	if (unix_connect(path, SOCK_STREAM, &fd, &err) >= 0)
		close(fd);
	else if (err.sys == ECONNREFUSED)
		unlink(path);
}

/* Where the stock shim listens: it makes the socket before it notes the address. */
static char *stock_socket(const struct shim_env *env, const struct bundle *b)
{
	AUTO_FREE char *text = xasprintf("%s/%s/%s", env->address, b->ns, b->id);
	struct digest d;
	char hex[65];

	digest_of(text, strlen(text), &d);
	return xasprintf(STOCK_SOCKETS "/%s", digest_hex(&d, hex));
}

void shim_remove_socket(const struct shim_env *env, const struct bundle *b)
{
	AUTO(shim_answer) struct shim_answer answer = {NULL, 0};
	AUTO_FREE char *stock = stock_socket(env, b);
	struct str path;

	remove_dead_socket(stock);
	if (shim_kept_answer(b, &answer, NULL) < 0)
		return;
	path = str_of(answer.address);
	if (str_skip(&path, STR("unix://")))
		remove_dead_socket(path.p);
}
