/*
 * The registry client as a command, for tests with real registries:
 *
 *	regcat [option...] resolve REF | stat REF DIGEST | blob REF DIGEST [OFFSET LENGTH] | many REF DIGEST COUNT LENGTH |
 *	       push REF FILE [FROM] | upload REF FILE | push-manifest REF FILE TYPE | refer REF TYPE FILE |
 *	       referrers REF [TYPE]
 *
 * many: COUNT neighbouring ranges at once, whose bytes are written in order. upload: as if size and digest were known at the
 * end only. refer: an artifact of that type, with FILE as its layer, whose subject is REF. Counters go to standard error as
 * JSON.
 */
#include "base/file.h"
#include "base/json.h"
#include "registry/client.h"
#include "registry/manifest_write.h"
#include "registry/referrers.h"
#include "registry/upload.h"

#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/stat.h>

#define RUN_S 60
#define MANY_MAX 1000

struct options {
	struct reg_host_opts host;
	struct reg_credentials credentials;
	struct reg_client_opts client;
	enum reg_lane lane;
};

struct run {
	struct reg_client *client;
	struct reg_ref ref;
	enum reg_lane lane;
	int64_t deadline_ns;
};

/* An asynchronous blob request and its end. */
struct part {
	sem_t done;
	int result;
	struct err err;
	struct buf body;
};

static void part_done(void *arg, struct reg_answer *a)
{
	struct part *p = arg;

	p->result = a->result;
	p->err = *a->err;
	if (a->body)
		buf_addstr(&p->body, buf_str(a->body));
	sem_post(&p->done);
}

static enum reg_flow part_data(void *arg, uint64_t offset, struct str bytes)
{
	fwrite(bytes.p, 1, bytes.n, stdout);
	return REG_FLOW_MORE;
}

static int part_wait(struct part *p, struct err *err)
{
	while (sem_wait(&p->done))
		;
	if (p->result < 0)
		*err = p->err;
	return p->result;
}

static int resolve(struct run *r, char **argv, struct err *err)
{
	AUTO(reg_image) struct reg_image *image = NULL;
	AUTO(reg_config) struct reg_config *config = NULL;
	AUTO(buf) struct buf b = BUF_INIT;
	const struct reg_manifest *m;
	char text[DIGEST_TEXT_MAX];

	TRY(reg_image_resolve(r->client, &r->ref, NULL, NULL, r->deadline_ns, &image, err));
	m = reg_image_manifest(image);
	TRY(reg_blob_fetch(r->client, &r->ref, &m->config, REG_CONFIG_BYTES_MAX, r->deadline_ns, &b, err));
	TRY(reg_config_parse(buf_str(&b), &config, err));
	for (unsigned i = 0; i < image->n_documents; i++)
		printf("document %s " STR_FMT "\n", digest_text(&image->documents[i]->digest, text),
		       STR_ARG(image->documents[i]->media_type));
	printf("platform " STR_FMT "/" STR_FMT "\n", STR_ARG(config->platform.os),
	       STR_ARG(config->platform.architecture));
	for (size_t i = 0; i < m->n_layers; i++)
		printf("layer %s %llu\n", digest_text(&m->layers[i].digest, text),
		       (unsigned long long)m->layers[i].size);
	for (size_t i = 0; i < config->n_diff_ids; i++)
		printf("diff %s\n", digest_text(&config->diff_ids[i], text));
	return 0;
}

static int stat_blob(struct run *r, char **argv, struct err *err)
{
	struct digest d;
	uint64_t size;

	TRY(digest_parse(str_of(argv[0]), &d, err));
	TRY(reg_blob_stat(r->client, &r->ref, &d, r->deadline_ns, &size, err));
	printf("%llu\n", (unsigned long long)size);
	return 0;
}

static int blob(struct run *r, char **argv, struct err *err)
{
	struct part p = {0};
	struct reg_blob_get q = {
	    .ref = &r->ref,
	    .lane = r->lane,
	    .deadline_ns = r->deadline_ns,
	    .length = REG_TO_END,
	    .data = part_data,
	    .done = part_done,
	    .arg = &p,
	};

	TRY(digest_parse(str_of(argv[0]), &q.digest, err));
	if (argv[1] && argv[2]) {
		q.offset = strtoull(argv[1], NULL, 10);
		q.length = strtoull(argv[2], NULL, 10);
	}
	sem_init(&p.done, 0, 0);
	TRY(reg_blob_get(r->client, &q, NULL, err));
	return part_wait(&p, err);
}

