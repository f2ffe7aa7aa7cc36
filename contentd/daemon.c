#include "contentd/daemon.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/unix.h"
#include "contentd/collect/store.h"
#include "contentd/collect/watched.h"
#include "contentd/dataplane.h"
#include "contentd/ident.h"
#include "contentd/meta/kv_rocks.h"
#include "contentd/ops/access.h"
#include "contentd/ops/lock.h"
#include "contentd/ops/observe.h"
#include "contentd/records/containers.h"
#include "contentd/records/leases.h"
#include "contentd/remote/images.h"
#include "contentd/remote/remote.h"
#include "contentd/services.h"
#include "contentd/tasks/tasks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>

#define STOP_GRACE_NS (10 * NS_PER_S)
#define EVENTS_KEPT_NS (15 * NS_PER_S) /* of containers that were there before: as long as shims go on trying */
#define RETRY_FIRST_NS (1 * NS_PER_S)  /* of a data plane that cannot be opened */
#define RETRY_MAX_NS (30 * NS_PER_S)
#define UUID_CHARS 36

static const struct rpc_service *const SERVICES[] = {
    &cd_version_service, &cd_health_service,     &cd_introspection_service, &cd_namespaces_service,
    &cd_images_service,  &cd_containers_service, &cd_content_service,       &cd_leases_service,
    &cd_events_service,  &cd_snapshots_service,  &cd_streaming_service,     &cd_transfer_service,
    &cd_node_service,    &cd_sandboxes_service,  &cd_diff_service,
};

bool cd_knows_service(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(SERVICES); i++)
		if (!strcmp(SERVICES[i]->descriptor->name, name))
			return true;
	return !*name || !strcmp(name, "containerd.services.tasks.v1.Tasks");
}

/* ---- gates ---- */

int cd_wait_meta(struct cd_daemon *d, struct rpc_call *c, struct err *err)
{
	return cd_gate_wait(&d->meta_gate, c, "the metadata cannot be opened", err);
}

int cd_snapshots(struct cd_daemon *d, struct rpc_call *c, struct snap_store **out, struct err *err)
{
	TRY(cd_gate_wait(&d->data_gate, c, "the snapshotter cannot be opened", err));
	*out = d->snaps;
	return d->snaps ? 0 : err_set(err, ERR_UNAVAILABLE, "there is no snapshotter");
}

int cd_data(struct cd_daemon *d, struct rpc_call *c, struct ffs_client **out, struct err *err)
{
	TRY(cd_gate_wait(&d->data_gate, c, "contentfs cannot be reached", err));
	*out = d->data;
	return d->data ? 0 : err_set(err, ERR_UNAVAILABLE, "there is no contentfs");
}

struct ffs_client *cd_data_now(struct cd_daemon *d)
{
	return cd_gate_is_open(&d->data_gate) ? d->data : NULL;
}

/* ---- what calls carry ---- */

int cd_call_ns(struct rpc_call *c, const char **ns, struct err *err)
{
	*ns = rpc_metadata(c, "containerd-namespace");
	if (!*ns || !**ns)
		return err_set(err, ERR_PRECONDITION, "namespace is required: failed precondition");
	return cd_ident_check("namespace", *ns, err);
}

int cd_call_lease_if_any(struct cd_daemon *d, struct rpc_call *c, const char *ns, const char **lease, struct err *err)
{
	const char *named = rpc_metadata(c, "containerd-lease");
	int there;

	*lease = NULL;
	if (!named || !*named)
		return 0;
	cd_use_for_call(d, c, &(struct gc_id){.kind = GC_LEASE, .ns = str_of(ns), .key = str_of(named)});
	there = cd_meta_has(d->meta, CD_LEASE, ns, str_of(named), err);
	TRY(there);
	*lease = there ? named : NULL;
	return 0;
}

int cd_call_lease(struct cd_daemon *d, struct rpc_call *c, const char *ns, const char **lease, struct err *err)
{
	const char *named = rpc_metadata(c, "containerd-lease");

	TRY(cd_call_lease_if_any(d, c, ns, lease, err));
	if (*lease || !named || !*named)
		return 0;
	return err_set(err, ERR_NOT_FOUND, "lease \"%.200s\" does not exist: not found", named);
}

static void end_use(void *arg)
{
	struct cd_use *use = arg;

	cd_use_end(use);
	free(use);
}

void cd_use_for_call(struct cd_daemon *d, struct rpc_call *c, const struct gc_id *id)
{
	struct cd_use *use = xcalloc(1, sizeof(*use));

	cd_use_begin(use, cd_meta_uses(d->meta));
	cd_use_add(use, id);
	rpc_at_end(c, end_use, use);
}

void cd_use_blob_for_call(struct cd_daemon *d, struct rpc_call *c, const char *ns, const char *digest)
{
	cd_use_for_call(d, c, &(struct gc_id){.kind = GC_BLOB, .key = str_of(digest)});
	cd_use_for_call(d, c, &(struct gc_id){.kind = GC_CONTENT, .ns = str_of(ns), .key = str_of(digest)});
}

