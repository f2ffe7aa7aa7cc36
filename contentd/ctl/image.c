#include "contentd/ctl/image.h"

#include "base/json.h"
#include "registry/reference.h"
#include "rpc/proto/content.pb-c.h"
#include "rpc/proto/images.pb-c.h"

#include <stdio.h>
#include <sys/utsname.h>

#define DOCUMENT_MAX (8u << 20)
#define LAYERS_MAX 1024

void image_fini(struct image *i)
{
	buf_fini(&i->config);
}

int image_name(struct ctl *c, const char *name, const char **full, struct err *err)
{
	char text[REG_REF_TEXT_MAX];
	struct reg_ref ref;

	TRY_WRAP(reg_ref_parse(str_of(name), &ref, err), err, "image %s", name);
	*full = arena_strdup(&c->arena, reg_ref_text(&ref, text));
	return 0;
}

/* ---- documents ---- */

static int read_content(struct ctl *c, const char *digest, struct buf *out, struct err *err)
{
	AUTO(rpc_stream) struct rpc_stream *s = NULL;
	Content__ReadContentRequest req = CONTENT__READ_CONTENT_REQUEST__INIT;
	struct digest want, got;
	int r;

	req.digest = digest;
	TRY(rpc_stream_open(c->client, &content__content__descriptor, "Read", NULL, &s, err));
	TRY(rpc_stream_send(s, &req.base, err));
	TRY(rpc_stream_close_send(s, err));
	for (;;) {
		AUTO(pb) Content__ReadContentResponse *part = NULL;

		r = rpc_stream_recv(s, INT64_MAX, &part, err);
		if (r < 0)
			return err_wrap(err, "read %s", digest);
		if (r == RPC_END)
			break;
		if (out->n + part->data.len > DOCUMENT_MAX)
			return err_set(err, ERR_EXHAUSTED, "%s is larger than %u bytes", digest, DOCUMENT_MAX);
		buf_add(out, part->data.data, part->data.len);
	}
	TRY(digest_parse(str_of(digest), &want, err));
	digest_of(out->p ?: "", out->n, &got);
	if (!digest_eq(&want, &got))
		return err_set(err, ERR_DATA_LOSS, "the daemon gave other bytes for %s", digest);
	return 0;
}

/* What a document of an image points to. */
struct links {
	char *config;   /* digest of the configuration; NULL in an index */
	char *manifest; /* digest of this machine's manifest; NULL in a manifest */
};

static void links_fini(struct links *l)
{
	free(l->config);
	free(l->manifest);
}
DEFINE_AUTO_FINI(links);

struct descriptor {
	struct str digest, os, architecture;
};

static int read_descriptor(struct json_reader *j, struct descriptor *d, struct err *err)
{
	struct str key;
	int more;

	TRY(json_object_begin(j, err));
	while ((more = json_object_next(j, &key, err)) > 0) {
		if (str_eqc(key, "digest")) {
			TRY(json_string(j, &d->digest, err));
		} else if (str_eqc(key, "architecture")) {
			TRY(json_string(j, &d->architecture, err));
		} else if (str_eqc(key, "os")) {
			TRY(json_string(j, &d->os, err));
		} else if (str_eqc(key, "platform")) {
			TRY(read_descriptor(j, d, err));
		} else {
			TRY(json_skip(j, err));
		}
	}
	return more;
}

static const char *machine_architecture(void)
{
	static struct utsname u;

	if (uname(&u) < 0)
		return "";
	if (!strcmp(u.machine, "x86_64"))
		return "amd64";
	return !strcmp(u.machine, "aarch64") ? "arm64" : u.machine;
}

/* The daemon keeps only what was pulled for this machine: the first fitting manifest is the one. */
static int read_manifests(struct json_reader *j, struct links *l, struct err *err)
{
	int more;

	TRY(json_array_begin(j, err));
	while ((more = json_array_next(j, err)) > 0) {
		struct descriptor d = {0};

		TRY(read_descriptor(j, &d, err));
		if (!l->manifest && str_eqc(d.os, "linux") && str_eqc(d.architecture, machine_architecture()))
			l->manifest = str_dup(d.digest);
	}
	return more;
}

