/* contentctl images, rmi. */
#include "contentd/ctl/image.h"
#include "contentd/ctl/term.h"

#include "base/json.h"
#include "rpc/proto/images.pb-c.h"

#include <stdio.h>

/* ---- images ---- */

static const char *short_digest(struct ctl *c, const char *digest)
{
	const char *hex = strchr(digest, ':');

	return arena_printf(&c->arena, "%.12s", hex ? hex + 1 : digest);
}

static void print_json(const Images__ListImagesResponse *rsp)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct json_writer w;
	char created[40];

	json_writer_init(&w, &b, "  ");
	json_w_array_begin(&w);
	for (size_t i = 0; i < rsp->n_images; i++) {
		const Images__Image *image = rsp->images[i];

		json_w_object_begin(&w);
		json_w_kcstr(&w, "name", image->name);
		if (image->target) {
			json_w_kcstr(&w, "digest", image->target->digest);
			json_w_kcstr(&w, "mediaType", image->target->media_type);
		}
		json_w_kcstr(&w, "created", time_rfc3339(pb_time(image->created_at), created));
		json_w_object_end(&w);
	}
	json_w_array_end(&w);
	printf("%s\n", buf_cstr(&b));
}

static void print_table(struct ctl *c, const Images__ListImagesResponse *rsp)
{
	struct term_table t = {.columns = 3, .cells = VEC_INIT};
	char age[32];

	term_row(&t, "IMAGE", "DIGEST", "PULLED");
	for (size_t i = 0; i < rsp->n_images; i++) {
		const Images__Image *image = rsp->images[i];

		term_row(&t, image->name, image->target ? short_digest(c, image->target->digest) : "-",
		         term_age(pb_time(image->updated_at), age));
	}
	term_table_print(&t);
}

static int list(struct ctl *c, bool quiet, struct err *err)
{
	Images__ListImagesRequest req = IMAGES__LIST_IMAGES_REQUEST__INIT;
	AUTO(pb) Images__ListImagesResponse *rsp = NULL;

	TRY(ctl_connect(c, err));
	TRY(rpc_call(c->client, &images__images__descriptor, "List", NULL, &req.base, &rsp, err));
	if (c->json)
		print_json(rsp);
	else if (!quiet)
		print_table(c, rsp);
	else
		for (size_t i = 0; i < rsp->n_images; i++)
			printf("%s\n", rsp->images[i]->name);
	return 0;
}

static const struct argp_option IMAGES_OPTIONS[] = {
    {"quiet", 'q', NULL, 0, "names only", 0},
    {0},
};

static error_t parse_images(int key, char *arg, struct argp_state *state)
{
	if (key == 'q')
		*(bool *)state->input = true;
	else if (key == ARGP_KEY_ARG)
		argp_error(state, "images takes no argument");
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

int ctl_images_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {IMAGES_OPTIONS, parse_images, "", "Lists images.", NULL, NULL, NULL};
	struct err err = ERR_INIT;
	bool quiet = false;

	ctl_parse(c, &argp, 0, argc, argv, &quiet);
	return list(c, quiet, &err) < 0 ? ctl_fail(c, &err) : 0;
}

/* ---- rmi ---- */

static error_t parse_rmi(int key, char *arg, struct argp_state *state)
{
	return ctl_take_names(key, state, state->input, "image");
}

static int remove_one(void *arg, const char *name, struct err *err)
{
	Images__DeleteImageRequest req = IMAGES__DELETE_IMAGE_REQUEST__INIT;
	struct ctl *c = arg;

	TRY(image_name(c, name, &req.name, err));
	req.sync = true;
	TRY_WRAP(rpc_call(c->client, &images__images__descriptor, "Delete", NULL, &req.base, NULL, err), err, "rmi %s",
	         name);
	printf("%s\n", req.name);
	return 0;
}

int ctl_rmi_verb(struct ctl *c, int argc, char **argv)
{
	struct argp argp = {NULL, parse_rmi, "IMAGE...", "Removes images.", NULL, NULL, NULL};
	struct ctl_names names = {0};

	ctl_parse(c, &argp, 0, argc, argv, &names);
	return ctl_each(c, &names, remove_one, c);
}
