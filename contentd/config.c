#include "contentd/config.h"

#include "base/file.h"
#include "contentd/ident.h"
#include "contentd/toml.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/un.h>

#define CONFIG_BYTES_MAX (1u << 20)
/* The longest name that is put behind the address: ".ttrpc". */
#define ADDRESS_SUFFIX_BYTES 6

enum type { TEXT, PATH, NUMBER, SWITCH, NAMES };

/* The keys. `choices`: the texts that are allowed, "|"-separated; `fallback` is TOML. */
static const struct key {
	const char *name;
	enum type type;
	size_t offset;
	const char *choices;
	int64_t min, max;
	const char *fallback;
	const char *about; /* one or more lines, without "# " */
} KEYS[] = {
#define AT(field) offsetof(struct cd_config, field)
    {"root", PATH, AT(root), NULL, 0, 0, "\"/var/lib/contentd\"",
     "What has to survive a reboot: blobs, layers, snapshots, metadata."},
    {"state", PATH, AT(state), NULL, 0, 0, "\"/run/contentd\"", "Sockets, mounts, bundles of running containers."},
    {"address", PATH, AT(address), NULL, 0, 0, "\"\"",
     "The gRPC socket. Empty: contentd.sock in the state directory. Shims send events to <address>.ttrpc."},
    {"log_level", TEXT, AT(log_level), "error|warn|info|debug", 0, 0, "\"info\"", "error, warn, info or debug."},
    {"log_format", TEXT, AT(log_format), "text|json", 0, 0, "\"text\"",
     "text, or json (one object a line). To stderr."},
    {"snapshotter.level", TEXT, AT(snapshotter_level), "auto|overlay|nested|tree", 0, 0, "\"auto\"",
     "How images are mounted: overlay (one overlay over EROFS, objects and FUSE), nested (two overlays, older\n"
     "kernels), tree (FUSE serves names too, any kernel), or auto: the first of them that works here."},
    {"snapshotter.names", NAMES, AT(snapshotter_names), NULL, 0, 0, "[\"overlayfs\", \"stargz\"]",
     "Names under which clients ask for it; all behave alike. The first one is used by pulls that name none."},
    {"fetch.background", TEXT, AT(fetch_background), "on|off|eager", 0, 0, "\"on\"",
     "The rest of a lazily pulled image: on (when nobody waits for anything else), eager (at once), off (never)."},
    {"fetch.background_quiet_ms", NUMBER, AT(fetch_background_quiet_ms), NULL, 0, 86400000, "500",
     "With on: begin when nobody has waited for this long, in milliseconds."},
    {"fetch.read_timeout_ms", NUMBER, AT(fetch_read_timeout_ms), NULL, 1, 86400000, "60000",
     "A read of a file that is not here yet fails with EIO after this many milliseconds."},
    {"fetch.certs_dir", PATH, AT(fetch_certs_dir), NULL, 0, 0, "\"/etc/contentd/certs.d\"",
     "Settings of registry hosts: <certs_dir>/<host>/hosts.toml and certificates."},
    {"content.keep_layer_blobs", SWITCH, AT(keep_layer_blobs), NULL, 0, 0, "true",
     "Keep the compressed blobs of layers that are pulled whole. Without them push and export fetch them again."},
    {"runtime.default", TEXT, AT(runtime_default), NULL, 0, 0, "\"io.containerd.runc.v2\"",
     "The runtime of containers whose client names none."},
#undef AT
};

static char **text_at(struct cd_config *c, const struct key *k)
{
	return (char **)((char *)c + k->offset);
}

static void names_clear(struct cd_config *c)
{
	vec_each(&c->snapshotter_names, name)
		free(*name);
	vec_clear(&c->snapshotter_names);
}

/* ---- one value ---- */

struct reading {
	struct cd_config *config;
	const char *name;
	struct err *err;
};