struct cd_collector *cd_collector_now(struct cd_daemon *d)
{
	return cd_gate_is_open(&d->data_gate) ? d->collector : NULL;
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
	TRY(cd_dir_lock(d->config.root, &d->root_lock, err));
	TRY(cd_dir_lock(d->config.state, &d->state_lock, err));
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
	d->root_lock = d->state_lock = -1;
	pthread_mutex_init(&d->stop_lock, NULL);
	pthread_cond_init(&d->stop_cond, NULL);
	cd_gate_init(&d->meta_gate);
	cd_gate_init(&d->data_gate);
	cd_gate_init(&d->tasks_gate);
	d->events = cd_events_new(EVENTS_KEPT_NS);
	d->streams = cd_streams_new();
	d->remote_images = cd_remote_images_new();
	d->files = cd_file_store_new(d);
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
	cd_remote_images_free(d->remote_images);
	cd_file_store_free(d->files);
	cd_events_free(d->events);
	cd_content_close(d->content);
	cd_config_fini(&d->config);
	cd_gate_fini(&d->meta_gate);
	cd_gate_fini(&d->data_gate);
	cd_gate_fini(&d->tasks_gate);
	pthread_cond_destroy(&d->stop_cond);
	pthread_mutex_destroy(&d->stop_lock);
	if (d->state_lock >= 0)
		close(d->state_lock);
	if (d->root_lock >= 0)
		close(d->root_lock);
	free(d);
}

/* Version and health answer while the database opens. */
static int before_call(struct rpc_call *c, void *arg, struct err *err)
{
	struct str name = str_of(rpc_call_name(c));
	struct cd_daemon *d = arg;

	cd_call_began(c);
	if (str_starts(name, STR("containerd.services.version.")) || str_starts(name, STR("grpc.health.")))
		return 0;
	TRY(cd_wait_meta(d, c, err));
	if (str_starts(name, STR("containerd.services.tasks.")))
		return cd_gate_wait(&d->tasks_gate, c, "tasks cannot be served", err);
	return 0;
}

/* containerd's clients find the class of an error by its code; since 2.x they print the message alone, which ends with the
 * class when it comes from containerd. */
static void name_class(const struct rpc_call *c, struct err *err)
{
	static const struct {
		enum err_code code;
		const char *text;
	} classes[] = {{ERR_INVALID, "invalid argument"},     {ERR_NOT_FOUND, "not found"},
	               {ERR_EXISTS, "already exists"},        {ERR_PRECONDITION, "failed precondition"},
	               {ERR_UNAVAILABLE, "unavailable"},      {ERR_OUT_OF_RANGE, "out of range"},
	               {ERR_UNIMPLEMENTED, "not implemented"}};
	const char *agent = rpc_metadata(c, "user-agent");
	size_t n = strlen(err->msg);

	for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
		size_t n_text = strlen(classes[i].text);

		if (classes[i].code != err->code || !agent || !strstr(agent, "grpc-go/") ||
		    (n >= n_text && !strcmp(err->msg + n - n_text, classes[i].text)))
			continue;
		snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", classes[i].text);
	}
}

static void after_call(struct rpc_call *c, void *arg, int rc, struct err *err, int64_t took_ns)
{
	cd_call_ended(c, arg, rc, err, took_ns);
	if (rc < 0)
		name_class(c, err);
}

static void calm(void *arg)
{
	struct cd_daemon *d = arg;

	if (cd_gate_is_open(&d->meta_gate) && d->rocks)
		kv_rocks_calm(d->rocks);
}

static int allow(const struct ucred *peer, int fd, void *arg, struct err *err)
{
	struct cd_daemon *d = arg;

	return cd_access_check(&d->config, peer, fd, err);
}

/* Handlers may wait for a contentfs that does not answer. */
static void give_up_data(void *arg)
{
	struct ffs_client *data = cd_data_now(arg);

	if (data)
		ffs_client_abort(data);
}

static int add_service(struct cd_daemon *d, const struct rpc_service *table, void *svc, struct err *err)
{
	struct rpc_service s = *table;

	s.svc = svc;
	return rpc_server_add(d->server, &s, err);
}

int cd_daemon_serve(struct cd_daemon *d, int listen_fd, struct err *err)
{
	struct rpc_server_opts opts = {.allow = allow,
	                               .before = before_call,
	                               .after = after_call,
	                               .cancelled = give_up_data,
	                               .calm = calm,
	                               .arg = d};
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
	d->snap_kv = cd_watched_kv(d->meta);
	cd_gate_set(&d->meta_gate, NULL);
	cd_gate_set(&d->data_gate, NULL);
	cd_gate_set(&d->tasks_gate, NULL);
	return 0;
}

/* ---- opening ---- */

static int open_meta(struct cd_daemon *d, struct err *err)
{
	AUTO_FREE char *dir = xasprintf("%s/db", d->config.root);

	TRY(kv_rocks_open(dir, &d->rocks, err));
	TRY(cd_meta_new(kv_rocks_kv(d->rocks), &d->meta, err));
	d->snap_kv = cd_watched_kv(d->meta);
	return cd_leases_end_left(d, err);
}

