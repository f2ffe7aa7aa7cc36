/*
 * Commands contentfs from a shell, through the client side that contentd uses (fusefs/client.h); starts it when none
 * serves the state directory.
 *
 *	ffsctl --root DIR --state DIR --program CONTENTFS [--option TEXT]... [--owner NAME] [--account ACCOUNT] COMMAND
 *
 * ACCOUNT is what is presented to registries: USER:SECRET, "remembered" for what the owner's last open presented, or
 * (without it) nothing.
 *
 *	open REF [eager]              what the image is: lines "manifest DIGEST", "config DIGEST", and for each layer
 *	                              "layer DIGEST DIFFID KEY|- lazy|plain REASON"
 *	documents REF FILE            the documents of the image, one after the other, into FILE
 *	unpack REF [DIR]              unpacks all layers at once: lines "unpacked DIGEST DIFFID KEY PLAIN_BYTES";
 *	                              copies of the blobs go to DIR/<hex>
 *	import FILE REF [DIFFID]      unpacks one layer blob from a file
 *	fetch REF DIGEST BYTES FILE   one blob, resumed where FILE ends
 *	files KEY                     regular files of a layer: lines "PATH SIZE CLAIM CONTENT"
 *	pin NAME KEY... | unpin NAME | fill KEY... | delete KEY...
 *	status [KEY...]               lines "NAME VALUE", and "layer KEY BLOB lazy|plain PRESENT CONTENT PUBLISHED FILES
 *	                              pinned|free ERROR"
 *	start                         only sees to it that contentfs serves
 *	shell                         commands from stdin, one a line, words without blanks, with one and the same client;
 *	                              each ends with a line "done STATUS"
 */
#include "base/digest.h"
#include "base/file.h"
#include "base/vec.h"
#include "estargz/index/index.h"
#include "fusefs/client.h"
#include "rpc/pb.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>

#define PB(name) Contentd__Contentfs__V1__##name
#define OPTIONS_MAX 32
#define WORDS_MAX 1024
#define INDEX_BYTES_MAX (1u << 30)

struct run {
	struct ffs_client *client;
	PB(Access) access;
	const char *root;
	char **args; /* after the command's name, NULL-terminated */
	int n;
};

/* ---- images ---- */

static void say_phase(void *arg, PB(OpenProgress) * at)
{
	fprintf(stderr, "%s %s\n", at->phase, at->digest);
}

static int open_image(struct run *r, const char *reference, bool lazy, PB(OpenResponse) * *out, int *docs,
                      struct err *err)
{
	PB(OpenRequest) req = CONTENTD__CONTENTFS__V1__OPEN_REQUEST__INIT;

	req.reference = (char *)reference;
	req.access = &r->access;
	req.lazy = lazy;
	return ffs_client_open(r->client, NULL, &req, say_phase, NULL, out, docs, err);
}

static int cmd_open(struct run *r, struct err *err)
{
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	AUTO_FD int docs = -1;

	TRY(open_image(r, r->args[0], r->n < 2, &rsp, &docs, err));
	printf("reference %s\n", rsp->reference);
	printf("target %s\nmanifest %s\nconfig %s\n", rsp->target->digest, rsp->manifest->digest, rsp->config->digest);
	for (size_t i = 0; i < rsp->n_layers; i++) {
		const PB(Layer) *l = rsp->layers[i];

		printf("layer %s %s %s %s %s\n", l->descriptor->digest, l->diff_id, *l->index_key ? l->index_key : "-",
		       l->lazy ? "lazy" : "plain", l->reason);
	}
	return 0;
}

static int cmd_documents(struct run *r, struct err *err)
{
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	AUTO(buf) struct buf bytes = BUF_INIT;
	AUTO_FD int docs = -1;

	TRY(open_image(r, r->args[0], false, &rsp, &docs, err));
	TRY(fd_read_all(docs, 64u << 20, &bytes, err));
	for (size_t i = 0; i < rsp->n_documents; i++)
		printf("%s %" PRIu64 " %" PRId64 "\n", rsp->documents[i]->descriptor->digest, rsp->documents[i]->offset,
		       rsp->documents[i]->descriptor->size);
	return file_write_atomic(AT_FDCWD, r->args[1], buf_str(&bytes), 0644, err);
}