static int read_links(struct str document, struct links *l, struct err *err)
{
	AUTO(json_reader) struct json_reader *j = json_reader_new(document);
	struct str key;
	int more;

	TRY(json_object_begin(j, err));
	while ((more = json_object_next(j, &key, err)) > 0) {
		if (str_eqc(key, "config")) {
			struct descriptor d = {0};

			TRY(read_descriptor(j, &d, err));
			free(l->config);
			l->config = str_dup(d.digest);
		} else if (str_eqc(key, "manifests")) {
			TRY(read_manifests(j, l, err));
		} else {
			TRY(json_skip(j, err));
		}
	}
	return more;
}

/* ---- configuration ---- */

/* ChainID(0) = DiffID(0); ChainID(n) = sha256(ChainID(n-1) + " " + DiffID(n)) (OCI image-spec config.md). */
static int add_diff_id(struct image *img, struct str text, struct err *err)
{
	char joined[2 * DIGEST_TEXT_MAX], chain[DIGEST_TEXT_MAX];
	struct digest diff;
	int n;

	TRY(digest_parse(text, &diff, err));
	if (img->n_layers >= LAYERS_MAX)
		return err_set(err, ERR_EXHAUSTED, "more than %d layers", LAYERS_MAX);
	if (img->n_layers++ == 0) {
		img->chain_id = diff;
		return 0;
	}
	n = snprintf(joined, sizeof(joined), "%s " STR_FMT, digest_text(&img->chain_id, chain), STR_ARG(text));
	digest_of(joined, (size_t)n, &img->chain_id);
	return 0;
}

static int read_rootfs(struct json_reader *j, struct image *img, struct err *err)
{
	struct str key, text;
	int more, element;

	TRY(json_object_begin(j, err));
	while ((more = json_object_next(j, &key, err)) > 0) {
		if (!str_eqc(key, "diff_ids")) {
			TRY(json_skip(j, err));
			continue;
		}
		TRY(json_array_begin(j, err));
		while ((element = json_array_next(j, err)) > 0) {
			TRY(json_string(j, &text, err));
			TRY(add_diff_id(img, text, err));
		}
		TRY(element);
	}
	return more;
}

static int read_config(struct image *img, struct err *err)
{
	AUTO(json_reader) struct json_reader *j = json_reader_new(buf_str(&img->config));
	struct str key;
	int more;

	TRY(json_object_begin(j, err));
	while ((more = json_object_next(j, &key, err)) > 0) {
		if (str_eqc(key, "rootfs")) {
			TRY(read_rootfs(j, img, err));
		} else {
			TRY(json_skip(j, err));
		}
	}
	return more;
}

static int load_config(struct ctl *c, const char *target, struct image *img, struct err *err)
{
	AUTO_FREE char *digest = xstrdup(target);

	/* An index, perhaps one in an index, then the manifest. */
	for (int depth = 0; depth < 3; depth++) {
		AUTO(links) struct links l = {0};
		AUTO(buf) struct buf document = BUF_INIT;

		TRY(read_content(c, digest, &document, err));
		TRY_WRAP(read_links(buf_str(&document), &l, err), err, "document %s", digest);
		if (l.config) {
			TRY(read_content(c, l.config, &img->config, err));
			TRY_WRAP(read_config(img, err), err, "configuration %s", l.config);
			return 0;
		}
		if (!l.manifest)
			return err_set(err, ERR_NOT_FOUND, "no manifest for linux/%s in %s", machine_architecture(),
			               digest);
		free(digest);
		digest = STEAL(l.manifest);
	}
	return err_set(err, ERR_INVALID, "indexes nest too deep");
}

int image_load(struct ctl *c, const char *full_name, struct image *out, struct err *err)
{
	AUTO(image) struct image img = {.config = BUF_INIT};
	Images__GetImageRequest req = IMAGES__GET_IMAGE_REQUEST__INIT;
	AUTO(pb) Images__GetImageResponse *rsp = NULL;

	req.name = full_name;
	TRY(rpc_call(c->client, &images__images__descriptor, "Get", NULL, &req.base, &rsp, err));
	if (!rsp->image || !rsp->image->target)
		return err_set(err, ERR_INTERNAL, "the daemon's answer about image %s is incomplete", full_name);
	TRY_WRAP(load_config(c, rsp->image->target->digest, &img, err), err, "image %s", full_name);
	*out = img;
	img.config = BUF_INIT;
	return 0;
}
