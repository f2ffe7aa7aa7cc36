/* coldbench images: makes the benchmark's images, tells what there is. */
#include "bench/coldbench/verb.h"
#include "bench/coldbench/engines/engine.h"
#include "bench/coldbench/images/images.h"
#include "bench/coldbench/measure/command.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define COPY_NS (600 * NS_PER_S)

struct images_args {
	const char *verb;
	VEC(const char *) names;
	VEC(const char *) forms;
	const char *out;
	bool json;
};

static void images_args_fini(struct images_args *a)
{
	vec_fini(&a->names);
	vec_fini(&a->forms);
}

DEFINE_AUTO_FINI(images_args);

/* ---- build ---- */

/* A copy appears in one piece; an older one gives way to it. */
static int put_copy(const char *layout, const char *dir, const char *name, struct err *err)
{
	AUTO_FREE char *new = xasprintf(".%s.new", name);
	AUTO_FREE char *new_path = xasprintf("%s/%s", dir, new);
	AUTO_FREE char *mark = xasprintf("%s/oci-layout", name);
	AUTO_FD int fd = -1;

	TRY(dir_make(dir, 0755, err));
	fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open %s", dir);
	if (faccessat(fd, name, F_OK, 0) == 0 && faccessat(fd, mark, F_OK, 0) != 0)
		return err_set(err, ERR_EXISTS, "%s/%s is there and is no OCI layout", dir, name);
	TRY(dir_remove(fd, new, err));
	TRY(command_run((const char *[]){"cp", "-a", "--reflink=auto", "-T", layout, new_path, NULL}, NULL,
	                clock_mono_ns() + COPY_NS, -1, err));
	TRY(dir_remove(fd, name, err));
	return renameat(fd, new, fd, name) ? err_errno(err, errno, "rename %s", new_path) : 0;
}

static int build_one(const struct images_args *a, const char *name, const char *form, struct err *err)
{
	AUTO(image) struct image image = {0};
	AUTO_FREE char *copy = NULL;

	TRY(image_build(name, form, &image, err));
	if (!a->out) {
		printf("%s\n", image.layout);
		return 0;
	}
	copy = strcmp(form, "gzip") ? xasprintf("%s.%s", name, form) : xstrdup(name);
	TRY(put_copy(image.layout, a->out, copy, err));
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
	printf("\n\nMB of compressed layers; - : not made yet (coldbench images build)\n");
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

static int list(const struct images_args *a, struct err *err)
{
	AUTO(image_list) struct image_list l = {0};

	TRY(image_list_read(&l, err));
	if (a->json)
		print_json(&l);
	else
		print_table(&l);
	return 0;
}

/* ---- the verb ---- */

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct images_args *a = state->input;

	switch (key) {
	case 'f':
		if (!form_is_known(arg))
			argp_error(state, "no form '%s' of images", arg);
		vec_push(&a->forms, arg);
		return 0;
	case 'o':
		a->out = arg;
		return 0;
	case 'j':
		a->json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (!a->verb)
			a->verb = arg;
		else
			vec_push(&a->names, arg);
		return 0;
	case ARGP_KEY_END:
		if (!a->verb || (strcmp(a->verb, "build") && strcmp(a->verb, "list")))
			argp_error(state, "build or list?");
		if (!strcmp(a->verb, "list") && (a->names.n || a->forms.n || a->out))
			argp_error(state, "list takes --json alone");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int images_verb(int argc, char **argv)
{
	static const struct argp_option options[] = {
	    {"form", 'f', "FORM", 0, "gzip, zstd, estargz, esgz, esgz-opt, zstdchunked; may be given again (gzip)", 0},
	    {"out", 'o', "DIR", 0, "copy the layouts there, as DIR/NAME and DIR/NAME.FORM", 0},
	    {"json", 'j', NULL, 0, "list: as JSON", 0},
	    {0},
	};
	static const struct argp argp = {
	    options,
	    parse,
	    "build [NAME...]\nlist",
	    "Makes the benchmark's images, or tells which there are. What was made is found again the next time.\v"
	    "Prints the folder of each OCI layout; progress goes to stderr. Needs root.",
	    NULL,
	    NULL,
	    NULL,
	};
	AUTO(images_args) struct images_args a = {0};
	struct err err = ERR_INIT;

	argp_err_exit_status = EXIT_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, &a);
	if ((!strcmp(a.verb, "build") ? build(&a, &err) : list(&a, &err)) < 0)
		return verb_fail(&err);
	return EXIT_OK;
}
