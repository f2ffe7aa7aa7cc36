#include "contentd/ctl/spec.h"

#include "base/json.h"

#define ARGS_MAX 4096
#define PATH_DEFAULT "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

void spec_process_fini(struct spec_process *p)
{
	vec_each(&p->args, a)
		free(*a);
	vec_each(&p->env, e)
		free(*e);
	vec_fini(&p->args);
	vec_fini(&p->env);
	vec_fini(&p->groups);
	free(p->cwd);
	free(p->user);
	*p = SPEC_PROCESS_INIT;
}

/* ---- reading ---- */

struct texts {
	VEC(char *) v;
};

static void texts_fini(struct texts *t)
{
	vec_each(&t->v, s)
		free(*s);
	vec_fini(&t->v);
}
DEFINE_AUTO_FINI(texts);

static int read_texts(struct json_reader *j, struct texts *out, struct err *err)
{
	enum json_type type;
	struct str s;
	int more;

	TRY(json_peek(j, &type, err));
	if (type == JSON_NULL)
		return json_skip(j, err);
	TRY(json_array_begin(j, err));
	while ((more = json_array_next(j, err)) > 0) {
		TRY(json_string(j, &s, err));
		if (out->v.n >= ARGS_MAX || memchr(s.p ?: "", 0, s.n))
			return err_set(err, ERR_INVALID, "bad list of texts");
		vec_push(&out->v, str_dup(s));
	}
	return more;
}

static int read_env(struct json_reader *j, struct spec_process *p, struct err *err)
{
	AUTO(texts) struct texts env = {VEC_INIT};

	TRY(read_texts(j, &env, err));
	vec_each(&env.v, e)
		vec_push(&p->env, *e);
	vec_fini(&env.v);
	return 0;
}

static int read_text(struct json_reader *j, char **out, struct err *err)
{
	struct str s;

	TRY(json_string(j, &s, err));
	free(*out);
	*out = str_dup(s);
	return 0;
}

static void append(struct spec_process *p, struct texts *t)
{
	vec_each(&t->v, s)
		vec_push(&p->args, *s);
	vec_fini(&t->v);
}

struct image_config {
	struct texts entrypoint, cmd;
};

static int image_field(struct json_reader *j, struct str key, struct image_config *c, struct spec_process *p,
                       struct err *err)
{
	if (str_eqc(key, "Entrypoint"))
		return read_texts(j, &c->entrypoint, err);
	if (str_eqc(key, "Cmd"))
		return read_texts(j, &c->cmd, err);
	if (str_eqc(key, "WorkingDir"))
		return read_text(j, &p->cwd, err);
	if (str_eqc(key, "User"))
		return read_text(j, &p->user, err);
	if (str_eqc(key, "Env"))
		return read_env(j, p, err);
	return json_skip(j, err);
}

static int read_object(struct json_reader *j, int (*field)(struct json_reader *, struct str, void *, struct err *),
                       void *arg, struct err *err)
{
	enum json_type type;
	struct str key;
	int more;

	TRY(json_peek(j, &type, err));
	if (type == JSON_NULL)
		return json_skip(j, err);
	TRY(json_object_begin(j, err));
	while ((more = json_object_next(j, &key, err)) > 0)
		TRY(field(j, key, arg, err));
	return more;
}

struct image_reading {
	struct image_config config;
	struct spec_process *process;
};

static int config_member(struct json_reader *j, struct str key, void *arg, struct err *err)
{
	struct image_reading *r = arg;

	return image_field(j, key, &r->config, r->process, err);
}

static int image_member(struct json_reader *j, struct str key, void *arg, struct err *err)
{
	if (str_eqc(key, "config"))
		return read_object(j, config_member, arg, err);
	return json_skip(j, err);
}

static void take_args(struct spec_process *p, char *const *args, unsigned n_args)
{
	for (unsigned i = 0; i < n_args; i++)
		vec_push(&p->args, xstrdup(args[i]));
}

static void complete(struct spec_process *p)
{
	bool has_path = false;

	vec_each(&p->env, e)
		has_path |= !strncmp(*e, "PATH=", 5);
	if (!has_path)
		vec_push(&p->env, xstrdup(PATH_DEFAULT));
	if (!p->cwd || !*p->cwd) {
		free(p->cwd);
		p->cwd = xstrdup("/");
	}
	if (!p->user)
		p->user = xstrdup("");
}

int spec_process_from_image(struct str config, const char *entrypoint, char *const *args, unsigned n_args,
                            struct spec_process *out, struct err *err)
{
	AUTO(json_reader) struct json_reader *j = json_reader_new(config);
	AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;
	struct image_reading r = {.process = &p};
	int result;