/* ---- unpacking ---- */

struct unpack {
	struct run *run;
	const char *reference, *dir;
	PB(Layer) * layer;
	PB(UnpackResponse) * rsp;
	pthread_t thread;
	int result;
	struct err err;
};

static int unpack_one(struct unpack *u, struct err *err)
{
	PB(UnpackRequest) req = CONTENTD__CONTENTFS__V1__UNPACK_REQUEST__INIT;
	AUTO_FD int fd = -1;

	req.reference = (char *)u->reference;
	req.access = &u->run->access;
	req.layer = u->layer->descriptor;
	req.diff_id = u->layer->diff_id;
	if (u->dir) {
		AUTO_FREE char *path = xasprintf("%s/%s", u->dir, strchr(u->layer->descriptor->digest, ':') + 1);

		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
		if (fd < 0)
			return err_errno(err, errno, "open %s", path);
		req.tee = true;
	}
	return ffs_client_unpack(u->run->client, NULL, &req, fd, NULL, NULL, &u->rsp, err);
}

static void *unpack_main(void *arg)
{
	struct unpack *u = arg;

	u->err = ERR_INIT;
	u->result = unpack_one(u, &u->err);
	return NULL;
}

static int cmd_unpack(struct run *r, struct err *err)
{
	AUTO(pb) PB(OpenResponse) *rsp = NULL;
	AUTO_FREE struct unpack *u = NULL;
	AUTO_FD int docs = -1;
	int result = 0;

	TRY(open_image(r, r->args[0], false, &rsp, &docs, err));
	u = xcalloc(rsp->n_layers + 1, sizeof(*u));
	for (size_t i = 0; i < rsp->n_layers; i++) {
		u[i] = (struct unpack){
		    .run = r, .reference = r->args[0], .dir = r->n > 1 ? r->args[1] : NULL, .layer = rsp->layers[i]};
		if (pthread_create(&u[i].thread, NULL, unpack_main, &u[i]))
			abort();
	}
	for (size_t i = 0; i < rsp->n_layers; i++) {
		pthread_join(u[i].thread, NULL);
		if (u[i].result < 0)
			result = err_set(err, u[i].err.code, "%s", u[i].err.msg);
		else
			printf("unpacked %s %s %s %" PRId64 "\n", u[i].layer->descriptor->digest, u[i].rsp->diff_id,
			       u[i].rsp->index_key, u[i].rsp->plain_bytes);
		pb_free(u[i].rsp);
	}
	return result;
}

static int file_digest(int fd, struct digest *out, uint64_t *bytes, struct err *err)
{
	AUTO(buf) struct buf all = BUF_INIT;

	TRY(fd_read_all(fd, 1u << 30, &all, err));
	digest_of(all.p, all.n, out);
	*bytes = all.n;
	return 0;
}

static int cmd_import(struct run *r, struct err *err)
{
	PB(UnpackRequest) req = CONTENTD__CONTENTFS__V1__UNPACK_REQUEST__INIT;
	PB(Descriptor) d = CONTENTD__CONTENTFS__V1__DESCRIPTOR__INIT;
	AUTO(pb) PB(UnpackResponse) *rsp = NULL;
	AUTO_FD int fd = -1;
	char text[DIGEST_TEXT_MAX];
	struct digest digest;
	uint64_t bytes;

	fd = open(r->args[0], O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, errno, "open %s", r->args[0]);
	TRY(file_digest(fd, &digest, &bytes, err));
	d.digest = digest_text(&digest, text);
	d.size = (int64_t)bytes;
	req.reference = r->args[1];
	req.layer = &d;
	req.diff_id = r->n > 2 ? r->args[2] : "";
	req.from_fd = true;
	TRY(ffs_client_unpack(r->client, NULL, &req, fd, NULL, NULL, &rsp, err));
	printf("unpacked %s %s %s %" PRId64 "\n", d.digest, rsp->diff_id, rsp->index_key, rsp->plain_bytes);
	return 0;
}

