#include "fusefs/session.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/log.h"
#include "fusefs/trees.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#define FOREVER 1e9  /* seconds; larger ones are not longer */
#define GENERATION 1 /* constant: another one makes open files fail */
#define READDIR_MAX (128u << 10)
#define BLOCK_NODES 65536u /* nodes of one block of the handle table */
#define THREADS_MAX 64

struct ffs_session {
	struct fuse_session *se;
	struct ffs_table *table;
	struct ffs_data *data;
	struct ffs_trees *trees;
	char *root;
	/* Handles of objects by number; blocks are made when needed and never freed. */
	_Atomic(_Atomic(struct ffs_file *) *) blocks[TABLE_OBJECT_MAX / BLOCK_NODES];
	_Atomic int64_t busy_since[THREADS_MAX]; /* 0: waits for a request */
	_Atomic unsigned n_threads;
	_Atomic int failed; /* errno of a thread that had to give up */
};

static struct ffs_session *session_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static void reply_error(fuse_req_t req, const struct err *err)
{
	/* Whoever asked for the bytes gets one of two answers: there is no such thing, or it cannot be had. A cancelled
	 * request is one that our successor answers. */
	if (err->code == ERR_CANCELLED)
		fuse_reply_none(req);
	else
		fuse_reply_err(req, err->code == ERR_NOT_FOUND ? ENOENT : EIO);
}

/* ---- attributes ---- */

static void object_attr(uint64_t node, uint64_t size, struct stat *st)
{
	*st = (struct stat){.st_ino = node, .st_mode = S_IFREG | 0400, .st_nlink = 1, .st_size = (off_t)size};
	st->st_blksize = 4096;
	/* Whatever has arrived: a file that looks sparse is taken for zeros by tar -S. */
	st->st_blocks = (blkcnt_t)((size + 511) / 512);
}

static void dir_attr(uint64_t node, struct stat *st)
{
	/* Private: overlayfs comes in with the credentials of who mounted it, nobody else has business here. */
	*st = (struct stat){.st_ino = node, .st_mode = S_IFDIR | 0700, .st_nlink = 2};
	st->st_blksize = 4096;
}

static int tree_attr(const struct esgz_erofs *image, uint64_t node, struct stat *st, struct err *err)
{
	struct esgz_erofs_stat e;

	TRY(esgz_erofs_stat(image, ffs_tree_nid(node), &e, err));
	*st = (struct stat){.st_ino = node,
	                    .st_mode = e.mode,
	                    .st_nlink = e.nlink,
	                    .st_uid = e.uid,
	                    .st_gid = e.gid,
	                    .st_size = (off_t)e.size,
	                    .st_blksize = 4096,
	                    .st_blocks = (blkcnt_t)((e.size + 511) / 512),
	                    .st_rdev = makedev(e.dev_major, e.dev_minor)};
	st->st_mtim = st->st_ctim = st->st_atim = (struct timespec){.tv_sec = e.mtime_s, .tv_nsec = (long)e.mtime_ns};
	return 0;
}

static void reply_entry(fuse_req_t req, const struct stat *st)
{
	struct fuse_entry_param e = {.ino = st->st_ino,
	                             .generation = GENERATION,
	                             .attr = *st,
	                             .attr_timeout = FOREVER,
	                             .entry_timeout = FOREVER};

	fuse_reply_entry(req, &e);
}

/* ---- objects ---- */

static _Atomic(struct ffs_file *) *handle_slot(struct ffs_session *s, uint64_t number)
{
	_Atomic(_Atomic(struct ffs_file *) *) *at = &s->blocks[number / BLOCK_NODES];
	_Atomic(struct ffs_file *) *block = atomic_load_explicit(at, memory_order_acquire), *fresh;

	if (!block) {
		fresh = xcalloc(BLOCK_NODES, sizeof(*fresh));
		if (atomic_compare_exchange_strong(at, &block, fresh))
			block = fresh;
		else
			free(fresh);
	}
	return &block[number % BLOCK_NODES];
}

/* The handle of an object node that the kernel may know since an earlier worker. */
static int object_handle(struct ffs_session *s, uint64_t node, struct ffs_file **out, struct err *err)
{
	uint64_t number = node - NODE_OBJECT_FIRST, size;
	_Atomic(struct ffs_file *) *slot;
	struct digest key;

	if (node < NODE_OBJECT_FIRST || !ffs_table_object(s->table, number, &key, &size))
		return err_set(err, ERR_INTERNAL, "node %llu was never given out", (unsigned long long)node);
	slot = handle_slot(s, number);
	*out = atomic_load_explicit(slot, memory_order_acquire);
	if (*out)
		return 0;
	/* With the size that was handed out, the name is found whatever the layers say now. */
	TRY(ffs_data_find(s->data, &key, size, out, &size, NULL, NULL, err));
	atomic_store_explicit(slot, *out, memory_order_release);
	return 0;
}