static int many(struct run *r, char **argv, struct err *err)
{
	unsigned count = argv[1] ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
	uint64_t length = argv[1] && argv[2] ? strtoull(argv[2], NULL, 10) : 0;
	struct part *parts;
	struct digest d;

	if (!count || count > MANY_MAX || !length)
		return err_set(err, ERR_INVALID, "many REF DIGEST COUNT LENGTH");
	TRY(digest_parse(str_of(argv[0]), &d, err));
	parts = xcalloc(count, sizeof(*parts));
	for (unsigned i = 0; i < count; i++) {
		struct reg_blob_get q = {
		    .ref = &r->ref,
		    .digest = d,
		    .lane = r->lane,
		    .deadline_ns = r->deadline_ns,
		    .offset = i * length,
		    .length = length,
		    .done = part_done,
		    .arg = &parts[i],
		};

		sem_init(&parts[i].done, 0, 0);
		TRY(reg_blob_get(r->client, &q, NULL, err)); /* the process ends: nothing is taken back */
	}
	for (unsigned i = 0; i < count; i++) {
		TRY(part_wait(&parts[i], err));
		fwrite(parts[i].body.p, 1, parts[i].body.n, stdout);
		buf_fini(&parts[i].body);
	}
	free(parts);
	return 0;
}

static int push(struct run *r, char **argv, struct err *err)
{
	static const char *const words[] = {"uploaded", "present", "mounted"};
	AUTO(buf) struct buf b = BUF_INIT;
	AUTO_FD int fd = open(argv[0], O_RDONLY | O_CLOEXEC);
	struct reg_blob_push q = {
	    .ref = &r->ref,
	    .fd = fd,
	    .mount_from = argv[1],
	    .deadline_ns = r->deadline_ns,
	};
	char text[DIGEST_TEXT_MAX];
	int how;

	TRY(file_read(AT_FDCWD, argv[0], 1u << 30, &b, err));
	digest_of(b.p, b.n, &q.digest);
	q.size = b.n;
	how = reg_blob_push(r->client, &q, err);
	TRY(how);
	printf("%s %s\n", words[how], digest_text(&q.digest, text));
	return 0;
}

static int upload(struct run *r, char **argv, struct err *err)
{
	AUTO(reg_upload) struct reg_upload *u = NULL;
	struct reg_upload_opts o = {.ref = &r->ref, .deadline_ns = r->deadline_ns};
	AUTO(buf) struct buf b = BUF_INIT;
	char text[DIGEST_TEXT_MAX];
	struct digest d;

	TRY(file_read(AT_FDCWD, argv[0], 1u << 30, &b, err));
	digest_of(b.p, b.n, &d);
	TRY(reg_upload_begin(r->client, &o, &u, err));
	for (size_t at = 0; at < b.n; at += 1u << 16)
		TRY(reg_upload_write(u, str_sub(buf_str(&b), at, 1u << 16), err));
	TRY(reg_upload_finish(u, &d, err));
	printf("uploaded %s\n", digest_text(&d, text));
	return 0;
}

static int push_bytes(struct run *r, struct str bytes, const struct reg_descriptor *d, struct err *err)
{
	struct reg_blob_push q = {.ref = &r->ref,
	                          .digest = d->digest,
	                          .size = d->size,
	                          .fd = -1,
	                          .bytes = bytes,
	                          .deadline_ns = r->deadline_ns};
	int how = reg_blob_push(r->client, &q, err);

	return how < 0 ? how : 0;
}

static int refer(struct run *r, char **argv, struct err *err)
{
	AUTO(reg_manifest) struct reg_manifest *m = NULL;
	AUTO(buf) struct buf b = BUF_INIT;
	AUTO(buf) struct buf text = BUF_INIT;
	struct reg_descriptor subject, layer, empty = reg_empty_config();
	char digest[DIGEST_TEXT_MAX];
	struct digest d;

	TRY(reg_manifest_fetch(r->client, &r->ref, NULL, r->deadline_ns, NULL, &m, err));
	TRY(file_read(AT_FDCWD, argv[1], 1u << 30, &b, err));
	subject = reg_descriptor_of(m->media_type, m->bytes);
	layer = reg_descriptor_of(STR("application/octet-stream"), buf_str(&b));
	TRY(push_bytes(r, buf_str(&b), &layer, err));
	TRY(push_bytes(r, REG_EMPTY_CONFIG, &empty, err));
	reg_artifact_write(str_of(argv[0]), &subject, &layer, 1, &text);
	TRY(reg_referrer_push(r->client, &r->ref, NULL, buf_str(&text), r->deadline_ns, NULL, err));
	digest_of(text.p, text.n, &d);
	printf("%s\n", digest_text(&d, digest));
	return 0;
}

static int referrers(struct run *r, char **argv, struct err *err)
{
	AUTO(reg_manifest) struct reg_manifest *m = NULL;
	AUTO(reg_manifest) struct reg_manifest *index = NULL;
	char text[DIGEST_TEXT_MAX];

	TRY(reg_manifest_fetch(r->client, &r->ref, NULL, r->deadline_ns, NULL, &m, err));
	TRY(reg_referrers_fetch(r->client, &r->ref, NULL, &m->digest, argv[0], r->deadline_ns, NULL, &index, err));
	for (size_t i = 0; i < index->n_entries; i++)
		printf("%s " STR_FMT "\n", digest_text(&index->entries[i].digest, text),
		       STR_ARG(index->entries[i].artifact_type));
	return 0;
}

