/* contentctl run: image, container, snapshot, task, and the clean-up of whatever was made before something failed. */
#include "contentd/ctl/attach.h"
#include "contentd/ctl/container.h"
#include "contentd/ctl/image.h"
#include "contentd/ctl/spec.h"

#include "base/file.h"
#include "base/json.h"
#include "rpc/proto/containers.pb-c.h"
#include "rpc/proto/node.pb-c.h"
#include "rpc/proto/runc.pb-c.h"
#include "rpc/proto/snapshots.pb-c.h"
#include "rpc/proto/tasks.pb-c.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>

#define RUNTIME "io.containerd.runc.v2"

struct run {
	struct ctl *c;
	/* the command line */
	const char *image, *lazy, *id, *timing, *entrypoint, *runtime, *runc_binary;
	bool rm, detach, interactive, terminal, host_network;
	char **args;
	unsigned n_args;
	/* what is there so far */
	const char *name; /* of the image, in full */
	struct image img;
	Snapshots__PrepareSnapshotResponse *snapshot;
	bool has_container, has_task;
	struct spec_process process;
	struct attach attach;
	const char *log_uri;
	struct image_times pull;
	int64_t prepare_ns, create_ns, start_ns, started_at_ns;
};

/* ---- image and snapshot ---- */

static int random_id(struct ctl *c, const char **out, struct err *err)
{
	uint8_t bytes[6];
	char hex[13];

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return err_errno(err, errno, "random bytes");
	hex_encode(bytes, sizeof(bytes), hex);
	*out = arena_strdup(&c->arena, hex);
	return 0;
}

static int find_image(struct run *r, struct err *err)
{
	struct err why = ERR_INIT;

	TRY(image_name(r->c, r->image, &r->name, err));
	if (image_load(r->c, r->name, &r->img, &why) >= 0)
		return 0;
	if (why.code != ERR_NOT_FOUND)
		return err_set(err, why.code, "%s", why.msg);
	TRY(image_pull(r->c, r->name, r->lazy, &r->pull, err));
	return image_load(r->c, r->name, &r->img, err);
}

static int prepare(struct run *r, struct err *err)
{
	Snapshots__PrepareSnapshotRequest req = SNAPSHOTS__PREPARE_SNAPSHOT_REQUEST__INIT;
	char parent[DIGEST_TEXT_MAX];
	int64_t begun = clock_mono_ns();

	req.snapshotter = CTL_SNAPSHOTTER;
	req.key = r->id;
	req.parent = r->img.n_layers ? digest_text(&r->img.chain_id, parent) : "";
	TRY_WRAP(
	    rpc_call(r->c->client, &snapshots__snapshots__descriptor, "Prepare", NULL, &req.base, &r->snapshot, err),
	    err, "prepare a snapshot of %s", r->name);
	r->prepare_ns = clock_mono_ns() - begun;
	return 0;
}

/* ---- the user, by name ---- */

static int mount_one(const Types__Mount *m, const char *at, struct err *err)
{
	AUTO(buf) struct buf data = BUF_INIT;
	unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;

	for (size_t i = 0; i < m->n_options; i++) {
		if (!strcmp(m->options[i], "rbind") || !strcmp(m->options[i], "bind"))
			flags |= MS_BIND;
		else if (strcmp(m->options[i], "rw") != 0 && strcmp(m->options[i], "ro") != 0)
			buf_addf(&data, "%s%s", data.n ? "," : "", m->options[i]);
	}
	if (mount(m->source, at, m->type, flags, buf_cstr(&data)) < 0)
		return err_errno(err, errno, "mount the image to look up its user");
	return 0;
}

static int resolve_user(struct run *r, struct err *err)
{
	char at[] = "/tmp/contentctl-user-XXXXXX";
	int result;

	if (r->snapshot->n_mounts != 1)
		return spec_resolve_user(&r->process, NULL, err);
	if (!mkdtemp(at))
		return err_errno(err, errno, "make %s", at);
	result = mount_one(r->snapshot->mounts[0], at, err);
	if (result >= 0) {
		result = spec_resolve_user(&r->process, at, err);
		umount2(at, MNT_DETACH);
	}
	rmdir(at);
	return result;
}

/* ---- container and task ---- */

