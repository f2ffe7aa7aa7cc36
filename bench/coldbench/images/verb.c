/* coldbench images: makes the benchmark's images, tells what there is, removes what is out of date. */
#include "bench/coldbench/verb.h"
#include "bench/coldbench/engines/engine.h"
#include "bench/coldbench/images/images.h"
#include "bench/coldbench/measure/command.h"
#include "bench/coldbench/peers/room.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>

#define COPY_NS (600 * NS_PER_S)
#define PRUNE_NS (600 * NS_PER_S)
#define RETRY_MS 100

struct images_args {
	const struct images_act *act;
	VEC(const char *) names;
	VEC(const char *) forms;
	const char *out;
	bool json, dry_run;
	int out_fd, cancel_fd;
};

static void images_args_fini(struct images_args *a)
{
	vec_fini(&a->names);
	vec_fini(&a->forms);
	if (a->out_fd >= 0)
		close(a->out_fd);
	if (a->cancel_fd >= 0)
		close(a->cancel_fd);
}

DEFINE_AUTO_FINI(images_args);

/* ---- build ---- */

/* Before anything is made, which takes minutes. */
static int open_out(struct images_args *a, struct err *err)
{
	if (!a->out)
		return 0;
	TRY(dir_make(a->out, 0755, err));
	a->out_fd = open(a->out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (a->out_fd < 0 || faccessat(a->out_fd, ".", W_OK, AT_EACCESS))
		return err_errno(err, errno, "write into %s", a->out);
	return 0;
}

/* Of several that put copies into a folder, one at a time. */
static int lock_out(const struct images_args *a, struct err *err)
{
	while (flock(a->out_fd, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK)
			return err_errno(err, errno, "lock %s", a->out);
		if (poll(&(struct pollfd){.fd = a->cancel_fd, .events = POLLIN}, 1, RETRY_MS) > 0)
			return err_set(err, ERR_CANCELLED, "interrupted");
	}
	return 0;
}

static int fill_copy(const struct images_args *a, const char *layout, const char *new, const char *name,
                     struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/%s", a->out, new);
	AUTO(buf) struct buf said = BUF_INIT;
	AUTO(argv) struct argv copy = ARGV_INIT;
	struct str rest, line;
	int status;

	argv_addl(&copy, "cp", "-a", "--reflink=auto", "-T", layout, path, NULL);
	TRY(command_output(&copy, true, clock_mono_ns() + COPY_NS, a->cancel_fd, &said, &status, err));
	rest = buf_str(&said);
	if (status && str_split(&rest, '\n', &line))
		return err_set(err, ERR_INTERNAL, STR_FMT, STR_ARG(line));
	if (status)
		return err_set(err, ERR_INTERNAL, "cp of %s ended with status %d", layout, status);
	TRY(dir_remove(a->out_fd, name, err));
	return renameat(a->out_fd, new, a->out_fd, name) ? err_errno(err, errno, "rename %s", path) : 0;
}

static int replace_copy(const struct images_args *a, const char *layout, const char *name, struct err *err)
{
	AUTO_FREE char *new = xasprintf(".%s.new", name);
	AUTO_FREE char *mark = xasprintf("%s/oci-layout", name);
	int r;

	if (faccessat(a->out_fd, name, F_OK, 0) == 0 && faccessat(a->out_fd, mark, F_OK, 0) != 0)
		return err_set(err, ERR_EXISTS, "%s/%s is there and is no OCI layout", a->out, name);
	TRY(dir_remove(a->out_fd, new, err));
	r = fill_copy(a, layout, new, name, err);
	if (r < 0)
		dir_remove(a->out_fd, new, NULL);
	return r;
}

/* A copy appears in one piece; an older one gives way to it. */
static int put_copy(const struct images_args *a, const char *layout, const char *name, struct err *err)
{
	int r;

	TRY(lock_out(a, err));
	r = replace_copy(a, layout, name, err);
	flock(a->out_fd, LOCK_UN);
	return r;
}

static int build_one(const struct images_args *a, const char *name, const char *form, struct err *err)
{
	AUTO(image) struct image image = {0};
	AUTO_FREE char *copy = NULL;

	TRY(image_build(name, form, a->cancel_fd, &image, err));
	if (!a->out) {
		printf("%s\n", image.layout);
		return 0;
	}
	copy = strcmp(form, "gzip") ? xasprintf("%s.%s", name, form) : xstrdup(name);
	TRY(put_copy(a, image.layout, copy, err));
	printf("%s/%s\n", a->out, copy);
	return 0;
}

static int build(struct images_args *a, struct err *err)
{
	if (!a->names.n)
		for (size_t i = 0; image_name_at(i); i++)
			vec_push(&a->names, image_name_at(i));
	if (!a->names.n)
		return err_set(err, ERR_NOT_FOUND,
		               "no images in %s/bench/images (CONTENTD_SOURCE names the source tree)", source_dir());
	if (!a->forms.n)
		vec_push(&a->forms, "gzip");
	vec_each(&a->names, name)
		TRY(image_check_name(*name, err));
	TRY(open_out(a, err));
	vec_each(&a->names, name)
		vec_each(&a->forms, form) {
			TRY(build_one(a, *name, *form, err));
			fflush(stdout);
		}
	return 0;
}

/* ---- list ---- */

static char *ready_text(const struct ready *r)
{
	switch (r->kind) {
	case READY_EXIT:
		return xstrdup("exit");
	case READY_TCP:
		return xasprintf("tcp:%u", r->port);
	case READY_HTTP:
		return xasprintf("http:%u%s", r->port, r->path);
	case READY_FILE:
		return xasprintf("file:%s", r->path);
	default:
		return xstrdup("line");
	}
}

static bool is_first_of_name(const struct image_list *l, const struct image *i)
{
	return i == l->p || strcmp(i[-1].name, i->name) != 0;
}

static void print_table(const struct image_list *l)
{
	printf("%-12s %-16s", "IMAGE", "READY");
	vec_each(l, i) {
		if (i > l->p && is_first_of_name(l, i))
			break;
		printf(" %11s", i->form);
	}
	vec_each(l, i) {
		if (is_first_of_name(l, i)) {
			AUTO_FREE char *ready = ready_text(&i->ready);

			printf("\n%-12s %-16s", i->name, ready);
		}
		if (i->layout)
			printf(" %11.1f", (double)i->layer_bytes / 1e6);
		else
			printf(" %11s", "-");
	}
	printf("\n\nMB of compressed layers; - : not made yet (coldbench images build NAME -f FORM)\n");
}

static void write_form(struct json_writer *w, const struct image *i)
{
	json_w_key(w, i->form);
	if (!i->layout) {
		json_w_null(w);
		return;
	}
	json_w_object_begin(w);
	json_w_kcstr(w, "layout", i->layout);
	json_w_kcstr(w, "config", i->config_digest);
	json_w_ki64(w, "layers", i->n_layers);
	json_w_ki64(w, "layerBytes", (int64_t)i->layer_bytes);
	json_w_object_end(w);
}

static void print_json(const struct image_list *l)
{
	AUTO(buf) struct buf text = BUF_INIT;
	struct json_writer w;

	json_writer_init(&w, &text, "  ");
	json_w_array_begin(&w);
	vec_each(l, i) {
		if (is_first_of_name(l, i)) {
			AUTO_FREE char *ready = ready_text(&i->ready);

			json_w_object_begin(&w);
			json_w_kcstr(&w, "name", i->name);
			json_w_kcstr(&w, "ready", ready);
			json_w_key(&w, "forms");
			json_w_object_begin(&w);
		}
		write_form(&w, i);
		if (i + 1 == l->p + l->n || is_first_of_name(l, i + 1)) {
			json_w_object_end(&w);
			json_w_object_end(&w);
		}
	}
	json_w_array_end(&w);
	printf("%s\n", buf_cstr(&text));
}

static int list(struct images_args *a, struct err *err)
{
	AUTO(image_list) struct image_list l = {0};

	TRY(image_list_read(a->cancel_fd, &l, err));
	if (a->json)
		print_json(&l);
	else
		print_table(&l);
	return 0;
}

/* ---- prune ---- */

/* The script prints for itself: what it has removed is told, too, when it is stopped. */
static int prune(struct images_args *a, struct err *err)
{
	AUTO_FREE char *script = xasprintf("%s/bench/prune.sh", source_dir());
	AUTO_FREE char *build = NULL;
	AUTO(argv) struct argv prune = ARGV_INIT;
	pid_t pid;

	TRY(image_build_variable(&build, err));
	argv_addl(&prune, "env", build, "bash", script, a->dry_run ? "--dry-run" : NULL, NULL);
	TRY(room_start(&prune, (struct spawn){.stdio = {-1, -1, -1}, .new_group = true}, &pid, err));
	TRY_WRAP(command_wait(pid, &prune, NULL, clock_mono_ns() + PRUNE_NS, a->cancel_fd, err), err, "%s", script);
	return 0;
}

/* ---- the verb ---- */

static const struct images_act {
	const char *name;
	int (*run)(struct images_args *a, struct err *err);
	bool names, json, dry_run; /* what it takes */
} ACTS[] = {
    {"build", build, .names = true},
    {"list", list, .json = true},
    {"prune", prune, .dry_run = true},
};

static const struct images_act *act_find(const char *name)
{
	for (size_t i = 0; name && i < ARRAY_LEN(ACTS); i++)
		if (!strcmp(ACTS[i].name, name))
			return &ACTS[i];
	return NULL;
}

static void check(const struct images_args *a, struct argp_state *state)
{
	if (!a->act)
		argp_error(state, "build, list or prune?");
	if (!a->act->names && (a->names.n || a->forms.n || a->out))
		argp_error(state, "%s takes no names, --form or --out", a->act->name);
	if (a->json && !a->act->json)
		argp_error(state, "--json is for list");
	if (a->dry_run && !a->act->dry_run)
		argp_error(state, "--dry-run is for prune");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct images_args *a = state->input;

	switch (key) {
	case 'f':
		if (!form_is_known(arg))
			argp_error(state, "no form '%s': --help lists them", arg);
		vec_push(&a->forms, arg);
		return 0;
	case 'o':
		a->out = arg;
		return 0;
	case 'j':
		a->json = true;
		return 0;
	case 'n':
		a->dry_run = true;
		return 0;
	case ARGP_KEY_ARG:
		if (a->act)
			vec_push(&a->names, arg);
		else
			a->act = act_find(arg);
		if (!a->act)
			argp_error(state, "'%s' is none of build, list, prune", arg);
		return 0;
	case ARGP_KEY_END:
		check(a, state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int images_verb(int argc, char **argv)
{
	static const struct argp_option options[] = {
	    {"form", 'f', "FORM", 0, "build: this one (default: gzip); may be given again", 0},
	    {"out", 'o', "DIR", 0, "build: copy the layouts there, as DIR/NAME and DIR/NAME.FORM", 0},
	    {"json", 'j', NULL, 0, "list: as JSON", 0},
	    {"dry-run", 'n', NULL, 0, "prune: tell what would go", 0},
	    {0},
	};
	static const struct argp argp = {
	    options,
	    parse,
	    "build [NAME...]\nlist\nprune",
	    "Makes the benchmark's images, or tells which there are.\v"
	    "build makes all of them when none is named, which takes an hour and some gigabytes, prints the folder of "
	    "each "
	    "OCI layout (progress goes to stderr), and needs root. What was made is kept in $CONTENTD_CACHE "
	    "(/var/cache/contentd-tests) and found again the next time, unless its recipe has changed; prune removes "
	    "what is kept of earlier recipes: images, forms, and programs of `coldbench peers setup'.\n\n"
	    "Forms, that is how layers are packed:\n"
	    "  gzip         plain\n"
	    "  zstd         plain, of the same files\n"
	    "  estargz      eStargz by contentctl convert, in chunks of 256 KiB; estargz-64k, -128k, -512k, -1m, -4m: of "
	    "others\n"
	    "  esgz         eStargz by ctr-remote\n"
	    "  esgz-opt     ... optimized for what the program reads until it is ready\n"
	    "  zstdchunked  zstd:chunked by skopeo of Debian sid (coldbench peers setup)",
	    NULL,
	    NULL,
	    NULL,
	};
	AUTO(images_args) struct images_args a = {.out_fd = -1, .cancel_fd = -1};
	struct err err = ERR_INIT;

	argp_err_exit_status = EXIT_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	if (verb_open_cancel(&a.cancel_fd, &err) < 0 || a.act->run(&a, &err) < 0)
		return verb_fail(&err);
	return EXIT_OK;
}
