/* contentctl import and export: images between archives and the daemon. */
#include "contentd/ctl/transfer.h"

#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static void print_names(const struct ctl_transfer *t)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct json_writer w;

	if (!t->c->json) {
		vec_each(&t->saved, name)
			printf("%s\n", *name);
		return;
	}
	json_writer_init(&w, &b, NULL);
	json_w_object_begin(&w);
	json_w_ki64(&w, "bytes", t->moved);
	json_w_key(&w, "images");
	json_w_array_begin(&w);
	vec_each(&t->saved, name)
		json_w_cstr(&w, *name);
	json_w_array_end(&w);
	json_w_object_end(&w);
	printf("%s\n", buf_cstr(&b));
}

/* ---- import ---- */

struct import {
	const char *file, *base, *index;
	bool no_unpack, compress, digests;
	struct ctl_platforms platforms;
};

enum { OPT_NO_UNPACK = 0x100, OPT_COMPRESS, OPT_DIGESTS, OPT_NO_DOCKER };

static const struct argp_option IMPORT_OPTIONS[] = {
    {"base", 'b', "NAME", 0, "repository of images that the archive gives only tags (default: import-DATE)", 0},
    {"index", 'i', "NAME", 0, "keep the archive's index under this name, too", 0},
    {"digests", OPT_DIGESTS, NULL, 0, "store images without a name as NAME@DIGEST", 0},
    {"no-unpack", OPT_NO_UNPACK, NULL, 0, "only store the content", 0},
    {"compress", OPT_COMPRESS, NULL, 0, "compress layers of docker's archives that are not", 0},
    CTL_PLATFORM_OPTIONS,
    {0},
};