/* Gives the node of an object whose size is certain now. */
static void object_entry(struct ffs_session *s, fuse_req_t req, const struct digest *key, struct ffs_file *f,
                         uint64_t size)
{
	struct stat st;
	struct err err;
	uint32_t number;

	if (ffs_table_add(s->table, key, size, &number, &err) < 0) {
		log_error("%s", err.msg);
		fuse_reply_err(req, ENFILE);
		return;
	}
	atomic_store_explicit(handle_slot(s, number), f, memory_order_release);
	object_attr(NODE_OBJECT_FIRST + number, size, &st);
	reply_entry(req, &st);
}

struct late_lookup {
	struct ffs_session *s;
	fuse_req_t req;
	struct digest key;
};

static void lookup_found(void *arg, struct ffs_file *f, uint64_t size, const struct err *err)
{
	struct late_lookup *late = arg;

	if (f) {
		object_entry(late->s, late->req, &late->key, f, size);
	} else if (err->code == ERR_CANCELLED) {
		fuse_reply_none(late->req);
	} else {
		/* It is claimed, only not to be had: not ENOENT. */
		log_error("look up an object whose size is in doubt: %s", err->msg);
		fuse_reply_err(late->req, EIO);
	}
	free(late);
}

static void lookup_object(struct ffs_session *s, fuse_req_t req, const struct digest *key)
{
	int64_t number = ffs_table_find(s->table, key);
	struct late_lookup *late;
	struct ffs_file *f;
	struct digest same;
	struct stat st;
	uint64_t size = 0;
	struct err err;
	int r;

	if (number >= 0 && ffs_table_object(s->table, (uint64_t)number, &same, &size)) {
		object_attr(NODE_OBJECT_FIRST + (uint64_t)number, size, &st);
		reply_entry(req, &st);
		return;
	}
	late = xcalloc(1, sizeof(*late));
	*late = (struct late_lookup){.s = s, .req = req, .key = *key};
	r = ffs_data_find(s->data, key, 0, &f, &size, lookup_found, late, &err);
	if (r == FFS_FIND_LATER)
		return;
	free(late);
	if (r < 0)
		reply_error(req, &err);
	else
		object_entry(s, req, key, f, size);
}

/* ---- look-up ---- */

static bool is_hex(const char *name, size_t n)
{
	size_t i;

	for (i = 0; i < n && ((name[i] >= '0' && name[i] <= '9') || (name[i] >= 'a' && name[i] <= 'f')); i++)
		;
	return i == n && name[n] == 0;
}

static void lookup_root(fuse_req_t req, const char *name)
{
	uint64_t byte, node;
	struct stat st;

	if (is_hex(name, 2) && str_u64(str_of(name), 16, &byte)) {
		node = NODE_FAN_FIRST + byte;
	} else if (!strcmp(name, ".trees")) {
		node = NODE_TREES;
	} else {
		fuse_reply_err(req, ENOENT);
		return;
	}
	dir_attr(node, &st);
	reply_entry(req, &st);
}

static void lookup_fan(struct ffs_session *s, fuse_req_t req, uint64_t parent, const char *name)
{
	struct digest key;
	char hex[65];

	if (!is_hex(name, 62)) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	snprintf(hex, sizeof(hex), "%02x%s", (unsigned)(parent - NODE_FAN_FIRST), name);
	digest_from_hex(str_of(hex), &key);
	lookup_object(s, req, &key);
}

static void reply_tree_entry(fuse_req_t req, const struct esgz_erofs *image, uint64_t node)
{
	struct stat st;
	struct err err;

	if (tree_attr(image, node, &st, &err) < 0)
		reply_error(req, &err);
	else
		reply_entry(req, &st);
}

static void lookup_trees(struct ffs_session *s, fuse_req_t req, const char *name)
{
	const struct esgz_erofs *image;
	struct esgz_erofs_stat root;
	struct digest key;
	uint32_t slot;
	struct err err;

	if (!is_hex(name, 64) || !digest_from_hex(str_of(name), &key)) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	if (ffs_trees_lookup(s->trees, &key, &slot, &image, &err) < 0 ||
	    esgz_erofs_stat(image, ESGZ_EROFS_ROOT, &root, &err) < 0) {
		if (err.code != ERR_NOT_FOUND)
			log_error("tree %s: %s", name, err.msg);
		reply_error(req, &err);
		return;
	}
	reply_tree_entry(req, image, ffs_tree_node(slot, root.nid));
}