static void say_transfer(void *arg, int64_t done, int64_t total)
{
	fprintf(stderr, "%" PRId64 " of %" PRId64 "\n", done, total);
}

static int cmd_fetch(struct run *r, struct err *err)
{
	PB(FetchBlobRequest) req = CONTENTD__CONTENTFS__V1__FETCH_BLOB_REQUEST__INIT;
	PB(Descriptor) d = CONTENTD__CONTENTFS__V1__DESCRIPTOR__INIT;
	AUTO_FD int fd = -1;

	fd = open(r->args[3], O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_errno(err, errno, "open %s", r->args[3]);
	d.digest = r->args[1];
	d.size = strtoll(r->args[2], NULL, 10);
	req.reference = r->args[0];
	req.access = &r->access;
	req.blob = &d;
	return ffs_client_fetch_blob(r->client, NULL, &req, fd, say_transfer, NULL, err);
}

/* ---- layers ---- */

static int cmd_files(struct run *r, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/index/%s", r->root, r->args[0]);
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	AUTO(buf) struct buf bytes = BUF_INIT;

	TRY(file_read(AT_FDCWD, path, INDEX_BYTES_MAX, &bytes, err));
	TRY(esgz_index_open(buf_str(&bytes), &ix, err));
	for (uint32_t i = 0; i < esgz_index_get_info(ix)->n_entries; i++) {
		char claim[65], content[65];
		struct esgz_entry e;

		esgz_index_entry(ix, i, &e);
		if (e.type == ESGZ_REG)
			printf(STR_FMT " %" PRIu64 " %s %s\n", STR_ARG(e.path), e.size, digest_hex(&e.claim, claim),
			       digest_hex(&e.content, content));
	}
	return 0;
}

static int cmd_pin(struct run *r, struct err *err)
{
	return ffs_client_pin(r->client, r->args[0], (const char *const *)r->args + 1, (unsigned)r->n - 1, err);
}

static int cmd_unpin(struct run *r, struct err *err)
{
	return ffs_client_unpin(r->client, r->args[0], err);
}

static int cmd_fill(struct run *r, struct err *err)
{
	return ffs_client_fill(r->client, NULL, (const char *const *)r->args, (unsigned)r->n, say_transfer, NULL, err);
}

static int cmd_delete(struct run *r, struct err *err)
{
	return ffs_client_delete_layers(r->client, (const char *const *)r->args, (unsigned)r->n, err);
}

/* ---- the rest ---- */

static int cmd_status(struct run *r, struct err *err)
{
	AUTO(pb) PB(StatusResponse) *s = NULL;

	TRY(ffs_client_status(r->client, (const char *const *)r->args, (unsigned)r->n, &s, err));
	printf("version %s\nholder %u\nworker %u\ngeneration %" PRIu64 "\nmount %s\n", s->version, s->holder_pid,
	       s->worker_pid, s->worker_generation, s->mount);
	printf("demand_requests %" PRIu64 "\nbackground_requests %" PRIu64 "\nfetched_bytes %" PRIu64 "\n",
	       s->demand_requests, s->background_requests, s->fetched_bytes);
	printf("fuse_reads %" PRIu64 "\nfuse_lookups %" PRIu64 "\nread_errors %" PRIu64 "\n", s->fuse_reads,
	       s->fuse_lookups, s->read_errors);
	for (size_t i = 0; i < s->n_layers; i++) {
		const PB(LayerStatus) *l = s->layers[i];

		printf("layer %s %s %s %" PRIu64 " %" PRIu64 " %u %u %s %s\n", l->index_key, l->blob,
		       l->lazy ? "lazy" : "plain", l->present_bytes, l->content_bytes, l->files_published, l->files,
		       l->pinned ? "pinned" : "free", l->error);
	}
	return 0;
}

static int cmd_start(struct run *r, struct err *err)
{
	return 0;
}

static int cmd_shell(struct run *r, struct err *err);

static const struct command {
	const char *name;
	int min, max; /* arguments */
	int (*fn)(struct run *r, struct err *err);
} COMMANDS[] = {
    {"open", 1, 2, cmd_open},        {"documents", 2, 2, cmd_documents}, {"unpack", 1, 2, cmd_unpack},
    {"import", 2, 3, cmd_import},    {"fetch", 4, 4, cmd_fetch},         {"files", 1, 1, cmd_files},
    {"pin", 1, 1000, cmd_pin},       {"unpin", 1, 1, cmd_unpin},         {"fill", 1, 1000, cmd_fill},
    {"delete", 1, 1000, cmd_delete}, {"status", 0, 1000, cmd_status},    {"start", 0, 0, cmd_start},
    {"shell", 0, 0, cmd_shell},
};

static int usage(void)
{
	fputs("usage: ffsctl --root DIR --state DIR --program CONTENTFS [--option TEXT]... [--owner NAME]\n"
	      "              [--account ACCOUNT] COMMAND; see tests/ffsctl.c\n",
	      stderr);
	return 2;
}

static const struct command *find_command(const char *name, int n_args)
{
	for (size_t i = 0; i < ARRAY_LEN(COMMANDS); i++)
		if (!strcmp(COMMANDS[i].name, name) && n_args >= COMMANDS[i].min && n_args <= COMMANDS[i].max)
			return &COMMANDS[i];
	return NULL;
}

static int report(int result, const struct err *err)
{
	if (result < 0)
		fprintf(stderr, "ffsctl: %s: %s\n", err_code_name(err->code), err->msg);
	return result < 0;
}

static int run_line(struct run *shell, char *line)
{
	char *words[WORDS_MAX + 1] = {NULL}, *save = NULL;
	const struct command *c;
	struct run r = *shell;
	struct err err = ERR_INIT;
	int n = 0;

	for (char *w = strtok_r(line, " \n", &save); w && n < WORDS_MAX; w = strtok_r(NULL, " \n", &save))
		words[n++] = w;
	c = n ? find_command(words[0], n - 1) : NULL;
	if (!c)
		return usage();
	r.args = words + 1;
	r.n = n - 1;
	return report(c->fn(&r, &err), &err);
}

static int cmd_shell(struct run *r, struct err *err)
{
	AUTO_FREE char *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, stdin) > 0) {
		printf("done %d\n", run_line(r, line));
		fflush(stdout);
	}
	return 0;
}