	result = read_object(j, image_member, &r, err);
	if (result >= 0) {
		if (entrypoint)
			vec_push(&p.args, xstrdup(entrypoint));
		else
			append(&p, &r.config.entrypoint);
		if (n_args || entrypoint)
			take_args(&p, args, n_args);
		else
			append(&p, &r.config.cmd);
	}
	texts_fini(&r.config.entrypoint);
	texts_fini(&r.config.cmd);
	if (result < 0)
		return err_wrap(err, "image configuration");
	if (!p.args.n)
		return err_set(err, ERR_INVALID, "the image names no program: give one on the command line");
	complete(&p);
	*out = p;
	p = SPEC_PROCESS_INIT;
	return 0;
}

static int group_list(struct json_reader *j, struct spec_process *p, struct err *err)
{
	uint64_t n;
	int more;

	TRY(json_array_begin(j, err));
	while ((more = json_array_next(j, err)) > 0) {
		TRY(json_u64(j, &n, err));
		vec_push(&p->groups, (uint32_t)n);
	}
	return more;
}

static int user_member(struct json_reader *j, struct str key, void *arg, struct err *err)
{
	struct spec_process *p = arg;
	uint64_t n;

	if (str_eqc(key, "additionalGids"))
		return group_list(j, p, err);
	if (!str_eqc(key, "uid") && !str_eqc(key, "gid"))
		return json_skip(j, err);
	TRY(json_u64(j, &n, err));
	*(str_eqc(key, "uid") ? &p->uid : &p->gid) = (uint32_t)n;
	return 0;
}

static int process_member(struct json_reader *j, struct str key, void *arg, struct err *err)
{
	struct spec_process *p = arg;

	if (str_eqc(key, "cwd"))
		return read_text(j, &p->cwd, err);
	if (str_eqc(key, "user"))
		return read_object(j, user_member, p, err);
	if (str_eqc(key, "env"))
		return read_env(j, p, err);
	return json_skip(j, err);
}

static int spec_member(struct json_reader *j, struct str key, void *arg, struct err *err)
{
	if (str_eqc(key, "process"))
		return read_object(j, process_member, arg, err);
	return json_skip(j, err);
}

int spec_process_from_spec(struct str spec, char *const *args, unsigned n_args, struct spec_process *out,
                           struct err *err)
{
	AUTO(json_reader) struct json_reader *j = json_reader_new(spec);
	AUTO(spec_process) struct spec_process p = SPEC_PROCESS_INIT;

	TRY_WRAP(read_object(j, spec_member, &p, err), err, "configuration of the container");
	take_args(&p, args, n_args);
	complete(&p);
	*out = p;
	p = SPEC_PROCESS_INIT;
	return 0;
}

/* ---- writing ---- */

/* What docker and containerd give by default. */
static const char *const CAPABILITIES[] = {
    "CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID",           "CAP_FOWNER",      "CAP_MKNOD",
    "CAP_NET_RAW", "CAP_SETGID",       "CAP_SETUID",           "CAP_SETFCAP",     "CAP_SETPCAP",
    "CAP_KILL",    "CAP_SYS_CHROOT",   "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE",
};

static const char *const MASKED[] = {
    "/proc/acpi",       "/proc/asound",      "/proc/kcore",       "/proc/keys",    "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/sys/devices/virtual/powercap",
    "/proc/scsi",
};