static void lookup_in_tree(struct ffs_session *s, fuse_req_t req, uint64_t parent, const char *name)
{
	const struct esgz_erofs *image;
	struct err err;
	uint64_t nid;

	if (ffs_trees_get(s->trees, ffs_tree_slot(parent), &image, &err) < 0 ||
	    esgz_erofs_lookup(image, ffs_tree_nid(parent), str_of(name), &nid, &err) < 0)
		reply_error(req, &err);
	else
		reply_tree_entry(req, image, ffs_tree_node(ffs_tree_slot(parent), nid));
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct ffs_session *s = session_of(req);

	ffs_table_count(s->table, FFS_COUNT_LOOKUPS);
	if (parent == NODE_ROOT)
		lookup_root(req, name);
	else if (parent >= NODE_FAN_FIRST && parent <= NODE_FAN_LAST)
		lookup_fan(s, req, parent, name);
	else if (parent == NODE_TREES)
		lookup_trees(s, req, name);
	else if (ffs_is_tree_node(parent))
		lookup_in_tree(s, req, parent, name);
	else
		fuse_reply_err(req, ENOTDIR);
}

static void op_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct ffs_session *s = session_of(req);
	const struct esgz_erofs *image;
	struct digest key;
	struct stat st;
	uint64_t size;
	struct err err;

	if (node >= NODE_ROOT && node <= NODE_TREES) {
		dir_attr(node, &st);
	} else if (ffs_is_tree_node(node)) {
		if (ffs_trees_get(s->trees, ffs_tree_slot(node), &image, &err) < 0 ||
		    tree_attr(image, node, &st, &err) < 0) {
			log_error("attributes of a tree's node: %s", err.msg);
			fuse_reply_err(req, EIO);
			return;
		}
	} else if (node >= NODE_OBJECT_FIRST && ffs_table_object(s->table, node - NODE_OBJECT_FIRST, &key, &size)) {
		object_attr(node, size, &st);
	} else {
		fuse_reply_err(req, EIO);
		return;
	}
	fuse_reply_attr(req, &st, FOREVER);
}

static void op_forget(fuse_req_t req, fuse_ino_t node, uint64_t n)
{
	fuse_reply_none(req); /* no counts are kept: a dead worker would have lost some */
}

static void op_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *forgets)
{
	fuse_reply_none(req);
}

/* ---- reading ---- */

static void read_done(void *arg, struct str bytes, const struct err *err)
{
	fuse_req_t req = arg;

	if (!err)
		fuse_reply_buf(req, bytes.p, bytes.n);
	else if (err->code == ERR_CANCELLED)
		fuse_reply_none(req);
	else
		fuse_reply_err(req, EIO);
}

/* The object behind a regular file of a tree. */
static int tree_handle(struct ffs_session *s, uint64_t node, struct ffs_file **out, struct err *err)
{
	const struct esgz_erofs *image;
	struct esgz_erofs_stat e;
	struct digest key;
	uint64_t size;

	TRY(ffs_trees_get(s->trees, ffs_tree_slot(node), &image, err));
	TRY(esgz_erofs_stat(image, ffs_tree_nid(node), &e, err));
	TRY(esgz_erofs_object(image, ffs_tree_nid(node), &key, err));
	TRY(ffs_data_find(s->data, &key, e.size, out, &size, NULL, NULL, err));
	if (size != e.size)
		return err_set(err, ERR_DATA_LOSS, "the object of a file has another size than the file");
	return 0;
}

static void op_read(fuse_req_t req, fuse_ino_t node, size_t n, off_t at, struct fuse_file_info *fi)
{
	struct ffs_session *s = session_of(req);
	struct ffs_file *f;
	struct err err;
	int r;

	ffs_table_count(s->table, FFS_COUNT_READS);
	r = ffs_is_tree_node(node) ? tree_handle(s, node, &f, &err) : object_handle(s, node, &f, &err);
	if (r < 0) {
		log_error("read: %s", err.msg);
		fuse_reply_err(req, EIO);
		return;
	}
	ffs_data_read(s->data, f, (uint64_t)at, n, read_done, req);
}

