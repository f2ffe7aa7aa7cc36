#include "contentd/daemon.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/unix.h"
#include "contentd/containers.h"
#include "contentd/dataplane.h"
#include "contentd/ident.h"
#include "contentd/kv_rocks.h"
#include "contentd/release.h"
#include "contentd/services.h"
#include "contentd/tasks/tasks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>

#define STOP_GRACE_NS (10 * NS_PER_S)
#define UUID_CHARS 36

static const struct rpc_service *const SERVICES[] = {
    &cd_version_service, &cd_health_service,     &cd_introspection_service, &cd_namespaces_service,
    &cd_images_service,  &cd_containers_service, &cd_content_service,       &cd_leases_service,
    &cd_events_service,  &cd_snapshots_service,  &cd_streaming_service,     &cd_transfer_service,
    &cd_node_service,    &cd_sandboxes_service,
};

bool cd_knows_service(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(SERVICES); i++)
		if (!strcmp(SERVICES[i]->descriptor->name, name))
			return true;
	return !*name || !strcmp(name, "containerd.services.tasks.v1.Tasks");
}

/* ---- gates ---- */

static void gate_init(struct cd_gate *g)
{
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->cond, NULL);
}

static void gate_fini(struct cd_gate *g)
{
	pthread_mutex_destroy(&g->lock);
	pthread_cond_destroy(&g->cond);
}

/* `why` NULL: it is open. The first word counts. */
static void gate_set(struct cd_gate *g, const struct err *why)
{
	pthread_mutex_lock(&g->lock);
	if (g->state == CD_GATE_CLOSED) {
		g->state = why ? CD_GATE_FAILED : CD_GATE_OPEN;
		if (why)
			g->why = *why;
	}
	pthread_cond_broadcast(&g->cond);
	pthread_mutex_unlock(&g->lock);
}

struct waiting {
	struct cd_gate *gate;
	bool cancelled; /* gate->lock */
};

static void stop_waiting(void *arg)
{
	struct waiting *w = arg;

	pthread_mutex_lock(&w->gate->lock);
	w->cancelled = true;
	pthread_cond_broadcast(&w->gate->cond);
	pthread_mutex_unlock(&w->gate->lock);
}

static bool gate_is_open(struct cd_gate *g)
{
	bool open;

	pthread_mutex_lock(&g->lock);
	open = g->state == CD_GATE_OPEN;
	pthread_mutex_unlock(&g->lock);
	return open;
}

static int gate_wait(struct cd_gate *g, struct rpc_call *c, const char *what, struct err *err)
{
	struct waiting w = {.gate = g};
	struct err why = ERR_INIT;
	bool failed;

	if (gate_is_open(g))
		return 0;
	if (c)
		rpc_on_cancel(c, stop_waiting, &w);
	pthread_mutex_lock(&g->lock);
	while (g->state == CD_GATE_CLOSED && !w.cancelled)
		pthread_cond_wait(&g->cond, &g->lock);
	failed = g->state == CD_GATE_FAILED;
	if (failed)
		why = g->why;
	pthread_mutex_unlock(&g->lock);
	if (c) {
		rpc_off_cancel(c, &w);
		TRY(rpc_cancelled(c, err));
	}
	return failed ? err_set(err, ERR_UNAVAILABLE, "%s: %s", what, why.msg) : 0;
}

int cd_wait_meta(struct cd_daemon *d, struct rpc_call *c, struct err *err)
{
	return gate_wait(&d->meta_gate, c, "the metadata cannot be opened", err);
}

int cd_snapshots(struct cd_daemon *d, struct rpc_call *c, struct snap_store **out, struct err *err)
{
	TRY(gate_wait(&d->data_gate, c, "the snapshotter cannot be opened", err));
	*out = d->snaps;
	return d->snaps ? 0 : err_set(err, ERR_UNAVAILABLE, "there is no snapshotter");
}

int cd_data(struct cd_daemon *d, struct rpc_call *c, struct ffs_client **out, struct err *err)
{
	TRY(gate_wait(&d->data_gate, c, "contentfs cannot be reached", err));
	*out = d->data;
	return d->data ? 0 : err_set(err, ERR_UNAVAILABLE, "there is no contentfs");
}

/* ---- what calls carry ---- */

int cd_call_ns(struct rpc_call *c, const char **ns, struct err *err)
{
	*ns = rpc_metadata(c, "containerd-namespace");
	if (!*ns || !**ns)
		return err_set(err, ERR_PRECONDITION, "namespace is required: failed precondition");
	return cd_ident_check("namespace", *ns, err);
}