static void choose_runtime(struct run *r, Containers__Container__Runtime *out)
{
	Runc__Options options = RUNC__OPTIONS__INIT;

	out->name = r->runtime;
	if (!r->runc_binary)
		return;
	options.binary_name = r->runc_binary;
	out->options = pb_any_new(&r->c->arena, &options.base);
}

static void pack_spec(struct run *r, Pb__Any *any)
{
	struct spec_opts opts = {.id = r->id, .ns = r->c->ns, .host_network = r->host_network};
	AUTO(buf) struct buf spec = BUF_INIT;

	spec_write(&opts, &r->process, &spec);
	*any = (Pb__Any)PB__ANY__INIT;
	any->type_url = CTL_SPEC_TYPE;
	any->value.len = spec.n;
	any->value.data = (uint8_t *)arena_str(&r->c->arena, buf_str(&spec));
}

/* The record comes before the snapshot that it names: so nothing that is collected meanwhile can be the snapshot. */
static int create_container(struct run *r, struct err *err)
{
	Containers__CreateContainerRequest req = CONTAINERS__CREATE_CONTAINER_REQUEST__INIT;
	Containers__Container record = CONTAINERS__CONTAINER__INIT;
	Containers__Container__Runtime runtime = CONTAINERS__CONTAINER__RUNTIME__INIT;
	Kv__Entry *labels[2];
	Pb__Any spec;

	TRY(spec_process_from_image(buf_str(&r->img.config), r->entrypoint, r->args, r->n_args, &r->process, err));
	r->process.terminal = r->terminal;
	if (!spec_user_needs_files(&r->process))
		TRY(spec_resolve_user(&r->process, NULL, err));
	pack_spec(r, &spec);
	choose_runtime(r, &runtime);
	record.id = r->id;
	record.image = r->name;
	record.snapshotter = CTL_SNAPSHOTTER;
	record.snapshot_key = r->id;
	record.runtime = &runtime;
	record.spec = &spec;
	if (r->log_uri) {
		labels[record.n_labels++] = pb_kv_new(&r->c->arena, CTL_LOG_LABEL, r->log_uri + strlen("file://"));
		record.labels = labels;
	}
	req.container = &record;
	TRY_WRAP(rpc_call(r->c->client, &containers__containers__descriptor, "Create", NULL, &req.base, NULL, err), err,
	         "create container %s", r->id);
	r->has_container = true;
	return 0;
}

/* A user by name is known when the image's files are. */
static int set_user(struct run *r, struct err *err)
{
	Containers__UpdateContainerRequest req = CONTAINERS__UPDATE_CONTAINER_REQUEST__INIT;
	Containers__Container record = CONTAINERS__CONTAINER__INIT;
	Pb__FieldMask mask = PB__FIELD_MASK__INIT;
	const char *path = "spec";
	Pb__Any spec;

	if (!spec_user_needs_files(&r->process))
		return 0;
	TRY(resolve_user(r, err));
	pack_spec(r, &spec);
	record.id = r->id;
	record.spec = &spec;
	mask.paths = &path;
	mask.n_paths = 1;
	req.container = &record;
	req.update_mask = &mask;
	TRY_WRAP(rpc_call(r->c->client, &containers__containers__descriptor, "Update", NULL, &req.base, NULL, err), err,
	         "set the user of container %s", r->id);
	return 0;
}

static int choose_log(struct run *r, struct err *err)
{
	Node__InfoRequest req = NODE__INFO_REQUEST__INIT;
	AUTO(pb) Node__InfoResponse *node = NULL;

	TRY_WRAP(rpc_call(r->c->client, &node__node__descriptor, "Info", NULL, &req.base, &node, err), err,
	         "ask the daemon where logs go");
	r->log_uri = arena_printf(&r->c->arena, "file://%s/logs/%s/%s.log", node->root, r->c->ns, r->id);
	return 0;
}

static int create_task(struct run *r, struct err *err)
{
	Tasks__CreateTaskRequest req = TASKS__CREATE_TASK_REQUEST__INIT;

	req.container_id = r->id;
	req.rootfs = r->snapshot->mounts;
	req.n_rootfs = r->snapshot->n_mounts;
	req.terminal = r->terminal;
	if (r->detach) {
		req.stdout = r->log_uri;
		req.stderr = r->log_uri;
	} else {
		req.stdin = r->attach.in_path ?: "";
		req.stdout = r->attach.out_path ?: "";
		req.stderr = r->attach.err_path ?: "";
	}
	TRY_WRAP(rpc_call(r->c->client, &tasks__tasks__descriptor, "Create", NULL, &req.base, NULL, err), err,
	         "start container %s of %s", r->id, r->name);
	r->has_task = true;
	return 0;
}