static void op_readlink(fuse_req_t req, fuse_ino_t node)
{
	struct ffs_session *s = session_of(req);
	const struct esgz_erofs *image;
	AUTO_FREE char *text = NULL;
	struct str link;
	struct err err;

	if (!ffs_is_tree_node(node)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	if (ffs_trees_get(s->trees, ffs_tree_slot(node), &image, &err) < 0 ||
	    esgz_erofs_readlink(image, ffs_tree_nid(node), &link, &err) < 0) {
		reply_error(req, &err);
		return;
	}
	text = str_dup(link);
	fuse_reply_readlink(req, text);
}

/* ---- directories ---- */

struct listing {
	struct ffs_session *s;
	fuse_req_t req;
	const struct esgz_erofs *image;
	uint64_t dir;
	char *p;
	size_t n, cap;
};

/* False when it does not fit any more. */
static bool list_add(struct listing *l, const char *name, uint64_t node, uint32_t mode, off_t next)
{
	struct stat st = {.st_ino = node, .st_mode = mode};
	size_t n = fuse_add_direntry(l->req, l->p + l->n, l->cap - l->n, name, &st, next);

	if (n > l->cap - l->n)
		return false;
	l->n += n;
	return true;
}

static bool list_tree_entry(void *arg, struct str name, uint64_t nid, uint32_t mode, uint64_t next)
{
	struct listing *l = arg;
	char text[ESGZ_NAME_MAX + 1];

	return str_copy(name, text, sizeof(text)) &&
	       list_add(l, text, ffs_tree_node(ffs_tree_slot(l->dir), nid), mode, (off_t)next);
}

static bool list_own_entry(struct listing *l, off_t i)
{
	char name[8];

	if (i < 2)
		return list_add(l, i ? ".." : ".", i ? NODE_ROOT : l->dir, S_IFDIR, i + 1);
	if (i < 258)
		snprintf(name, sizeof(name), "%02x", (unsigned)(i - 2));
	return list_add(l, i < 258 ? name : ".trees", (uint64_t)i, S_IFDIR, i + 1);
}

static void op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t at, struct fuse_file_info *fi)
{
	struct listing l = {.s = session_of(req), .req = req, .dir = node};
	AUTO_FREE char *room = NULL;
	struct err err;
	int r = 0;

	l.cap = size < READDIR_MAX ? size : READDIR_MAX;
	l.p = room = xmalloc(l.cap);
	if (ffs_is_tree_node(node)) {
		r = ffs_trees_get(l.s->trees, ffs_tree_slot(node), &l.image, &err);
		if (r == 0)
			r = esgz_erofs_readdir(l.image, ffs_tree_nid(node), (uint64_t)at, list_tree_entry, &l, &err);
	} else {
		/* The root has 258 entries: ".", "..", 00 to ff, ".trees", numbered as the nodes are from 2 on. What is in
		 * them is found by name only. */
		off_t end = node == NODE_ROOT ? NODE_TREES + 1 : 2;

		for (off_t i = at; i < end && list_own_entry(&l, i); i++)
			;
	}
	if (r < 0)
		reply_error(req, &err);
	else
		fuse_reply_buf(req, l.p, l.n);
}

/* ---- extended attributes: trees have some ---- */

struct xattr_find {
	const char *name; /* NULL: list */
	bool found;
	struct buf value;
};

static bool xattr_visit(void *arg, struct str name, struct str value)
{
	struct xattr_find *x = arg;

	if (!x->name) {
		buf_addstr(&x->value, name);
		buf_addz(&x->value, 1);
	} else if (str_eqc(name, x->name)) {
		x->found = true;
		buf_addstr(&x->value, value);
		return false;
	}
	return true;
}

static void xattr_reply(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
	struct ffs_session *s = session_of(req);
	struct xattr_find x = {.name = name, .value = BUF_INIT};
	const struct esgz_erofs *image;
	struct err err;

	/* Not ENOSYS for objects, which have none: the kernel would never ask again, for trees neither. */
	if (ffs_is_tree_node(node) && (ffs_trees_get(s->trees, ffs_tree_slot(node), &image, &err) < 0 ||
	                               esgz_erofs_xattrs(image, ffs_tree_nid(node), xattr_visit, &x, &err) < 0))
		reply_error(req, &err);
	else if (name && !x.found)
		fuse_reply_err(req, ENODATA);
	else if (size == 0)
		fuse_reply_xattr(req, x.value.n);
	else if (size < x.value.n)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, x.value.p, x.value.n);
	buf_fini(&x.value);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
	xattr_reply(req, node, name, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
	xattr_reply(req, node, NULL, size);
}

/* ---- the rest ---- */

static void op_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	fuse_reply_err(req, ENOSYS); /* no-open: the kernel does not ask again, and keeps its cache */
}