static error_t parse_import(int key, char *arg, struct argp_state *state)
{
	struct import *a = state->input;

	if (ctl_platforms_parse(&a->platforms, key, arg))
		return 0;
	switch (key) {
	case 'b':
		a->base = arg;
		return 0;
	case 'i':
		a->index = arg;
		return 0;
	case OPT_NO_UNPACK:
		a->no_unpack = true;
		return 0;
	case OPT_COMPRESS:
		a->compress = true;
		return 0;
	case OPT_DIGESTS:
		a->digests = true;
		return 0;
	case ARGP_KEY_ARG:
		if (a->file)
			argp_error(state, "one archive at a time");
		a->file = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which archive? ('-' is standard input)");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* Names that the archive gives in full stand as they are, unless a base was asked for: then only those below it. */
static int set_store(struct ctl *c, const struct import *a, Xfer__ImageStore *store, struct err *err)
{
	Xfer__ImageReference *r = pb_new(&c->arena, &xfer__image_reference__descriptor);
	Xfer__UnpackConfiguration *unpack = pb_new(&c->arena, &xfer__unpack_configuration__descriptor);
	struct timespec now = clock_wall();
	char date[40];

	r->name = a->base ?: arena_printf(&c->arena, "import-%.10s", time_rfc3339(now, date));
	r->is_prefix = true;
	r->allow_overwrite = !a->base;
	r->add_digest = r->skip_named_digest = a->digests;
	store->extra_references = arena_zalloc(&c->arena, 1, sizeof(r));
	store->extra_references[0] = r;
	store->n_extra_references = 1;
	if (a->index)
		TRY(image_name(c, a->index, &store->name, err));
	TRY(ctl_platforms_list(c, &a->platforms, &store->platforms, &store->n_platforms, err));
	if (a->no_unpack)
		return 0;
	unpack->snapshotter = CTL_SNAPSHOTTER;
	unpack->platform = store->n_platforms ? store->platforms[0] : ctl_platform_own(c);
	store->unpacks = arena_zalloc(&c->arena, 1, sizeof(unpack));
	store->unpacks[0] = unpack;
	store->n_unpacks = 1;
	return 0;
}

static int run_import(struct ctl *c, const struct import *a, struct err *err)
{
	AUTO(ctl_transfer) struct ctl_transfer t;
	Xfer__ImageImportStream source = XFER__IMAGE_IMPORT_STREAM__INIT;
	Xfer__ImageStore store = XFER__IMAGE_STORE__INIT;
	AUTO_FD int fd = -1;

	ctl_transfer_init(&t, c);
	fd = strcmp(a->file, "-") ? open(a->file, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO);
	if (fd < 0)
		return err_errno(err, errno, "%s", a->file);
	TRY(ctl_connect(c, err));
	TRY(ctl_transfer_open(&t, false, true, err));
	t.in_fd = fd;
	source.stream = t.bytes_id;
	source.force_compress = a->compress;
	TRY(set_store(c, a, &store, err));
	TRY_WRAP(ctl_transfer_run(&t, &source.base, &store.base, err), err, "%s", a->file);
	if (!t.saved.n && !c->json)
		fprintf(stderr, "contentctl: %s names no image: --base, --digests or --index give names\n", a->file);
	print_names(&t);
	return 0;
}

int ctl_import_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {
	    IMPORT_OPTIONS,
	    parse_import,
	    "FILE",
	    "Stores the images of an archive: an OCI layout or what `docker save' writes, plain or compressed "
	    "with gzip or zstd.",
	    NULL,
	    NULL,
	    NULL};
	struct import a = {0};
	struct err err = ERR_INIT;
	int r;

	ctl_parse(c, &argp, 0, argc, argv, &a);
	r = run_import(c, &a, &err);
	vec_fini(&a.platforms.names);
	return r < 0 ? ctl_fail(c, &err) : 0;
}

/* ---- export ---- */

struct export
{
	const char *file;
	char **images;
	unsigned n_images;
	bool no_docker;
	struct ctl_platforms platforms;
};

static const struct argp_option EXPORT_OPTIONS[] = {
    {"no-docker", OPT_NO_DOCKER, NULL, 0, "leave the manifest.json for `docker load' out", 0},
    CTL_PLATFORM_OPTIONS,
    {0},
};

static error_t parse_export(int key, char *arg, struct argp_state *state)
{
	struct export *a = state->input;

	if (ctl_platforms_parse(&a->platforms, key, arg))
		return 0;
	switch (key) {
	case OPT_NO_DOCKER:
		a->no_docker = true;
		return 0;
	case ARGP_KEY_ARG:
		if (!a->file) {
			a->file = arg;
			return 0;
		}
		a->images = state->argv + state->next - 1;
		a->n_images = (unsigned)(state->argc - state->next + 1);
		state->next = state->argc;
		return 0;
	case ARGP_KEY_END:
		if (!a->n_images)
			argp_error(state, "which archive ('-' is standard output), and which images?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* A file without a name until it is whole: whatever ends us leaves nothing behind. What is there and is no file (a pipe, a
 * device) is written to, not replaced. */
static int open_output(const char *path, int *fd, struct err *err)
{
	AUTO_FREE char *dir = xstrdup(path);
	char *slash = strrchr(dir, '/');
	struct stat st;

	if (!strcmp(path, "-")) {
		if (isatty(STDOUT_FILENO))
			return err_set(err, ERR_INVALID, "an archive is nothing for a terminal");
		*fd = dup(STDOUT_FILENO);
		return *fd < 0 ? err_errno(err, errno, "standard output") : 0;
	}
	if (slash)
		slash[slash == dir] = '\0';
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		*fd = open(path, O_WRONLY | O_CLOEXEC);
	else
		*fd = open(slash ? dir : ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
	if (*fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR))
		*fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	return *fd < 0 ? err_errno(err, errno, "%s", path) : 0;
}

/* Gives it its name, in place of what had that before. */
static int name_output(const char *path, int fd, struct err *err)
{
	AUTO_FREE char *self = xasprintf("/proc/self/fd/%d", fd);
	AUTO_FREE char *tmp = xasprintf("%s.%d", path, (int)getpid());
	struct stat st;

	if (!strcmp(path, "-") || fstat(fd, &st) < 0 || st.st_nlink)
		return 0;
	if (linkat(AT_FDCWD, self, AT_FDCWD, tmp, AT_SYMLINK_FOLLOW) < 0)
		return err_errno(err, errno, "%s", tmp);
	if (rename(tmp, path) == 0)
		return 0;
	err_errno(err, errno, "%s", path);
	unlink(tmp);
	return err ? -(int)err->code : -(int)ERR_UNKNOWN;
}

static int set_images(struct ctl *c, const struct export *a, Xfer__ImageStore *store, struct err *err)
{
	store->extra_references = arena_zalloc(&c->arena, a->n_images, sizeof(*store->extra_references));
	for (unsigned i = 0; i < a->n_images; i++) {
		store->extra_references[i] = pb_new(&c->arena, &xfer__image_reference__descriptor);
		TRY(image_name(c, a->images[i], &store->extra_references[i]->name, err));
	}
	store->n_extra_references = a->n_images;
	return 0;
}

static int run_export(struct ctl *c, const struct export *a, struct err *err)
{
	AUTO(ctl_transfer) struct ctl_transfer t;
	Xfer__ImageExportStream destination = XFER__IMAGE_EXPORT_STREAM__INIT;
	Xfer__ImageStore store = XFER__IMAGE_STORE__INIT;
	AUTO_FREE char *real = strcmp(a->file, "-") ? realpath(a->file, NULL) : NULL; /* a link stays one */
	const char *file = real ?: a->file;
	AUTO_FD int fd = -1;

	ctl_transfer_init(&t, c);
	TRY(set_images(c, a, &store, err));
	TRY(open_output(file, &fd, err));
	TRY(ctl_connect(c, err));
	TRY(ctl_transfer_open(&t, false, true, err));
	t.out_fd = fd;
	destination.stream = t.bytes_id;
	destination.all_platforms = a->platforms.all;
	destination.skip_compatibility_manifest = a->no_docker;
	TRY(ctl_platforms_list(c, &a->platforms, &destination.platforms, &destination.n_platforms, err));
	TRY_WRAP(ctl_transfer_run(&t, &store.base, &destination.base, err), err, "%s", a->file);
	TRY(name_output(file, fd, err));
	if (c->json)
		fprintf(stderr, "{\"bytes\":%lld}\n", (long long)t.moved);
	return 0;
}

int ctl_export_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {EXPORT_OPTIONS,
	                    parse_export,
	                    "FILE IMAGE...",
	                    "Writes images to an archive: an OCI layout that `docker load' takes, too.",
	                    NULL,
	                    NULL,
	                    NULL};
	struct export a = {0};
	struct err err = ERR_INIT;
	int r;

	ctl_parse(c, &argp, 0, argc, argv, &a);
	r = run_export(c, &a, &err);
	vec_fini(&a.platforms.names);
	return r < 0 ? ctl_fail(c, &err) : 0;
}
