/* Blobs and ingests, against the content records. */
#include "contentd/fsck/internal.h"

#include "base/file.h"
#include "contentd/content/content.h"
#include "rpc/proto/contentd_records.pb-c.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define BLOBS "content/blobs/sha256"
#define INGESTS "content/ingest"

struct content {
	struct fsck *f;
	int blobs_fd;
	struct map wanted; /* hex -> size + 1, as records say; good files of blobs keep their entry */
	struct map here;   /* hex of good files */
};

/* ---- records ---- */

static void note_sizes(struct content *c)
{
	vec_each(&c->f->records, r) {
		const Records__Content *m = r->message;
		struct digest d;
		char hex[65];

		if (r->kind == CD_CONTENT && !r->gone && m->info && digest_parse(r->name, &d, NULL) >= 0)
			map_put(&c->wanted, str_of(digest_hex(&d, hex)), (void *)(intptr_t)(m->info->size + 1));
	}
}

/* ---- blobs ---- */

static const char *blob_problem(struct content *c, const char *name, const struct stat *st, struct err *why)
{
	intptr_t wanted = (intptr_t)map_get(&c->wanted, str_of(name));
	struct digest d;

	if (!S_ISREG(st->st_mode) || !digest_from_hex(str_of(name), &d))
		return "is no blob";
	if (!wanted)
		return "no namespace knows it";
	if (st->st_size != wanted - 1)
		return "has not the size that is on record";
	if (c->f->opts->contents && fsck_digest_matches(c->blobs_fd, name, &d, why) == 0)
		return "its content is not what its digest says";
	return NULL;
}

static int check_blobs(struct content *c, struct err *err)
{
	AUTO(fsck_names) struct fsck_names names = {VEC_INIT};

	TRY(fsck_names(c->blobs_fd, &names, err));
	vec_each(&names.v, name) {
		struct err why = ERR_INIT;
		const char *problem;
		struct stat st;

		if (fstatat(c->blobs_fd, *name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		c->f->result->blobs++;
		problem = blob_problem(c, *name, &st, &why);
		if (!problem)
			map_put(&c->here, str_of(*name), NULL);
		else if (fsck_found(c->f, "blob", *name, "moved to lost+found", "%s", problem))
			fsck_repaired(c->f, fsck_lose(c->f, c->blobs_fd, *name, "blobs", &why), &why);
	}
	return 0;
}

/* A record without a file is right only where it says where the blob can be fetched. */
static void check_record(struct content *c, struct fsck_record *r)
{
	AUTO_FREE char *name = xasprintf("%s/" STR_FMT, r->ns, STR_ARG(r->name));
	const Records__Content *m = r->message;
	const char *problem = NULL;
	struct digest d;
	char hex[65];

	if (!m->info || digest_parse(r->name, &d, NULL) < 0)
		problem = "says nothing of a blob";
	else if (strcmp(m->info->digest, r->name.p))
		problem = "is about another blob than its key says";
	else if (!*m->source && !map_has(&c->here, str_of(digest_hex(&d, hex))))
		problem = "its blob is not here, and it does not say where from to fetch it";
	if (!problem) {
		map_put(&c->f->contents, str_of(name), NULL);
		return;
	}
	fsck_drop_record(c->f, "content", name, r, "record removed; the next pull or push brings the blob", problem);
}

/* ---- ingests ---- */

static int check_ingests(struct fsck *f, struct err *err)
{
	AUTO(fsck_names) struct fsck_names names = {VEC_INIT};
	AUTO_FD int fd = -1;
	int r = fsck_dir(f, INGESTS, &fd, err);

	if (r == -(int)ERR_NOT_FOUND)
		return 0;
	TRY(r);
	TRY(fsck_names(fd, &names, err));
	vec_each(&names.v, name) {
		struct err why = ERR_INIT, lost = ERR_INIT;

		if (str_starts(str_of(*name), STR(".put-"))) /* each start removes those */
			continue;
		f->result->ingests++;
		if (cd_ingest_check(fd, *name, &why) < 0 &&
		    fsck_found(f, "ingest", *name, "moved to lost+found", "%s", why.msg))
			fsck_repaired(f, fsck_lose(f, fd, *name, "ingests", &lost), &lost);
	}
	return 0;
}

int fsck_content(struct fsck *f, struct err *err)
{
	struct content c = {.f = f, .blobs_fd = -1};
	int r = fsck_dir(f, BLOBS, &c.blobs_fd, err);

	note_sizes(&c);
	if (r >= 0)
		r = check_blobs(&c, err);
	if (r == -(int)ERR_NOT_FOUND)
		r = 0;
	if (r >= 0)
		vec_each(&f->records, record)
			if (record->kind == CD_CONTENT && !record->gone)
				check_record(&c, record);
	if (c.blobs_fd >= 0)
		close(c.blobs_fd);
	map_fini(&c.wanted);
	map_fini(&c.here);
	return r < 0 ? r : check_ingests(f, err);
}