static void op_statfs(fuse_req_t req, fuse_ino_t node)
{
	struct ffs_session *s = session_of(req);
	struct statvfs v;

	if (statvfs(s->root, &v) < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_statfs(req, &v);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	conn->want &= ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
	                          FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
	                          FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS | FUSE_CAP_HANDLE_KILLPRIV);
	conn->want |= conn->capable & (FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ASYNC_READ |
	                               FUSE_CAP_NO_OPEN_SUPPORT | FUSE_CAP_NO_OPENDIR_SUPPORT);
	conn->max_background = 256;
	conn->congestion_threshold = 192;
}

/* flush, ioctl and lseek are left out on purpose: libfuse answers ENOSYS once, and lseek then sees one extent of data. */
static const struct fuse_lowlevel_ops OPS = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .readlink = op_readlink,
    .open = op_open,
    .opendir = op_open,
    .read = op_read,
    .readdir = op_readdir,
    .statfs = op_statfs,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
};

/* ---- life ---- */

/* Asks the kernel to send again all requests that nobody answered; libfuse has no call for it. */
static int resend(int fd, struct err *err)
{
	struct fuse_out_header h = {.len = sizeof(h), .error = FUSE_NOTIFY_RESEND_CODE, .unique = 0};
	ssize_t n = write(fd, &h, sizeof(h));

	if (n == (ssize_t)sizeof(h))
		return 0;
	if (n < 0 && errno == EINVAL) {
		log_warn("this kernel cannot send requests again: those that the last worker had will fail or hang");
		return 0;
	}
	return err_errno(err, n < 0 ? errno : EIO, "ask the kernel for unanswered requests");
}

int ffs_session_new(int fuse_fd, struct ffs_table *table, struct ffs_data *data, const char *root, bool first,
                    struct ffs_session **out, struct err *err)
{
	static char *argv[] = {(char *)"contentfs", NULL};
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct ffs_session *s = xcalloc(1, sizeof(*s));
	struct str init = ffs_table_init_request(table);
	AUTO_FREE char *copy = NULL;
	char path[32];

	s->table = table;
	s->data = data;
	s->root = xstrdup(root);
	s->trees = ffs_trees_new(root, table);
	*out = s; /* lives as long as the process */
	s->se = fuse_session_new(&args, &OPS, sizeof(OPS), s);
	fuse_opt_free_args(&args);
	if (!s->se)
		return err_set(err, ERR_INTERNAL, "libfuse refuses its options");
	snprintf(path, sizeof(path), "/dev/fd/%d", fuse_fd);
	if (fuse_session_mount(s->se, path) < 0)
		return err_set(err, ERR_INTERNAL, "libfuse does not take the descriptor");
	/* Every worker answers the very same INIT; the kernel listens to the first and ignores the others. */
	copy = xmalloc(init.n);
	memcpy(copy, init.p, init.n);
	fuse_session_process_buf(s->se, &(struct fuse_buf){.mem = copy, .size = init.n});
	return first ? 0 : resend(fuse_fd, err);
}

struct thread {
	struct ffs_session *s;
	unsigned number;
	pthread_t id;
};

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	struct ffs_session *s = t->s;
	struct fuse_buf buf = {0};

	while (!fuse_session_exited(s->se)) {
		int n = fuse_session_receive_buf(s->se, &buf);

		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n <= 0) {
			if (n < 0 && n != -ENODEV)
				atomic_store(&s->failed, -n);
			break;
		}
		atomic_store(&s->busy_since[t->number], clock_mono_ns());
		fuse_session_process_buf(s->se, &buf);
		atomic_store(&s->busy_since[t->number], 0);
	}
	free(buf.mem);
	return NULL;
}

int ffs_session_run(struct ffs_session *s, unsigned threads, struct err *err)
{
	struct thread all[THREADS_MAX];
	unsigned n = 0;

	if (threads > THREADS_MAX)
		threads = THREADS_MAX;
	for (; n < threads; n++) {
		all[n] = (struct thread){.s = s, .number = n};
		if (pthread_create(&all[n].id, NULL, thread_main, &all[n]) != 0)
			break;
	}
	atomic_store(&s->n_threads, n);
	if (n == 0)
		return err_set(err, ERR_EXHAUSTED, "no thread could be started");
	for (unsigned i = 0; i < n; i++)
		pthread_join(all[i].id, NULL);
	if (atomic_load(&s->failed))
		return err_errno(err, atomic_load(&s->failed), "read from the kernel");
	return 0;
}

int64_t ffs_session_stuck_ns(struct ffs_session *s)
{
	int64_t now = clock_mono_ns(), longest = 0;

	for (unsigned i = 0; i < atomic_load(&s->n_threads); i++) {
		int64_t since = atomic_load(&s->busy_since[i]);

		if (since && now - since > longest)
			longest = now - since;
	}
	return longest;
}
