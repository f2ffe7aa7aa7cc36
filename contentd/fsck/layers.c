/*
 * What contentfs keeps: indexes; objects and partial files by what the indexes say of them; metadata images; pins. All of
 * it can be made again, from the registry if need be, so what is damaged is removed. What has a name that nothing of ours
 * has is somebody's: it goes to lost+found.
 */
#include "contentd/fsck/internal.h"

#include "base/file.h"
#include "estargz/erofs/erofs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SOURCE_SUFFIX ".source"
#define GAPS_SUFFIX ".gaps"
#define POINTS_SUFFIX ".points"
#define META_BYTES_MAX (1ull << 32)

/* An object that some index names: by its content, or by a claim of it. */
struct named {
	struct digest key, content;
	uint64_t size;
	uint32_t index;    /* in layers.all, of one that needs it */
	bool needed, here; /* needed: of an unpacked layer, which brings nothing by itself; here: with the right size */
};

struct layer {
	char hex[65];
	struct ffs_source source;
	uint32_t n_missing, n_files;
	bool gone;
};

struct layers {
	struct fsck *f;
	VEC(struct layer) all;
	VEC(struct named) named; /* by key */
};

/* ---- indexes ---- */

static void name_object(struct layers *l, const struct digest *key, const struct esgz_entry *e, bool needed)
{
	struct named *n = vec_add(&l->named);

	*n = (struct named){*key, e->content, e->size, (uint32_t)l->all.n, needed, false};
}

static void take_index(struct layers *l, const struct digest *key, const struct esgz_index *ix, struct ffs_source *src)
{
	const struct esgz_index_info *info = esgz_index_get_info(ix);
	struct layer layer = {.source = *src};

	for (uint32_t i = 0; i < info->n_entries; i++) {
		struct esgz_entry e;

		esgz_index_entry(ix, i, &e);
		if (e.type != ESGZ_REG || !e.size)
			continue;
		layer.n_files++;
		name_object(l, &e.content, &e, info->trust == ESGZ_TRUST_DIFFID);
		if (!digest_eq(&e.claim, &e.content))
			name_object(l, &e.claim, &e, false);
	}
	digest_hex(key, layer.hex);
	map_put(&l->f->indexes, str_of(layer.hex), NULL);
	vec_push(&l->all, layer);
	*src = (struct ffs_source){0};
}

/* 0: good, and taken. */
static int open_index(struct layers *l, const struct digest *key, struct err *err)
{
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	AUTO(ffs_source) struct ffs_source src = {0};
	const struct esgz_index_info *info;
	struct digest name;
	uint64_t read = 0;
	struct str bytes;
	int r;

	TRY(ffs_index_source(l->f->store, key, &src, err));
	TRY(ffs_index_map(l->f->store, key, &bytes, err));
	r = esgz_index_open(bytes, &ix, err);
	if (r >= 0) {
		info = esgz_index_get_info(ix);
		esgz_index_key(info->trust, &info->blob, &info->trusted, &name);
		if (!digest_eq(&name, key))
			r = err_set(err, ERR_DATA_LOSS, "it is the index of another layer than its name says");
	}
	if (r >= 0)
		r = ffs_index_check_points(l->f->store, key, ix, &read, err);
	if (r >= 0)
		take_index(l, key, ix, &src);
	esgz_index_free(STEAL(ix));
	ffs_index_unmap(bytes);
	return r;
}

static void check_index(struct layers *l, const struct digest *key)
{
	struct err why = ERR_INIT, err = ERR_INIT;
	char hex[65];

	l->f->result->indexes++;
	if (open_index(l, key, &why) >= 0)
		return;
	if (fsck_found(l->f, "index", digest_hex(key, hex), "removed; the next pull makes it again", "%s", why.msg))
		fsck_repaired(l->f, ffs_index_remove(l->f->store, key, &err), &err);
}

static bool is_beside(struct str name, struct str suffix)
{
	struct digest key;

	return str_ends(name, suffix) && digest_from_hex(str_sub(name, 0, name.n - suffix.n), &key);
}

/* Gaps (proof/gaps.h) come and go with fetching: a job may leave some of a layer that was deleted. A crash can leave points
 * without the index that they belong to. Each start removes those, as what is half written. */
static bool is_passing(struct str name)
{
	return str_starts(name, STR(".")) || is_beside(name, STR(GAPS_SUFFIX)) || is_beside(name, STR(POINTS_SUFFIX));
}