#define fail(r, v, ...) fail_at((r), (v)->line, __VA_ARGS__)
static int fail_at(const struct reading *r, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static int fail_at(const struct reading *r, int line, const char *fmt, ...)
{
	AUTO(buf) struct buf b = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(&b, fmt, ap);
	va_end(ap);
	return err_set(r->err, ERR_INVALID, "%s:%d: %s", r->name, line, buf_cstr(&b));
}

static bool is_choice(const char *choices, const char *value)
{
	struct str rest = str_of(choices), one;

	while (str_split(&rest, '|', &one))
		if (str_eqc(one, value))
			return true;
	return false;
}

static int set_text(const struct reading *r, const struct key *k, const struct toml_value *v)
{
	if (v->type != TOML_STRING)
		return fail(r, v, "%s must be a string", k->name);
	if (k->choices && !is_choice(k->choices, v->string))
		return fail(r, v, "%s is \"%s\", it must be one of %s", k->name, v->string, k->choices);
	if (k->type == PATH && *v->string && v->string[0] != '/')
		return fail(r, v, "%s is \"%s\", it must be an absolute path", k->name, v->string);
	free(*text_at(r->config, k));
	*text_at(r->config, k) = xstrdup(v->string);
	return 0;
}

static int set_names(const struct reading *r, const struct key *k, const struct toml_value *v)
{
	if (v->type != TOML_STRINGS || !v->n_strings)
		return fail(r, v, "%s must be a list of strings, with at least one", k->name);
	names_clear(r->config);
	for (size_t i = 0; i < v->n_strings; i++) {
		if (cd_ident_check("name", v->strings[i], NULL) < 0)
			return fail(r, v, "%s: \"%s\" is no identifier", k->name, v->strings[i]);
		vec_push(&r->config->snapshotter_names, xstrdup(v->strings[i]));
	}
	return 0;
}

static int set_value(void *arg, const struct toml_value *v)
{
	const struct reading *r = arg;
	const struct key *k = KEYS;

	while (k < KEYS + ARRAY_LEN(KEYS) && strcmp(k->name, v->key))
		k++;
	if (k == KEYS + ARRAY_LEN(KEYS))
		return fail(r, v, "unknown key %s", v->key);
	switch (k->type) {
	case TEXT:
	case PATH:
		return set_text(r, k, v);
	case NAMES:
		return set_names(r, k, v);
	case SWITCH:
		if (v->type != TOML_BOOLEAN)
			return fail(r, v, "%s must be true or false", k->name);
		*(bool *)((char *)r->config + k->offset) = v->boolean;
		return 0;
	case NUMBER:
		if (v->type != TOML_INTEGER || v->integer < k->min || v->integer > k->max)
			return fail(r, v, "%s must be an integer from %lld to %lld", k->name, (long long)k->min,
			            (long long)k->max);
		*(int64_t *)((char *)r->config + k->offset) = v->integer;
		return 0;
	}
	return 0;
}

/* ---- the whole ---- */

int cd_config_parse(struct cd_config *c, const char *name, struct str text, struct err *err)
{
	struct reading r = {c, name, err};
	char why[512] = "";
	int rc = toml_each(text.p ? text.p : "", text.n, set_value, &r, why, sizeof(why));

	return rc < 0 && why[0] ? err_set(err, ERR_INVALID, "%s:%s", name, why) : rc;
}

int cd_config_read(struct cd_config *c, const char *path, struct err *err)
{
	AUTO(buf) struct buf text = BUF_INIT;

	TRY(file_read(AT_FDCWD, path, CONFIG_BYTES_MAX, &text, err));
	TRY(cd_config_parse(c, path, buf_str(&text), err));
	free(c->file);
	c->file = xstrdup(path);
	return 0;
}

void cd_config_print_default(struct buf *out)
{
	struct str table = STR_NONE;

	buf_adds(out, "# contentd, with its defaults. Command line options come before this file.\n");
	for (const struct key *k = KEYS; k < KEYS + ARRAY_LEN(KEYS); k++) {
		struct str name = str_of(k->name), about = str_of(k->about), line;
		ptrdiff_t dot = str_find(name, '.');
		struct str in = dot < 0 ? STR_NONE : str_sub(name, 0, (size_t)dot);

		buf_addc(out, '\n');
		if (!str_eq(in, table))
			buf_addf(out, "[" STR_FMT "]\n", STR_ARG(in));
		table = in;
		while (str_split(&about, '\n', &line))
			buf_addf(out, "# " STR_FMT "\n", STR_ARG(line));
		buf_addf(out, "%s = %s\n", k->name + dot + 1, k->fallback);
	}
}

void cd_config_init(struct cd_config *c)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct err err = ERR_INIT;

	*c = (struct cd_config){0};
	cd_config_print_default(&text);
	if (cd_config_parse(c, "defaults", buf_str(&text), &err) < 0) {
		log_error("%s", err.msg); /* the table above is wrong */
		abort();
	}
}

void cd_config_fini(struct cd_config *c)
{
	for (const struct key *k = KEYS; k < KEYS + ARRAY_LEN(KEYS); k++)
		if (k->type == TEXT || k->type == PATH)
			free(*text_at(c, k));
	names_clear(c);
	vec_fini(&c->snapshotter_names);
	free(c->file);
	*c = (struct cd_config){0};
}

/* Removes slashes at the end. Mount options are separated by commas and colons: no path of ours may have one. */
static int check_dir(const char *what, char *path, struct err *err)
{
	size_t n = strlen(path);

	while (n > 1 && path[n - 1] == '/')
		path[--n] = '\0';
	if (path[0] != '/')
		return err_set(err, ERR_INVALID, "the %s directory \"%s\" must be an absolute path", what, path);
	if (strpbrk(path, ",:\\\n"))
		return err_set(err, ERR_INVALID, "the %s directory \"%s\" must not contain a comma, colon or backslash",
		               what, path);
	return 0;
}

int cd_config_finish(struct cd_config *c, struct err *err)
{
	const size_t address_max = sizeof(((struct sockaddr_un *)0)->sun_path) - 1 - ADDRESS_SUFFIX_BYTES;

	TRY(check_dir("root", c->root, err));
	TRY(check_dir("state", c->state, err));
	if (!*c->address) {
		free(c->address);
		c->address = xasprintf("%s/contentd.sock", c->state);
	}
	if (c->address[0] != '/')
		return err_set(err, ERR_INVALID, "the address \"%s\" must be an absolute path", c->address);
	if (strlen(c->address) > address_max)
		return err_set(err, ERR_INVALID, "the address \"%s\" is longer than %zu bytes", c->address,
		               address_max);
	return 0;
}
