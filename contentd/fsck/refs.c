/* Records against each other: images, containers, leases, namespaces. */
#include "contentd/fsck/internal.h"

#include "contentd/collect/records.h"
#include "rpc/proto/containers.pb-c.h"
#include "rpc/proto/images.pb-c.h"

static void drop(struct fsck *f, const char *area, struct fsck_record *r, const char *remedy, const char *problem)
{
	AUTO_FREE char *name = xasprintf("%s/" STR_FMT, r->ns, STR_ARG(r->name));

	fsck_drop_record(f, area, name, r, remedy, problem);
}

/* Other references of an image may be absent: a platform that nobody has pulled. */
static void check_image(struct fsck *f, struct fsck_record *r)
{
	const Images__Image *m = r->message;
	AUTO_FREE char *target = xasprintf("%s/%s", r->ns, m->target ? m->target->digest : "");

	if (!m->target || !map_has(&f->contents, str_of(target)))
		drop(f, "image", r, "removed; a pull brings it again", "the content that it names is not there");
}

static void check_container(struct fsck *f, struct fsck_record *r)
{
	const Containers__Container *m = r->message;

	if (!*m->snapshot_key)
		return;
	vec_each(&f->snapshots, s)
		if (!s->gone && !strcmp(s->space.ns, r->ns) && !strcmp(s->space.snapshotter, m->snapshotter) &&
		    !strcmp(s->record.info.name, m->snapshot_key))
			return;
	drop(f, "container", r, "removed; kept in lost+found/records", "its snapshot is not there");
}

static void check_resource(struct fsck *f, struct fsck_record *r)
{
	struct str lease, type, id;

	if (!cd_resource_split(r->name, &lease, &type, &id))
		return; /* records.c has told */
	vec_each(&f->records, other)
		if (other->kind == CD_LEASE && !other->gone && !strcmp(other->ns, r->ns) && str_eq(other->name, lease))
			return;
	drop(f, "lease", r, "removed", "something is kept by a lease that is not there");
}

static void need_namespace(struct fsck *f, const char *ns)
{
	static const char none[] = {CD_RECORD_VERSION};
	AUTO(buf) struct buf key = BUF_INIT;
	struct err err = ERR_INIT;

	if (map_has(&f->namespaces, str_of(ns)))
		return;
	map_put(&f->namespaces, str_of(ns), NULL);
	cd_meta_key(&key, CD_NAMESPACE, ns, STR_NONE);
	if (fsck_found(f, "namespace", ns, "made", "there are records in it, and it is not there"))
		fsck_repaired(f, fsck_put(f, buf_str(&key), str_make(none, sizeof(none)), &err), &err);
}

int fsck_refs(struct fsck *f, struct err *err)
{
	vec_each(&f->records, r) {
		if (r->gone)
			continue;
		if (r->kind == CD_IMAGE)
			check_image(f, r);
		else if (r->kind == CD_CONTAINER)
			check_container(f, r);
		else if (r->kind == CD_RESOURCE)
			check_resource(f, r);
	}
	vec_each(&f->records, r)
		if (!r->gone && r->kind != CD_NAMESPACE)
			need_namespace(f, r->ns);
	vec_each(&f->snapshots, s)
		if (!s->gone && *s->space.ns) /* without: of a containerd that has its own namespaces */
			need_namespace(f, s->space.ns);
	return 0;
}