static const char *const READ_ONLY[] = {
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

static void write_list(struct json_writer *w, const char *key, const char *const *v, size_t n)
{
	json_w_key(w, key);
	json_w_array_begin(w);
	for (size_t i = 0; i < n; i++)
		json_w_cstr(w, v[i]);
	json_w_array_end(w);
}

static void write_user(struct json_writer *w, const struct spec_process *p)
{
	json_w_key(w, "user");
	json_w_object_begin(w);
	json_w_ki64(w, "uid", p->uid);
	json_w_ki64(w, "gid", p->gid);
	json_w_key(w, "additionalGids");
	json_w_array_begin(w);
	vec_each(&p->groups, g)
		json_w_i64(w, *g);
	json_w_array_end(w);
	json_w_object_end(w);
}

static void write_process(struct json_writer *w, const struct spec_process *p)
{
	json_w_object_begin(w);
	json_w_kbool(w, "terminal", p->terminal);
	write_user(w, p);
	write_list(w, "args", (const char *const *)p->args.p, p->args.n);
	write_list(w, "env", (const char *const *)p->env.p, p->env.n);
	json_w_kcstr(w, "cwd", p->cwd);
	json_w_key(w, "capabilities");
	json_w_object_begin(w);
	write_list(w, "bounding", CAPABILITIES, ARRAY_LEN(CAPABILITIES));
	if (p->uid == 0) {
		write_list(w, "effective", CAPABILITIES, ARRAY_LEN(CAPABILITIES));
		write_list(w, "permitted", CAPABILITIES, ARRAY_LEN(CAPABILITIES));
	}
	json_w_object_end(w);
	json_w_key(w, "rlimits");
	json_w_array_begin(w);
	json_w_object_begin(w);
	json_w_kcstr(w, "type", "RLIMIT_NOFILE");
	json_w_ki64(w, "hard", 1024);
	json_w_ki64(w, "soft", 1024);
	json_w_object_end(w);
	json_w_array_end(w);
	json_w_kbool(w, "noNewPrivileges", true);
	json_w_object_end(w);
}

static void write_mount(struct json_writer *w, const char *at, const char *type, const char *source,
                        const char *options)
{
	struct str rest = str_of(options), part;

	json_w_object_begin(w);
	json_w_kcstr(w, "destination", at);
	json_w_kcstr(w, "type", type);
	json_w_kcstr(w, "source", source);
	json_w_key(w, "options");
	json_w_array_begin(w);
	while (rest.n && str_split(&rest, ',', &part))
		json_w_str(w, part);
	json_w_array_end(w);
	json_w_object_end(w);
}

static void write_mounts(struct json_writer *w, const struct spec_opts *o)
{
	json_w_key(w, "mounts");
	json_w_array_begin(w);
	write_mount(w, "/proc", "proc", "proc", "nosuid,noexec,nodev");
	write_mount(w, "/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k");
	write_mount(w, "/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5");
	write_mount(w, "/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k");
	write_mount(w, "/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev");
	write_mount(w, "/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro");
	write_mount(w, "/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro");
	write_mount(w, "/run", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k");
	if (o->host_network) {
		write_mount(w, "/etc/resolv.conf", "bind", "/etc/resolv.conf", "rbind,ro");
		write_mount(w, "/etc/hosts", "bind", "/etc/hosts", "rbind,ro");
	}
	json_w_array_end(w);
}

static void write_device(struct json_writer *w, bool allow, const char *type, int64_t major, int64_t minor,
                         const char *access)
{
	json_w_object_begin(w);
	json_w_kbool(w, "allow", allow);
	if (type)
		json_w_kcstr(w, "type", type);
	if (major >= 0)
		json_w_ki64(w, "major", major);
	if (minor >= 0)
		json_w_ki64(w, "minor", minor);
	json_w_kcstr(w, "access", access);
	json_w_object_end(w);
}

static void write_devices(struct json_writer *w)
{
	/* null, zero, full, random, urandom, tty, console, ptmx, pts */
	static const int numbers[][2] = {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}, {136, -1}};

	json_w_key(w, "devices");
	json_w_array_begin(w);
	write_device(w, false, NULL, -1, -1, "rwm");
	write_device(w, true, "c", -1, -1, "m");
	write_device(w, true, "b", -1, -1, "m");
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		write_device(w, true, "c", numbers[i][0], numbers[i][1], "rwm");
	json_w_array_end(w);
}

static void write_linux(struct json_writer *w, const struct spec_opts *o)
{
	static const char *const namespaces[] = {"pid", "ipc", "uts", "mount", "network"};
	AUTO_FREE char *cgroup = xasprintf("/%s/%s", o->ns, o->id);
	size_t n = ARRAY_LEN(namespaces) - (o->host_network ? 1 : 0);

	json_w_key(w, "linux");
	json_w_object_begin(w);
	json_w_key(w, "namespaces");
	json_w_array_begin(w);
	for (size_t i = 0; i < n; i++) {
		json_w_object_begin(w);
		json_w_kcstr(w, "type", namespaces[i]);
		json_w_object_end(w);
	}
	json_w_array_end(w);
	json_w_kcstr(w, "cgroupsPath", cgroup);
	json_w_key(w, "resources");
	json_w_object_begin(w);
	write_devices(w);
	json_w_object_end(w);
	write_list(w, "maskedPaths", MASKED, ARRAY_LEN(MASKED));
	write_list(w, "readonlyPaths", READ_ONLY, ARRAY_LEN(READ_ONLY));
	json_w_object_end(w);
}

void spec_write(const struct spec_opts *opts, const struct spec_process *p, struct buf *out)
{
	struct json_writer w;

	json_writer_init(&w, out, NULL);
	json_w_object_begin(&w);
	json_w_kcstr(&w, "ociVersion", "1.0.2");
	json_w_key(&w, "process");
	write_process(&w, p);
	json_w_key(&w, "root");
	json_w_object_begin(&w);
	json_w_kcstr(&w, "path", "rootfs");
	json_w_object_end(&w);
	if (!opts->host_network)
		json_w_kcstr(&w, "hostname", opts->id);
	write_mounts(&w, opts);
	write_linux(&w, opts);
	json_w_object_end(&w);
}

void spec_write_process(const struct spec_process *p, struct buf *out)
{
	struct json_writer w;

	json_writer_init(&w, out, NULL);
	write_process(&w, p);
}