/* The source of a false layer outlives the index (ffs_index_remove). */
static bool stays_alone(struct layers *l, const struct digest *key)
{
	AUTO(ffs_source) struct ffs_source src = {0};

	return ffs_index_source(l->f->store, key, &src, NULL) >= 0 && ffs_facts_always_false(&src.facts);
}

static int check_indexes(struct layers *l, struct err *err)
{
	AUTO(fsck_names) struct fsck_names names = {VEC_INIT};
	int dir = ffs_store_dir(l->f->store, FFS_DIR_INDEX);

	TRY(fsck_names(dir, &names, err));
	vec_each(&names.v, name) {
		struct str base = str_of(*name);
		struct err why = ERR_INIT;
		struct digest key;

		if (is_passing(base))
			continue;
		if (str_ends(base, STR(SOURCE_SUFFIX)))
			base.n -= strlen(SOURCE_SUFFIX);
		if (!digest_from_hex(base, &key)) {
			if (fsck_found(l->f, "index", *name, "moved to lost+found", "is no name of an index"))
				fsck_repaired(l->f, fsck_lose(l->f, dir, *name, "index", &why), &why);
		} else if (base.n == strlen(*name)) {
			check_index(l, &key);
		} else if (!fsck_exists(dir, base) && fsck_exists(dir, str_of(*name)) && !stays_alone(l, &key)) {
			if (fsck_found(l->f, "index", *name, "removed", "there is no index to this source"))
				fsck_repaired(l->f, fsck_unlink(dir, *name, &why), &why);
		}
	}
	return 0;
}

/* ---- objects ---- */

static int by_key(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct digest));
}

/* The first of those with this key. */
static struct named *find_named(struct layers *l, const struct digest *key)
{
	struct named *n = l->named.n ? bsearch(key, l->named.p, l->named.n, sizeof(*n), by_key) : NULL;

	while (n && n > l->named.p && digest_eq(&n[-1].key, key))
		n--;
	return n;
}

static struct named *next_named(struct layers *l, struct named *n)
{
	return n + 1 < vec_last(&l->named) + 1 && digest_eq(&n[1].key, &n->key) ? n + 1 : NULL;
}

/* What is wrong with an object: a static text, or NULL. */
static const char *object_problem(struct layers *l, int dir_fd, const char *name, const struct stat *st,
                                  struct named *first)
{
	bool fits = false, contents = l->f->opts->contents;
	struct err why;

	if (!S_ISREG(st->st_mode))
		return "is no file";
	for (struct named *n = first; n; n = next_named(l, n))
		fits |= n->size == (uint64_t)st->st_size;
	if (!fits)
		return first ? "has not the size that its layer says" : NULL;
	if (contents && fsck_digest_matches(dir_fd, name, &first->content, &why) == 0)
		return "its content is not what its digest says";
	for (struct named *n = first; n; n = next_named(l, n))
		n->here |= n->size == (uint64_t)st->st_size;
	return NULL;
}

static void check_object(struct layers *l, const char *sub, int dir_fd, const char *name)
{
	AUTO_FREE char *hex = xasprintf("%s%s", sub, name);
	struct err why = ERR_INIT;
	const char *problem;
	struct digest key;
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	l->f->result->objects++;
	if (!digest_from_hex(str_of(hex), &key)) {
		if (fsck_found(l->f, "object", hex, "moved to lost+found", "is no name of an object"))
			fsck_repaired(l->f, fsck_lose(l->f, dir_fd, name, "objects", &why), &why);
		return;
	}
	problem = object_problem(l, dir_fd, name, &st, find_named(l, &key));
	if (!problem)
		return;
	if (!S_ISREG(st.st_mode)) {
		if (fsck_found(l->f, "object", hex, "moved to lost+found", "%s", problem))
			fsck_repaired(l->f, fsck_lose(l->f, dir_fd, name, "objects", &why), &why);
	} else if (fsck_found(l->f, "object", hex, "removed; it is fetched again when it is needed", "%s", problem)) {
		fsck_repaired(l->f, fsck_unlink(dir_fd, name, &why), &why);
	}
}

