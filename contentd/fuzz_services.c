/*
 * The services' real handlers, over a table in memory and a real content store and snapshotter in a temporary folder, with
 * messages from anywhere: unpacking, Any, field masks, filters, labels, names. Handlers run on this thread, as h2.h offers.
 *
 * Input: calls in turn, each {service, method, length as two bytes, that many bytes of message}; the number of a method is
 * taken modulo what there is, its top bit says that the next message is for the same call. Making a daemon takes longer than
 * an input: each serves some hundred of them, which find what the others left.
 *
 * Not here: calls that wait for others (RPC_LONG: streams, transfers, tasks) and those that would act on the machine (diff:
 * the mounts are the client's), as well as node and introspection's services, which ask contentfs.
 */
#include "base/file.h"
#include "base/kv_mem.h"
#include "contentd/daemon.h"
#include "contentd/services.h"
#include "rpc/grpc.h"
#include "rpc/h2.h"

#include <fcntl.h>
#include <stdio.h>

#define CALLS_MAX 16
#define INPUTS_MAX 256 /* then another daemon */
#define DIR "/dev/shm" /* where syncing is free */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct rpc_service *const TABLES[] = {
    &cd_namespaces_service, &cd_images_service,    &cd_containers_service, &cd_content_service, &cd_leases_service,
    &cd_events_service,     &cd_snapshots_service, &cd_sandboxes_service,  &cd_version_service, &cd_health_service,
};

/* ---- the daemon ---- */

struct world {
	char dir[64];
	struct kv_mem *kv;
	struct cd_daemon *d;
	struct h2_env env;
	struct h2_conn *conn; /* of the input */
	unsigned n_inputs;
};

static void output(void *arg) {}

static bool start(struct world *w)
{
	AUTO(cd_config) struct cd_config config = {0};
	AUTO(snap_store) struct snap_store *snaps = NULL;
	AUTO_FREE char *root = NULL, *state = NULL;
	struct snap_opts opts = {.level = SNAP_LEVEL_OVERLAY};

	snprintf(w->dir, sizeof(w->dir), DIR "/contentd_fuzz.XXXXXX");
	if (!mkdtemp(w->dir))
		return false;
	opts.root = root = xasprintf("%s/root", w->dir);
	opts.state = state = xasprintf("%s/state", w->dir);
	w->kv = kv_mem_new();
	opts.kv = kv_mem_kv(w->kv);
	cd_config_init(&config);
	free(config.root);
	free(config.state);
	config.root = xstrdup(root);
	config.state = xstrdup(state);
	if (cd_config_finish(&config, NULL) < 0 || cd_daemon_new(&config, &w->d, NULL) < 0 ||
	    snap_store_new(&opts, &snaps, NULL) < 0 || cd_daemon_use(w->d, opts.kv, STEAL(snaps), NULL) < 0)
		return false;
	h2_env_init(&w->env);
	for (size_t i = 0; i < ARRAY_LEN(TABLES); i++) {
		struct rpc_service s = *TABLES[i];

		s.svc = w->d;
		if (rpc_methods_add(&w->env.methods, &s, ~0u, NULL) < 0)
			return false;
	}
	return true;
}