static int start_task(struct run *r, struct err *err)
{
	Tasks__StartRequest req = TASKS__START_REQUEST__INIT;

	req.container_id = r->id;
	TRY_WRAP(rpc_call(r->c->client, &tasks__tasks__descriptor, "Start", NULL, &req.base, NULL, err), err,
	         "start container %s of %s", r->id, r->name);
	return 0;
}

static int create_and_start(struct run *r, struct err *err)
{
	int64_t begun = clock_mono_ns();

	TRY(create_task(r, err));
	r->create_ns = clock_mono_ns() - begun;
	if (!r->detach)
		TRY(attach_wait_ahead(&r->attach, err));
	begun = clock_mono_ns();
	TRY(start_task(r, err));
	r->started_at_ns = clock_mono_ns();
	r->start_ns = r->started_at_ns - begun;
	return 0;
}

/* ---- timing ---- */

static void phase(struct json_writer *w, const char *name, int64_t ns)
{
	json_w_key(w, name);
	json_w_double(w, (double)ns / NS_PER_MS);
}

/* What is there and is no file (a pipe, a device) is written to, not replaced. */
static int write_report(const char *path, struct str text, struct err *err)
{
	AUTO_FREE char *real = realpath(path, NULL); /* a link stays one */
	AUTO_FD int fd = -1;
	struct stat st;

	if (stat(path, &st) < 0 || S_ISREG(st.st_mode))
		return file_write_atomic(AT_FDCWD, real ?: path, text, 0644, err);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? err_errno(err, errno, "%s", path) : fd_write_all(fd, text, err);
}

static int write_timing(const struct run *r, struct err *err)
{
	int64_t ready = r->attach.ready_ns, begun = r->c->started_ns;
	AUTO(buf) struct buf b = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &b, "  ");
	json_w_object_begin(&w);
	json_w_kcstr(&w, "image", r->name);
	json_w_key(&w, "ms");
	json_w_object_begin(&w);
	phase(&w, "resolve", r->pull.resolve_ns);
	phase(&w, "open layers", r->pull.open_ns);
	phase(&w, "unpack", r->pull.unpack_ns);
	phase(&w, "pull", r->pull.total_ns);
	phase(&w, "mount", r->pull.mount_ns + r->prepare_ns);
	phase(&w, "create", r->create_ns);
	phase(&w, "start", r->start_ns);
	phase(&w, "ready", ready ? ready - r->started_at_ns : 0);
	phase(&w, "total", (ready ?: clock_mono_ns()) - begun);
	json_w_object_end(&w);
	json_w_object_end(&w);
	buf_addc(&b, '\n');
	return write_report(r->timing, buf_str(&b), err);
}

/* ---- the whole ---- */

static int run(struct run *r, uint32_t *status, struct err *err)
{
	TRY(ctl_connect(r->c, err));
	TRY(find_image(r, err));
	if (!r->id)
		TRY(random_id(r->c, &r->id, err));
	if (r->detach)
		TRY(choose_log(r, err));
	TRY(create_container(r, err));
	TRY(prepare(r, err));
	TRY(set_user(r, err));
	if (!r->detach) {
		r->attach.container = r->id;
		TRY(attach_open(&r->attach, err));
	}
	TRY(create_and_start(r, err));
	if (r->detach) {
		printf("%s\n", r->id);
		return 0;
	}
	return attach_run(&r->attach, status, err);
}

/* Takes back what was made: all of it with --rm or when the start failed, else the task alone. */
static int undo(struct run *r, bool all, struct err *err)
{
	struct err ignored = ERR_INIT;
	int result = 0;

	if (r->has_task)
		result = container_delete_task(r->c, r->id, err);
	if (!r->detach)
		attach_drain(&r->attach);
	if (!all)
		return result;
	if (r->has_container)
		container_delete_record(r->c, r->id, &ignored);
	if (r->snapshot)
		container_delete_snapshot(r->c, r->id, &ignored);
	return result;
}