/* Calls fn for the files of a directory whose names are spread over <2 hex>/; other names go to lost+found. */
static int each_spread(struct layers *l, enum ffs_dir which, const char *area,
                       void (*fn)(struct layers *l, const char *sub, int dir_fd, const char *name), struct err *err)
{
	AUTO(fsck_names) struct fsck_names subs = {VEC_INIT};
	int top = ffs_store_dir(l->f->store, which);

	TRY(fsck_names(top, &subs, err));
	vec_each(&subs.v, sub) {
		AUTO(fsck_names) struct fsck_names names = {VEC_INIT};
		struct err why = ERR_INIT;
		AUTO_FD int fd = -1;
		uint64_t ignored;

		if (str_starts(str_of(*sub), STR("unpack-"))) /* each start removes those */
			continue;
		fd = openat(top, *sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (strlen(*sub) != 2 || !str_u64(str_of(*sub), 16, &ignored) || fd < 0) {
			if (fsck_found(l->f, area, *sub, "moved to lost+found", "is no name of ours"))
				fsck_repaired(l->f, fsck_lose(l->f, top, *sub, area, &why), &why);
			continue;
		}
		TRY(fsck_names(fd, &names, err));
		vec_each(&names.v, name)
			fn(l, *sub, fd, *name);
	}
	return 0;
}

/* Unpacked layers bring nothing by themselves: without one of its files the layer has to be unpacked again. */
static void check_missing(struct layers *l)
{
	for (struct named *n = l->named.p; n < l->named.p + l->named.n; n++) {
		struct named *first = find_named(l, &n->key);
		bool here = false;

		for (struct named *other = first; other; other = next_named(l, other))
			here |= other->here && other->size == n->size;
		if (n->needed && !here)
			l->all.p[n->index].n_missing++;
	}
	vec_each(&l->all, layer) {
		struct err why = ERR_INIT;
		struct digest key;

		if (!layer->n_missing || !digest_from_hex(str_of(layer->hex), &key))
			continue;
		if (!fsck_found(l->f, "index", layer->hex, "removed; the next pull unpacks the layer again",
		                "%u of %u files of this layer of %s are not here", layer->n_missing, layer->n_files,
		                layer->source.reference) ||
		    fsck_repaired(l->f, ffs_index_remove(l->f->store, &key, &why), &why))
			map_del(&l->f->indexes, str_of(layer->hex));
	}
}

/* ---- partial files ---- */

static void check_partial(struct layers *l, const char *sub, int dir_fd, const char *name)
{
	AUTO_FREE char *hex = xasprintf("%s%s", sub, name);
	const char *problem = NULL;
	struct err why = ERR_INIT;
	struct digest key;
	struct stat st;

	l->f->result->partials++;
	if (!digest_from_hex(str_of(hex), &key)) {
		if (fsck_found(l->f, "partial", hex, "moved to lost+found", "is no name of a partial file"))
			fsck_repaired(l->f, fsck_lose(l->f, dir_fd, name, "partial", &why), &why);
		return;
	}
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (!find_named(l, &key))
		problem = "no layer has a file like this";
	else if (!S_ISREG(st.st_mode) || st.st_size < (off_t)find_named(l, &key)->size)
		problem = "is too short for what it is part of";
	if (problem &&
	    fsck_found(l->f, "partial", hex, "removed; it is fetched again when it is needed", "%s", problem))
		fsck_repaired(l->f, fsck_unlink(dir_fd, name, &why), &why);
}

/* ---- metadata images ---- */

static const char *image_problem(int dir_fd, const char *name)
{
	struct esgz_erofs *fs = NULL;
	AUTO_FD int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	void *p;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return "cannot be read";
	if (st.st_size <= 0 || (uint64_t)st.st_size > META_BYTES_MAX)
		return "has no size of an image";
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return "cannot be read";
	r = esgz_erofs_open(str_make(p, (size_t)st.st_size), &fs, NULL);
	esgz_erofs_close(fs);
	munmap(p, (size_t)st.st_size);
	return r < 0 ? "is no EROFS image" : NULL;
}

static int check_images(struct fsck *f, struct err *err)
{
	AUTO(fsck_names) struct fsck_names names = {VEC_INIT};
	AUTO_FD int fd = -1;
	int r = fsck_dir(f, "meta", &fd, err);

	if (r == -(int)ERR_NOT_FOUND)
		return 0;
	TRY(r);
	TRY(fsck_names(fd, &names, err));
	vec_each(&names.v, name) {
		struct err why = ERR_INIT;
		const char *problem;

		if (**name == '.' || str_ends(str_of(*name), STR(".new")))
			continue;
		if (!fsck_is_hex64(*name)) {
			if (fsck_found(f, "meta", *name, "moved to lost+found", "is no name of a metadata image"))
				fsck_repaired(f, fsck_lose(f, fd, *name, "meta", &why), &why);
			continue;
		}
		problem = image_problem(fd, *name);
		if (problem &&
		    fsck_found(f, "meta", *name, "removed; it is built again when it is mounted", "%s", problem))
			fsck_repaired(f, fsck_unlink(fd, *name, &why), &why);
	}
	return 0;
}

/* ---- pins ---- */

static bool has_image(struct fsck *f, const char *ns_and_name)
{
	vec_each(&f->records, r) {
		struct str rest = str_of(ns_and_name);

		if (r->kind == CD_IMAGE && !r->gone && str_skip(&rest, str_of(r->ns)) && str_skip(&rest, STR("/")) &&
		    str_eq(rest, r->name))
			return true;
	}
	return false;
}

/* Of a proxied space: those pin their layers themselves. */
static bool has_snapshot(struct fsck *f, const char *snapshotter_and_name)
{
	vec_each(&f->snapshots, s) {
		struct str rest = str_of(snapshotter_and_name);

		if (!s->gone && !*s->space.ns && str_skip(&rest, str_of(s->space.snapshotter)) &&
		    str_skip(&rest, STR("/")) && str_eqc(rest, s->record.info.name))
			return true;
	}
	return false;
}

static bool is_orphan(struct fsck *f, const char *pin)
{
	if (str_starts(str_of(pin), STR("image/")))
		return !has_image(f, pin + strlen("image/"));
	return str_starts(str_of(pin), STR("snapshot/")) && !has_snapshot(f, pin + strlen("snapshot/"));
}

struct pins {
	struct fsck *f;
	struct map files;          /* of those that could be read */
	VEC(const char *) orphans; /* names, in the arena */
};

static int take_pin(void *arg, const char *name, const struct digest *keys, size_t n, struct err *err)
{
	struct pins *p = arg;
	struct digest d;
	char hex[65];

	digest_of(name, strlen(name), &d);
	map_put(&p->files, str_of(digest_hex(&d, hex)), NULL);
	if (is_orphan(p->f, name))
		vec_push(&p->orphans, arena_strdup(&p->f->arena, name));
	return 0;
}

static int check_pins(struct pins *p, struct err *err)
{
	AUTO(fsck_names) struct fsck_names names = {VEC_INIT};
	int dir = ffs_store_dir(p->f->store, FFS_DIR_PINS);
	struct err why = ERR_INIT;

	TRY(ffs_pin_list(p->f->store, take_pin, p, err));
	vec_each(&p->orphans, name)
		if (fsck_found(p->f, "pin", *name, "removed", "there is no such %s",
		               str_starts(str_of(*name), STR("image/")) ? "image" : "snapshot"))
			fsck_repaired(p->f, ffs_pin_remove(p->f->store, *name, &why), &why);
	TRY(fsck_names(dir, &names, err));
	vec_each(&names.v, name) {
		if (**name == '.' || map_has(&p->files, str_of(*name)))
			continue;
		if (fsck_found(p->f, "pin", *name, "moved to lost+found",
		               "is no pin, or another one than its name says"))
			fsck_repaired(p->f, fsck_lose(p->f, dir, *name, "pins", &why), &why);
	}
	return 0;
}

int fsck_pins(struct fsck *f, struct err *err)
{
	struct pins p = {.f = f};
	int r = check_pins(&p, err);

	vec_fini(&p.orphans);
	map_fini(&p.files);
	return r;
}

/* ---- all of it ---- */

static int check_layers(struct layers *l, struct err *err)
{
	TRY(check_indexes(l, err));
	if (l->named.n)
		qsort(l->named.p, l->named.n, sizeof(l->named.p[0]), by_key);
	TRY(each_spread(l, FFS_DIR_OBJECTS, "objects", check_object, err));
	check_missing(l);
	if (!l->f->data_in_use)
		TRY(each_spread(l, FFS_DIR_PARTIAL, "partial", check_partial, err));
	return check_images(l->f, err);
}

int fsck_layers(struct fsck *f, struct err *err)
{
	struct layers l = {.f = f};
	int r = check_layers(&l, err);

	vec_each(&l.all, layer)
		ffs_source_fini(&layer->source);
	vec_fini(&l.all);
	vec_fini(&l.named);
	return r;
}