static int push_manifest(struct run *r, char **argv, struct err *err)
{
	AUTO(buf) struct buf b = BUF_INIT;

	TRY(file_read(AT_FDCWD, argv[0], REG_MANIFEST_BYTES_MAX, &b, err));
	return reg_manifest_push(r->client, &r->ref, NULL, buf_str(&b), str_of(argv[1]), r->deadline_ns, NULL, err);
}

static const struct verb {
	const char *name;
	int args; /* at least, after REF */
	int (*run)(struct run *r, char **argv, struct err *err);
} verbs[] = {
    {"resolve", 0, resolve}, {"stat", 1, stat_blob}, {"blob", 1, blob},
    {"many", 3, many},       {"push", 1, push},      {"push-manifest", 2, push_manifest},
    {"upload", 1, upload},   {"refer", 2, refer},    {"referrers", 0, referrers},
};

static void print_counters(struct reg_client *c, const char *host)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct reg_counters n;
	struct reg_estimate e;
	struct json_writer w;

	reg_client_counters(c, &n);
	reg_host_estimate(c, host, &e);
	json_writer_init(&w, &b, NULL);
	json_w_object_begin(&w);
	json_w_ki64(&w, "requests", (int64_t)n.requests);
	json_w_ki64(&w, "retries", (int64_t)n.retries);
	json_w_ki64(&w, "redirects", (int64_t)n.redirects);
	json_w_ki64(&w, "tokens", (int64_t)n.tokens);
	json_w_ki64(&w, "connections", (int64_t)n.connections);
	json_w_ki64(&w, "bytes_in", (int64_t)n.bytes_in);
	json_w_ki64(&w, "bytes_out", (int64_t)n.bytes_out);
	json_w_ki64(&w, "rtt_ns", e.rtt_ns);
	json_w_ki64(&w, "bandwidth_bytes_s", (int64_t)e.bandwidth_bytes_s);
	json_w_object_end(&w);
	fprintf(stderr, "%s\n", buf_cstr(&b));
}

static int run(const struct options *o, int argc, char **argv, struct err *err)
{
	AUTO(reg_client) struct reg_client *client = NULL;
	struct run r = {.lane = o->lane, .deadline_ns = clock_mono_ns() + RUN_S * NS_PER_S};
	int result = err_set(err, ERR_INVALID, "unknown verb or too few arguments");

	if (argc < 2)
		return result;
	TRY(reg_ref_parse(str_of(argv[1]), &r.ref, err));
	TRY(reg_client_new(&o->client, &client, err));
	TRY(reg_client_set_host(client, r.ref.host, &o->host, err));
	reg_client_set_credentials(client, r.ref.host, &o->credentials);
	r.client = client;
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (!strcmp(verbs[i].name, argv[0]) && argc - 2 >= verbs[i].args)
			result = verbs[i].run(&r, argv + 2, err);
	print_counters(client, r.ref.host);
	return result;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
	    {"ca", required_argument, NULL, 'c'},
	    {"skip-verify", no_argument, NULL, 's'},
	    {"plain", no_argument, NULL, 'p'},
	    {"http1", no_argument, NULL, '1'},
	    {"https", no_argument, NULL, 't'},
	    {"creds", required_argument, NULL, 'u'},
	    {"bulk", no_argument, NULL, 'b'},
	    {"stall-ms", required_argument, NULL, 'm'},
	    {0},
	};
	struct options o = {0};
	struct err err = ERR_INIT;
	int c;

	while ((c = getopt_long(argc, argv, "+", longs, NULL)) != -1)
		switch (c) {
		case 'c':
			o.host.ca_file = optarg;
			break;
		case 's':
			o.host.skip_verify = true;
			break;
		case 'p':
			o.host.plain_http = true;
			break;
		case 't':
			o.host.force_https = true;
			break;
		case '1':
			o.host.http1 = true;
			break;
		case 'b':
			o.lane = REG_BULK;
			break;
		case 'm':
			o.client.answer_ms = o.client.stall_ms = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'u':
			if (reg_credentials_parse(str_of(optarg), &o.credentials, &err) < 0)
				goto failed;
			break;
		default:
			return 2;
		}
	if (run(&o, argc - optind, argv + optind, &err) == 0 && fflush(stdout) == 0) {
		reg_credentials_fini(&o.credentials);
		return 0;
	}
failed:
	fprintf(stderr, "regcat: %s: %s\n", err_code_name(err.code), err.msg);
	return 1;
}