int cd_daemon_collect(struct cd_daemon *d, struct err *err)
{
	struct cd_collector_store store = cd_file_store_table(d->files);
	const struct gc_sched_params params = {
	    .pause_threshold = d->config.gc_pause_threshold,
	    .deletion_threshold = (uint64_t)d->config.gc_deletion_threshold,
	    .mutation_threshold = (uint64_t)d->config.gc_mutation_threshold,
	    .schedule_delay_ns = d->config.gc_schedule_delay_ms * NS_PER_MS,
	    .startup_delay_ns = d->config.gc_startup_delay_ms * NS_PER_MS,
	};

	return cd_collector_start(d->meta, &store, &params, &d->collector, err);
}

static void *load_tasks(void *arg)
{
	struct cd_daemon *d = arg;
	struct err err = ERR_INIT;

	cd_gate_set(&d->tasks_gate, cd_tasks_load(d->tasks, &err) < 0 ? &err : NULL);
	return NULL;
}

/* Waits before another try; false when the daemon stops. */
static bool pause_opening(struct cd_daemon *d, int64_t ns)
{
	int64_t at = clock_mono_ns() + ns;
	struct timespec until = {at / NS_PER_S, at % NS_PER_S};
	bool stopping;

	pthread_mutex_lock(&d->stop_lock);
	while (!d->stopping && pthread_cond_clockwait(&d->stop_cond, &d->stop_lock, CLOCK_MONOTONIC, &until) == 0)
		;
	stopping = d->stopping;
	pthread_mutex_unlock(&d->stop_lock);
	return !stopping;
}

static bool try_data(struct cd_daemon *d)
{
	struct err err = ERR_INIT;

	if (cd_data_open(d, &err) >= 0 && cd_daemon_collect(d, &err) >= 0) {
		cd_gate_set(&d->data_gate, NULL);
		cd_remote_start(d);
		return true;
	}
	/* Nobody has seen what there is of it: the gate was never open. */
	cd_data_close(d);
	cd_gate_set(&d->data_gate, &err);
	log_error("%s; images cannot be pulled or mounted until another try succeeds", err.msg);
	return false;
}

static void retry_data(struct cd_daemon *d)
{
	int64_t pause_ns = RETRY_FIRST_NS;

	while (pause_opening(d, pause_ns) && !try_data(d))
		pause_ns = pause_ns * 2 < RETRY_MAX_NS ? pause_ns * 2 : RETRY_MAX_NS;
}

static void *open_all(void *arg)
{
	struct cd_daemon *d = arg;
	struct err err = ERR_INIT;
	pthread_t tasks;
	bool opened;
	int failed;

	if (open_meta(d, &err) < 0) {
		cd_gate_set(&d->meta_gate, &err);
		cd_gate_set(&d->data_gate, &err);
		cd_gate_set(&d->tasks_gate, &err);
		return NULL;
	}
	cd_gate_set(&d->meta_gate, NULL);
	failed = pthread_create(&tasks, NULL, load_tasks, d);
	if (failed)
		load_tasks(d);
	opened = try_data(d);
	if (!failed)
		pthread_join(tasks, NULL);
	if (!opened)
		retry_data(d);
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

static int host_forward(void *arg, const Types__Envelope *envelope, bool inherited, struct err *err)
{
	struct cd_daemon *d = arg;

	return inherited ? cd_events_forward_kept(d->events, envelope, err)
	                 : cd_events_forward(d->events, envelope, err);
}

static void host_publish(void *arg, const char *ns, const char *topic, const ProtobufCMessage *event, bool inherited)
{
	struct cd_daemon *d = arg;

	if (inherited)
		cd_events_publish_kept(d->events, ns, topic, event);
	else
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
	TRY(cd_access_listen(&d->config, &fd, err));
	d->has_socket = true;
	TRY(cd_daemon_serve(d, STEAL_FD(fd), err));
	r = pthread_create(&d->opener, NULL, open_all, d);
	if (r)
		return err_errno(err, r, "pthread_create");
	d->opener_started = true;
	return 0;
}

void cd_daemon_stop(struct cd_daemon *d)
{
	pthread_mutex_lock(&d->stop_lock);
	d->stopping = true;
	pthread_cond_signal(&d->stop_cond);
	pthread_mutex_unlock(&d->stop_lock);
	/* Calls may wait at a gate that the opener never comes to set. */
	if (d->opener_started)
		pthread_join(d->opener, NULL);
	d->opener_started = false;
	if (d->tasks)
		cd_tasks_stop_events(d->tasks);
	/* Before it stops listening: clients wait for a socket to appear, but give up on one that refuses them. */
	if (d->has_socket)
		unlink(d->config.address);
	d->has_socket = false;
	if (d->server)
		rpc_server_stop(d->server, STOP_GRACE_NS);
	rpc_server_free(STEAL(d->server));
	give_up_data(d);
	cd_remote_images_stop(d->remote_images);
	cd_tasks_free(STEAL(d->tasks));
	cd_collector_stop(STEAL(d->collector));
	cd_data_close(d);
	cd_meta_free(STEAL(d->meta));
	kv_rocks_close(STEAL(d->rocks));
}