static int run_and_clean(struct run *r)
{
	struct err err = ERR_INIT, late = ERR_INIT;
	uint32_t status = 0;
	int result = run(r, &status, &err);

	if (result < 0)
		undo(r, true, &late);
	else if (!r->detach && undo(r, r->rm, &late) < 0)
		fprintf(stderr, "contentctl: %s\n", late.msg);
	attach_close(&r->attach);
	if (result >= 0 && r->timing)
		result = write_timing(r, &err);
	spec_process_fini(&r->process);
	image_fini(&r->img);
	pb_free(r->snapshot);
	return result < 0 ? container_fail(r->c, &err) : (int)status;
}

/* ---- the command line ---- */

enum { OPT_RM = 256, OPT_NET, OPT_LAZY, OPT_NAME, OPT_TIMING, OPT_ENTRYPOINT, OPT_RUNTIME, OPT_RUNC_BINARY };

static const struct argp_option OPTIONS[] = {
    {"rm", OPT_RM, NULL, 0, "remove the container when it has ended", 0},
    {"detach", 'd', NULL, 0, "start it and print its id; its output goes to a log (contentctl logs)", 0},
    {"interactive", 'i', NULL, 0, "hand on standard input", 0},
    {"tty", 't', NULL, 0, "give it a terminal", 0},
    {"net", OPT_NET, "host|none", 0, "the host's network, or none of its own making (none)", 0},
    {"lazy", OPT_LAZY, "auto|off", 0, "when the image must be pulled: lazily where it allows (auto), or whole", 0},
    {"name", OPT_NAME, "ID", 0, "id of the container (default: random)", 0},
    {"entrypoint", OPT_ENTRYPOINT, "PROGRAM", 0, "run this instead of the image's own program", 0},
    {"runtime", OPT_RUNTIME, "NAME", 0, "the shim to use, by name or by path (" RUNTIME ")", 0},
    {"runc-binary", OPT_RUNC_BINARY, "PROGRAM", 0, "what that shim uses instead of runc, such as crun", 0},
    {"timing", OPT_TIMING, "FILE", 0, "write how long each phase took, as JSON", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct run *r = state->input;

	switch (key) {
	case OPT_RM:
		r->rm = true;
		return 0;
	case 'd':
		r->detach = true;
		return 0;
	case 'i':
		r->interactive = true;
		return 0;
	case 't':
		r->terminal = true;
		return 0;
	case OPT_NET:
		if (strcmp(arg, "host") != 0 && strcmp(arg, "none") != 0)
			argp_error(state, "--net takes host or none, not '%s'", arg);
		r->host_network = !strcmp(arg, "host");
		return 0;
	case OPT_LAZY:
		if (strcmp(arg, "auto") != 0 && strcmp(arg, "off") != 0)
			argp_error(state, "--lazy takes auto or off, not '%s'", arg);
		r->lazy = arg;
		return 0;
	case OPT_NAME:
		r->id = arg;
		return 0;
	case OPT_ENTRYPOINT:
		r->entrypoint = arg;
		return 0;
	case OPT_RUNTIME:
		r->runtime = arg;
		return 0;
	case OPT_RUNC_BINARY:
		r->runc_binary = arg;
		return 0;
	case OPT_TIMING:
		r->timing = arg;
		return 0;
	case ARGP_KEY_ARG:
		r->image = arg;
		r->args = state->argv + state->next;
		r->n_args = (unsigned)(state->argc - state->next);
		state->next = state->argc;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which image?");
		return 0;
	case ARGP_KEY_END:
		if (r->detach && (r->interactive || r->terminal || r->rm))
			argp_error(state, "--detach goes with none of --interactive, --tty and --rm");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int ctl_run_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {
	    OPTIONS, parse, "IMAGE [CMD...]", "Runs a program in a new container and exits with its status.", NULL,
	    NULL,    NULL};
	struct run r = {.c = c, .lazy = "auto", .runtime = RUNTIME, .process = SPEC_PROCESS_INIT};

	ctl_parse(c, &argp, ARGP_IN_ORDER, argc, argv, &r);
	r.attach = ATTACH_INIT(c, NULL, "");
	r.attach.interactive = r.interactive;
	r.attach.terminal = r.terminal;
	return run_and_clean(&r);
}