static void stop(struct world *w)
{
	AUTO_FD int tmp_fd = open(DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	h2_env_fini(&w->env);
	cd_daemon_free(w->d);
	kv_mem_free(w->kv);
	dir_remove(tmp_fd, w->dir + strlen(DIR "/"), NULL);
}

static struct world world;

/* The last daemon goes with the process. */
__attribute__((destructor)) static void stop_last(void)
{
	if (world.n_inputs)
		stop(&world);
}

static void exchange(struct world *w, struct str bytes)
{
	AUTO(buf) struct buf answers = BUF_INIT;

	if (h2_conn_feed(w->conn, bytes, NULL) < 0 || h2_conn_pull(w->conn, &answers, 16 << 20, NULL) < 0)
		abort(); /* the frames are ours, and good */
}

/* ---- calls ---- */

static void put_frame(struct buf *out, unsigned type, unsigned flags, uint32_t id, struct str payload)
{
	buf_addc(out, (char)(payload.n >> 16));
	buf_addc(out, (char)(payload.n >> 8));
	buf_addc(out, (char)payload.n);
	buf_addc(out, (char)type);
	buf_addc(out, (char)flags);
	buf_be32(out, id);
	buf_addstr(out, payload);
}

static void put_header(struct buf *block, const char *name, const char *value)
{
	buf_addc(block, 0);
	buf_addc(block, (char)strlen(name));
	buf_adds(block, name);
	buf_addc(block, (char)strlen(value));
	buf_adds(block, value);
}

static void put_begin(struct buf *out, uint32_t id, const struct rpc_service *s, const struct rpc_method *m)
{
	AUTO_FREE char *path = xasprintf("/%s/%s", s->descriptor->name, m->name);
	AUTO(buf) struct buf block = BUF_INIT;

	put_header(&block, ":method", "POST");
	put_header(&block, ":scheme", "http");
	put_header(&block, ":path", path);
	put_header(&block, ":authority", "x");
	put_header(&block, "content-type", "application/grpc");
	put_header(&block, "containerd-namespace", "fuzz");
	put_header(&block, "containerd-lease", id % 4 == 3 ? "lease" : "");
	put_frame(out, 1, 4, id, buf_str(&block));
}

static void put_message(struct buf *out, uint32_t id, struct str message)
{
	AUTO(buf) struct buf framed = BUF_INIT;

	buf_addz(&framed, GRPC_PREFIX_BYTES);
	buf_addstr(&framed, message);
	grpc_prefix_put(framed.p, message.n);
	for (struct str rest = buf_str(&framed); rest.n; rest = str_sub(rest, 16384, SIZE_MAX))
		put_frame(out, 0, 0, id, str_sub(rest, 0, 16384));
}

static const struct rpc_method *method_of(const struct rpc_service *s, unsigned number)
{
	const struct rpc_method *m = &s->methods[number % s->n_methods];

	return m->flags & RPC_LONG ? NULL : m;
}

static void run(struct world *w, struct str in)
{
	bool more = false;

	for (uint32_t call = 0; call < CALLS_MAX && in.n >= 4; call++) {
		const uint8_t *head = (const uint8_t *)in.p;
		const struct rpc_service *s = TABLES[head[0] % ARRAY_LEN(TABLES)];
		const struct rpc_method *m = method_of(s, head[1] & 0x7f);
		struct str message = str_sub(in, 4, head[2] | (size_t)head[3] << 8);
		uint32_t id = 2 * call + 1;
		AUTO(buf) struct buf out = BUF_INIT;

		in = str_sub(in, 4 + message.n, SIZE_MAX);
		if (!m)
			continue;
		put_begin(&out, id, s, m);
		for (more = head[1] & 0x80; put_message(&out, id, message), more && in.n >= 4;) {
			head = (const uint8_t *)in.p;
			more = head[1] & 0x80;
			message = str_sub(in, 4, head[2] | (size_t)head[3] << 8);
			in = str_sub(in, 4 + message.n, SIZE_MAX);
		}
		put_frame(&out, 0, 1, id, STR_NONE);
		exchange(w, buf_str(&out));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct ucred peer = {.pid = 1};

	if (world.n_inputs == INPUTS_MAX) {
		stop(&world);
		world = (struct world){0};
	}
	if (world.n_inputs++ == 0 && !start(&world))
		abort();
	if (h2_conn_new(&world.env, &peer, NULL, output, NULL, &world.conn, NULL) < 0)
		abort();
	exchange(&world, STR("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0\0\0\0\4\1\0\0\0\0"));
	run(&world, str_make(data, n));
	h2_conn_free(world.conn);
	return 0;
}