int cd_call_lease(struct cd_daemon *d, struct rpc_call *c, const char *ns, const char **lease, struct err *err)
{
	int r;

	*lease = rpc_metadata(c, "containerd-lease");
	if (!*lease || !**lease) {
		*lease = NULL;
		return 0;
	}
	r = cd_meta_has(d->meta, CD_LEASE, ns, str_of(*lease), err);
	TRY(r);
	return r ? 0 : err_set(err, ERR_NOT_FOUND, "lease \"%.200s\" does not exist: not found", *lease);
}

bool cd_is_snapshotter(const struct cd_daemon *d, const char *name)
{
	vec_each(&d->config.snapshotter_names, known)
		if (!strcmp(*known, name))
			return true;
	return false;
}

/* ---- life ---- */

/* Random version 4; made once for a root directory. */
static int uuid_load(struct cd_daemon *d, int root_fd, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;
	uint8_t b[16];
	char hex[33];

	if (file_read(root_fd, "uuid", 64, &text, NULL) == 0 && text.n >= UUID_CHARS) {
		str_copy(str_sub(buf_str(&text), 0, UUID_CHARS), d->uuid, sizeof(d->uuid));
		return 0;
	}
	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		return err_errno(err, errno, "getrandom");
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	hex_encode(b, sizeof(b), hex);
	snprintf(d->uuid, sizeof(d->uuid), "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
	return file_write_atomic(root_fd, "uuid", str_of(d->uuid), 0644, err);
}

static int open_root(struct cd_daemon *d, struct err *err)
{
	AUTO_FD int root_fd = -1;

	TRY(dir_make(d->config.root, 0700, err));
	TRY(dir_make(d->config.state, 0711, err));
	root_fd = open(d->config.root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0)
		return err_errno(err, errno, "open %s", d->config.root);
	TRY(uuid_load(d, root_fd, err));
	return cd_content_open(d->config.root, &d->content, err);
}

int cd_daemon_new(struct cd_config *config, struct cd_daemon **out, struct err *err)
{
	AUTO(cd_daemon) struct cd_daemon *d = xcalloc(1, sizeof(*d));

	d->config = *config;
	*config = (struct cd_config){0};
	gate_init(&d->meta_gate);
	gate_init(&d->data_gate);
	gate_init(&d->tasks_gate);
	d->events = cd_events_new();
	d->streams = cd_streams_new();
	d->release = cd_release_new();
	TRY(open_root(d, err));
	*out = STEAL(d);
	return 0;
}

void cd_daemon_free(struct cd_daemon *d)
{
	if (!d)
		return;
	cd_daemon_stop(d);
	cd_streams_free(d->streams);
	cd_release_free(d->release);
	cd_events_free(d->events);
	cd_content_close(d->content);
	cd_config_fini(&d->config);
	gate_fini(&d->meta_gate);
	gate_fini(&d->data_gate);
	gate_fini(&d->tasks_gate);
	free(d);
}

/* Version and health answer while the database opens. */
static int before_call(struct rpc_call *c, void *arg, struct err *err)
{
	struct str name = str_of(rpc_call_name(c));
	struct cd_daemon *d = arg;

	if (str_starts(name, STR("containerd.services.version.")) || str_starts(name, STR("grpc.health.")))
		return 0;
	TRY(cd_wait_meta(d, c, err));
	if (str_starts(name, STR("containerd.services.tasks.")))
		return gate_wait(&d->tasks_gate, c, "tasks cannot be served", err);
	return 0;
}

static int add_service(struct cd_daemon *d, const struct rpc_service *table, void *svc, struct err *err)
{
	struct rpc_service s = *table;

	s.svc = svc;
	return rpc_server_add(d->server, &s, err);
}

int cd_daemon_serve(struct cd_daemon *d, int listen_fd, struct err *err)
{
	struct rpc_server_opts opts = {.before = before_call, .arg = d};
	AUTO_FD int fd = listen_fd;

	TRY(rpc_server_new(&opts, &d->server, err));
	for (size_t i = 0; i < ARRAY_LEN(SERVICES); i++)
		TRY(add_service(d, SERVICES[i], d, err));
	if (d->tasks) {
		struct rpc_service tasks = cd_tasks_service(d->tasks);

		TRY(rpc_server_add(d->server, &tasks, err));
	}
	TRY(rpc_server_listen(d->server, STEAL_FD(fd), err));
	return rpc_server_start(d->server, err);
}

int cd_daemon_use(struct cd_daemon *d, const struct kv *kv, struct snap_store *snaps, struct err *err)
{
	d->snaps = snaps;
	TRY(cd_meta_new(kv, &d->meta, err));
	gate_set(&d->meta_gate, NULL);
	gate_set(&d->data_gate, NULL);
	gate_set(&d->tasks_gate, NULL);
	return 0;
}

/* ---- opening ---- */

static int open_meta(struct cd_daemon *d, struct err *err)
{
	AUTO_FREE char *dir = xasprintf("%s/db", d->config.root);

	TRY(kv_rocks_open(dir, &d->rocks, err));
	return cd_meta_new(kv_rocks_kv(d->rocks), &d->meta, err);
}

static void *load_tasks(void *arg)
{
	struct cd_daemon *d = arg;
	struct err err = ERR_INIT;

	gate_set(&d->tasks_gate, cd_tasks_load(d->tasks, &err) < 0 ? &err : NULL);
	return NULL;
}

static void *open_all(void *arg)
{
	struct cd_daemon *d = arg;
	struct err err = ERR_INIT;
	pthread_t tasks;
	int failed;

	if (open_meta(d, &err) < 0) {
		gate_set(&d->meta_gate, &err);
		gate_set(&d->data_gate, &err);
		gate_set(&d->tasks_gate, &err);
		return NULL;
	}
	gate_set(&d->meta_gate, NULL);
	failed = pthread_create(&tasks, NULL, load_tasks, d);
	if (failed)
		load_tasks(d);
	gate_set(&d->data_gate, cd_data_open(d, &err) < 0 ? &err : NULL);
	if (!failed)
		pthread_join(tasks, NULL);
	return NULL;
}

/* ---- what tasks ask of the daemon ---- */

static int host_container(void *arg, const char *ns, const char *id, struct arena *a, Containers__Container **out,
                          struct err *err)
{
	return cd_container_get(arg, ns, id, a, out, err);
}

static int host_ns(void *arg, struct rpc_call *c, const char **ns, struct err *err)
{
	return cd_call_ns(c, ns, err);
}

static int host_forward(void *arg, const Types__Envelope *envelope, struct err *err)
{
	struct cd_daemon *d = arg;

	return cd_events_forward(d->events, envelope, err);
}

static void host_publish(void *arg, const char *ns, const char *topic, const ProtobufCMessage *event)
{
	struct cd_daemon *d = arg;

	cd_events_publish(d->events, ns, topic, event);
}

static int make_tasks(struct cd_daemon *d, struct err *err)
{
	struct cd_tasks_opts opts = {.root = d->config.root,
	                             .state = d->config.state,
	                             .address = d->config.address,
	                             .runtime = d->config.runtime_default,
	                             .debug = log_level_get() >= LOG_DEBUG,
	                             .host = {host_container, host_ns, host_forward, host_publish, d}};

	return cd_tasks_new(&opts, &d->tasks, err);
}

int cd_daemon_start(struct cd_daemon *d, struct err *err)
{
	AUTO_FD int fd = -1;
	int r;

	TRY(make_tasks(d, err));
	TRY(unix_listen(d->config.address, SOCK_STREAM, 0660, &fd, err));
	TRY(cd_daemon_serve(d, STEAL_FD(fd), err));
	r = pthread_create(&d->opener, NULL, open_all, d);
	if (r)
		return err_errno(err, r, "pthread_create");
	d->opener_started = true;
	return 0;
}

int cd_daemon_wait(struct cd_daemon *d, struct err *err)
{
	struct snap_store *unused;
	int r = cd_wait_meta(d, NULL, err);

	/* Not ERR_UNAVAILABLE: there is nothing to wait for. */
	if (r < 0)
		return err_set(err, ERR_INTERNAL, "%s", err->msg);
	return cd_snapshots(d, NULL, &unused, err);
}

void cd_daemon_stop(struct cd_daemon *d)
{
	/* Calls may wait at a gate that the opener never comes to set. */
	if (d->opener_started)
		pthread_join(d->opener, NULL);
	d->opener_started = false;
	if (d->server)
		rpc_server_stop(d->server, STOP_GRACE_NS);
	rpc_server_free(STEAL(d->server));
	cd_tasks_free(STEAL(d->tasks));
	cd_data_close(d);
	cd_meta_free(STEAL(d->meta));
	kv_rocks_close(STEAL(d->rocks));
}
