/* The benchmark's images. The scripts that make them are asked for their folders, which are read. */
#include "bench/coldbench/images/images.h"

#include "bench/coldbench/engines/engine.h"
#include "bench/coldbench/images/layout.h"
#include "bench/coldbench/measure/command.h"
#include "bench/coldbench/verb.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/unix.h"

#include <dirent.h>
#include <pthread.h>

#define BUILD_NS (6 * 3600 * NS_PER_S) /* all images take an hour, and one may have to wait for others' makers */

void image_fini(struct image *i)
{
	free(i->name);
	free(i->form);
	free(i->layout);
	free(i->config_digest);
	ready_fini(&i->ready);
	*i = (struct image){0};
}

void image_list_fini(struct image_list *l)
{
	vec_each(l, i)
		image_fini(i);
	vec_fini(l);
}

/* ---- names ---- */

static struct {
	pthread_once_t once;
	struct dirent **entries; /* for as long as the process lives */
	int n;
} names = {.once = PTHREAD_ONCE_INIT};

static char *recipe_path(const char *name)
{
	return xasprintf("%s/bench/images/%s/recipe", source_dir(), name);
}

static int is_image(const struct dirent *e)
{
	AUTO_FREE char *path = recipe_path(e->d_name);

	return access(path, R_OK) == 0;
}

static void find_names(void)
{
	AUTO_FREE char *dir = xasprintf("%s/bench/images", source_dir());

	names.n = scandir(dir, &names.entries, is_image, alphasort);
}

const char *image_name_at(size_t i)
{
	pthread_once(&names.once, find_names);
	return names.n > 0 && i < (size_t)names.n ? names.entries[i]->d_name : NULL;
}

int image_check_name(const char *name, struct err *err)
{
	AUTO(buf) struct buf all = BUF_INIT;

	for (size_t i = 0; image_name_at(i); i++) {
		if (!strcmp(image_name_at(i), name))
			return 0;
		buf_addf(&all, "%s%s", i ? ", " : "", image_name_at(i));
	}
	return err_set(err, ERR_NOT_FOUND, "no image '%s' in %s/bench/images (there are: %s)", name, source_dir(),
	               buf_cstr(&all));
}

/* ---- scripts ---- */

int image_build_variable(char **out, struct err *err)
{
	AUTO_FREE char *program = NULL;

	TRY(program_path(&program, err));
	*out = xasprintf("BUILD=%.*s/..", (int)(strrchr(program, '/') - program), program);
	return 0;
}

/* Runs bench/forms.sh with two arguments (the second may be NULL). */
static int run_forms(const char *a, const char *b, int cancel_fd, struct buf *out, struct err *err)
{
	AUTO_FREE char *script = xasprintf("%s/bench/forms.sh", source_dir());
	AUTO_FREE char *build = NULL;
	AUTO(argv) struct argv argv = ARGV_INIT;
	int status;

	TRY(image_build_variable(&build, err));
	argv_addl(&argv, "env", build, "bash", script, a, b, NULL);
	TRY_WRAP(command_output(&argv, false, clock_mono_ns() + BUILD_NS, cancel_fd, out, &status, err), err,
	         "%s %s%s%s", script, a, b ? " " : "", b ?: "");
	if (status)
		return err_set(err, ERR_INTERNAL, "%s %s%s%s failed", script, a, b ? " " : "", b ?: "");
	return 0;
}

int image_build(const char *name, const char *form, int cancel_fd, struct image *out, struct err *err)
{
	AUTO(buf) struct buf answer = BUF_INIT;
	AUTO_FREE char *layout = NULL;
	AUTO(image) struct image image = {0};

	TRY(image_check_name(name, err));
	if (!form_is_known(form))
		return err_set(err, ERR_NOT_FOUND, "no form '%s' of images", form);
	TRY(run_forms(name, form, cancel_fd, &answer, err));
	layout = str_dup(str_trim(buf_str(&answer)));
	TRY_WRAP(image_read(layout, &image, err), err, "image %s as %s", name, form);
	image.name = xstrdup(name);
	image.form = xstrdup(form);
	*out = image;
	image = (struct image){0};
	return 0;
}

/* One line of forms.sh --list. */
static int list_line(struct str line, struct image_list *out, struct err *err)
{
	struct str rest = line, word[4];
	struct image *i = vec_add(out);

	for (size_t n = 0; n < ARRAY_LEN(word); n++)
		if (!str_split(&rest, '\t', &word[n]))
			return err_set(err, ERR_INTERNAL, "forms.sh lists \"" STR_FMT "\"", STR_ARG(line));
	i->name = str_dup(word[0]);
	i->form = str_dup(word[1]);
	TRY(ready_parse(word[2], &i->ready, err));
	if (!str_eqc(word[3], "-")) {
		AUTO_FREE char *path = str_dup(word[3]);

		return image_read(path, i, err);
	}
	return 0;
}

int image_list_read(int cancel_fd, struct image_list *out, struct err *err)
{
	AUTO(buf) struct buf answer = BUF_INIT;
	AUTO(image_list) struct image_list list = {0};
	struct str rest, line;

	TRY(run_forms("--list", NULL, cancel_fd, &answer, err));
	rest = str_trim(buf_str(&answer));
	while (str_split(&rest, '\n', &line))
		TRY(list_line(line, &list, err));
	*out = list;
	list = (struct image_list){0};
	return 0;
}

/* ---- what a layout says ---- */

static int read_label(struct json_reader *r, struct ready *out, struct err *err)
{
	struct str key, value;
	int more;

	TRY(json_object_begin(r, err));
	while ((more = json_object_next(r, &key, err)) > 0) {
		TRY(json_string(r, &value, err));
		if (!str_eqc(key, READY_LABEL))
			continue;
		ready_fini(out);
		TRY_WRAP(ready_parse(value, out, err), err, "label " READY_LABEL);
		more = 2;
		break;
	}
	return more;
}

/* Finds the label in the image's configuration: {"config": {"Labels": {...}}}. */
static int read_ready(struct str config, struct ready *out, struct err *err)
{
	AUTO(json_reader) struct json_reader *r = json_reader_new(config);
	static const char *const path[] = {"config", "Labels"};
	struct str key;
	size_t depth = 0;
	int more;

	while (depth < ARRAY_LEN(path)) {
		TRY(json_object_begin(r, err));
		while ((more = json_object_next(r, &key, err)) > 0 && !str_eqc(key, path[depth]))
			TRY(json_skip(r, err));
		TRY(more);
		if (!more)
			return err_set(err, ERR_INVALID, "it has no labels");
		depth++;
	}
	more = read_label(r, out, err);
	TRY(more);
	return more ? 0 : err_set(err, ERR_INVALID, "it has no label " READY_LABEL);
}

int image_read(const char *layout, struct image *out, struct err *err)
{
	AUTO(reg_manifest) struct reg_manifest *manifest = NULL;
	AUTO(buf) struct buf config = BUF_INIT;
	char digest[DIGEST_TEXT_MAX];

	TRY(layout_read_manifest(layout, &manifest, err));
	TRY(layout_read_blob(layout, &manifest->config.digest, REG_CONFIG_BYTES_MAX, &config, err));
	TRY_WRAP(read_ready(buf_str(&config), &out->ready, err), err, "%s", layout);
	for (size_t i = 0; i < manifest->n_layers; i++)
		out->layer_bytes += manifest->layers[i].size;
	out->n_layers = (unsigned)manifest->n_layers;
	out->config_digest = xstrdup(digest_text(&manifest->config.digest, digest));
	out->layout = xstrdup(layout);
	return 0;
}