static void set_account(PB(Access) * access, char *text)
{
	char *colon = strchr(text, ':');

	access->remembered = !colon;
	if (!colon)
		return;
	*colon = '\0';
	access->username = text;
	access->secret = colon + 1;
}

static int run(const struct ffs_client_opts *opts, const PB(Access) * access, char **args, int n)
{
	const struct command *c = find_command(args[0], n - 1);
	struct run r = {.access = *access, .root = opts->root, .args = args + 1, .n = n - 1};
	struct err err = ERR_INIT;
	int result;

	if (!c)
		return usage();
	result = ffs_client_new(opts, &r.client, &err);
	if (result >= 0)
		result = c->fn(&r, &err);
	ffs_client_free(r.client);
	return report(result, &err);
}

int main(int argc, char **argv)
{
	const char *extra[OPTIONS_MAX + 1] = {NULL};
	PB(Access) access = CONTENTD__CONTENTFS__V1__ACCESS__INIT;
	struct ffs_client_opts opts = {.extra = extra};
	int n_extra = 0, i;

	for (i = 1; i + 1 < argc && !strncmp(argv[i], "--", 2); i += 2) {
		if (!strcmp(argv[i], "--root"))
			opts.root = argv[i + 1];
		else if (!strcmp(argv[i], "--state"))
			opts.state = argv[i + 1];
		else if (!strcmp(argv[i], "--program"))
			opts.program = argv[i + 1];
		else if (!strcmp(argv[i], "--owner"))
			access.owner = argv[i + 1];
		else if (!strcmp(argv[i], "--account"))
			set_account(&access, argv[i + 1]);
		else if (!strcmp(argv[i], "--option") && n_extra < OPTIONS_MAX)
			extra[n_extra++] = argv[i + 1];
		else
			return usage();
	}
	if (!opts.root || !opts.state || !opts.program || i >= argc)
		return usage();
	return run(&opts, &access, argv + i, argc - i);
}
