/*
 * For tests of the data plane: lazy layers without an image around them, and a reader that checks every byte.
 *
 *	lazyfixture make ROOT REFERENCE OUT SEED FILES   makes a layer of random files, pushes its blob to REFERENCE, puts
 *	                                                 its index into the store at ROOT, and writes each file to
 *	                                                 OUT/<2 hex>/<62 hex>, named as its object is on the lazy mount.
 *	                                                 Prints the key of the index and the digest of the blob.
 *	lazyfixture read DIR EXPECTED SECONDS [THREADS]  reads files of DIR at random places, by pread and through mappings,
 *	                                                 dropping caches as it goes, and compares them with EXPECTED/.
 *	                                                 Prints the number of reads.
 *	lazyfixture tree ROOT KEY                        writes the metadata image of one layer to ROOT/meta/<64 hex>, and
 *	                                                 prints the name.
 *	lazyfixture takeover WORKER HOLDER COMMAND...    takes the descriptors 3 to 7 from a worker, kills both processes,
 *	                                                 and becomes the command with them.
 */
#include "base/clock.h"
#include "base/file.h"
#include "estargz/erofs/erofs.h"
#include "fusefs/options.h"
#include "fusefs/testlayer.h"
#include "registry/client.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#define CHUNK_BYTES (256u << 10)

static int complain(const struct err *err)
{
	fprintf(stderr, "lazyfixture: %s\n", err->msg);
	return 1;
}

/* ---- make ---- */

static void add_files(struct test_layer *l, unsigned seed, unsigned n)
{
	char path[32];

	for (unsigned i = 0; i < n; i++) {
		size_t size = i % 10 == 0 ? (1u << 20) + i * 70001u % (5u << 20) : i * 7919u % 60000u + 1;

		snprintf(path, sizeof(path), "dir%u/file%u", i % 7, i);
		test_layer_add(l, path, size, CHUNK_BYTES, seed * 100000 + i, NULL);
	}
	test_layer_pack(l, "packed/", 20, 3000, seed * 100000 + n);
}

/* What a tree has besides plain files; bin/suid is a program that tells who runs it. */
static int add_others(struct test_layer *l, struct err *err)
{
	static const struct esgz_entry others[] = {
	    {.type = ESGZ_DIR,
	     .path = STR("private"),
	     .mode = 01750,
	     .uid = 3,
	     .gid = 70000,
	     .mtime_s = 1000000001,
	     .mtime_ns = 5},
	    {.type = ESGZ_SYMLINK, .path = STR("link"), .link = STR("dir1/../dir2/file2"), .mode = 0777},
	    {.type = ESGZ_HARDLINK, .path = STR("hard"), .link = STR("dir1/file1")},
	    {.type = ESGZ_CHAR, .path = STR("null"), .mode = 0666, .dev_major = 1, .dev_minor = 3},
	    {.type = ESGZ_FIFO, .path = STR("private/fifo"), .mode = 0600},
	    {.type = ESGZ_REG, .path = STR("empty"), .mode = 0604, .uid = 1000},
	};
	const struct esgz_xattr xattrs[] = {{STR("user.one"), STR("1")}, {STR("security.two"), str_make("\0\1", 2)}};
	AUTO(buf) struct buf id = BUF_INIT;

	for (unsigned i = 0; i < ARRAY_LEN(others); i++)
		TRY(esgz_index_add(l->builder, &others[i], xattrs, others[i].type == ESGZ_DIR ? 2 : 0, NULL, 0, NULL,
		                   err));
	TRY(file_read(AT_FDCWD, "/usr/bin/id", 1u << 20, &id, err));
	test_layer_add_bytes(l, "bin/suid", buf_str(&id), 04755, CHUNK_BYTES, NULL);
	return 0;
}

static int write_file(const char *dir, const char *name, struct str content, struct err *err)
{
	AUTO_FREE char *path = xasprintf("%s/%s", dir, name);
	AUTO_FREE char *parent = xstrdup(path);
	AUTO_FD int fd = -1;

	*strrchr(parent, '/') = 0;
	TRY(dir_make(parent, 0755, err));
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_errno(err, errno, "create %s", path);
	return fd_write_all(fd, content, err);
}

static int write_expected(const char *out, const struct test_layer *l, struct err *err)
{
	AUTO_FREE char *tree = xasprintf("%s.tree", out);
	char name[FFS_OBJECT_PATH_MAX];

	vec_each(&l->files, f) {
		TRY(write_file(out, ffs_object_path(&f->claim, name), buf_str(&f->content), err));
		TRY(write_file(tree, f->path, buf_str(&f->content), err));
	}
	return 0;
}

static int push(const struct test_layer *l, struct err *err)
{
	AUTO(reg_client) struct reg_client *client = NULL;
	struct reg_ref ref;
	int r;

	TRY(reg_ref_parse(str_of(l->reference), &ref, err));
	TRY(reg_client_new(NULL, &client, err));
	r = reg_blob_push(client,
	                  &(struct reg_blob_push){.ref = &ref,
	                                          .digest = l->digest,
	                                          .size = l->blob.n,
	                                          .fd = -1,
	                                          .bytes = buf_str(&l->blob),
	                                          .deadline_ns = clock_mono_ns() + 60 * NS_PER_S},
	                  err);
	return r < 0 ? r : 0;
}

static int make(char **argv, struct err *err)
{
	AUTO(ffs_store) struct ffs_store *store = NULL;
	char hex[65], text[DIGEST_TEXT_MAX];
	struct test_layer l;
	int r;

	TRY(ffs_store_open(argv[0], &store, err));
	test_layer_init(&l, argv[1]);
	add_files(&l, (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
	r = add_others(&l, err);
	if (r == 0) {
		test_layer_finish(&l, store, 1);
		r = push(&l, err);
	}
	if (r == 0)
		r = write_expected(argv[2], &l, err);
	if (r == 0)
		printf("%s %s\n", digest_hex(&l.key, hex), digest_text(&l.digest, text));
	test_layer_fini(&l);
	return r;
}

/* ---- read ---- */

static struct {
	VEC(char *) names;
	size_t prefix;
	const char *dir, *expected;
	int64_t until;
	atomic_ulong reads;
	atomic_bool wrong;
} job;

static int note_name(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	if (type == FTW_F && st->st_size > 0)
		vec_push(&job.names, xstrdup(path + job.prefix));
	return 0;
}

static void *map_file(const char *dir, const char *name, int *fd, size_t *n)
{
	AUTO_FREE char *path = xasprintf("%s%s", dir, name);
	struct stat st;
	void *p;

	*fd = open(path, O_RDONLY | O_CLOEXEC);
	if (*fd < 0 || fstat(*fd, &st) < 0) {
		fprintf(stderr, "lazyfixture: open %s: %m\n", path);
		return NULL;
	}
	*n = (size_t)st.st_size;
	p = mmap(NULL, *n, PROT_READ, MAP_SHARED, *fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

static bool read_once(const char *name, unsigned *seed)
{
	int fd = -1, want_fd = -1;
	size_t n = 0, want_n = 0, at, len;
	char *p = map_file(job.dir, name, &fd, &n), *want = map_file(job.expected, name, &want_fd, &want_n);
	bool ok = p && want && n == want_n;
	char *buf = xmalloc(300000);

	at = ok ? (size_t)rand_r(seed) % n : 0;
	len = ok && n - at < 300000 ? n - at : 300000;
	if (ok && rand_r(seed) % 4 == 0)
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	if (ok && rand_r(seed) % 2) {
		ssize_t r = pread(fd, buf, len, (off_t)at);

		if (r < 0)
			fprintf(stderr, "lazyfixture: read %s: %m\n", name);
		ok = r == (ssize_t)len && !memcmp(buf, want + at, len);
	} else if (ok) {
		madvise(p, n, MADV_RANDOM);
		ok = !memcmp(p + at, want + at, len);
	}
	if (p)
		munmap(p, n);
	if (want)
		munmap(want, want_n);
	close(fd);
	close(want_fd);
	free(buf);
	return ok;
}

static void *reader(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;

	while (clock_mono_ns() < job.until && !atomic_load(&job.wrong)) {
		const char *name = job.names.p[(size_t)rand_r(&seed) % job.names.n];

		if (!read_once(name, &seed)) {
			fprintf(stderr, "lazyfixture: %s%s is not what it should be\n", job.dir, name);
			atomic_store(&job.wrong, true);
		}
		atomic_fetch_add(&job.reads, 1);
	}
	return NULL;
}

static int read_all(int argc, char **argv, struct err *err)
{
	unsigned n = argc > 3 ? (unsigned)atoi(argv[3]) : 3;
	pthread_t threads[16];

	job.dir = argv[0];
	job.expected = argv[1];
	job.prefix = strlen(argv[1]);
	job.until = clock_mono_ns() + atoi(argv[2]) * NS_PER_S;
	if (nftw(argv[1], note_name, 16, FTW_PHYS) < 0 || job.names.n == 0)
		return err_set(err, ERR_INVALID, "nothing in %s", argv[1]);
	for (uintptr_t i = 0; i < n && i < ARRAY_LEN(threads); i++)
		if (pthread_create(&threads[i], NULL, reader, (void *)(i + 1)))
			return err_set(err, ERR_EXHAUSTED, "no thread");
	for (unsigned i = 0; i < n && i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	printf("%lu\n", atomic_load(&job.reads));
	return atomic_load(&job.wrong) ? err_set(err, ERR_DATA_LOSS, "wrong bytes") : 0;
}

/* ---- tree ---- */

static int write_tree(char **argv, struct err *err)
{
	AUTO(ffs_store) struct ffs_store *store = NULL;
	AUTO(esgz_index) struct esgz_index *ix = NULL;
	AUTO(esgz_tree) struct esgz_tree *tree = NULL;
	AUTO(buf) struct buf image = BUF_INIT;
	AUTO_FREE char *dir = xasprintf("%s/meta", argv[0]);
	struct digest key;
	struct str bytes;

	if (!digest_from_hex(str_of(argv[1]), &key))
		return err_set(err, ERR_INVALID, "%s is no key", argv[1]);
	TRY(ffs_store_open(argv[0], &store, err));
	TRY(ffs_index_map(store, &key, &bytes, err));
	TRY(esgz_index_open(bytes, &ix, err));
	TRY(esgz_tree_build((const struct esgz_index *const *)&ix, 1, &tree, err));
	TRY(esgz_erofs_write(tree, NULL, NULL, &image, err));
	TRY(write_file(dir, argv[1], buf_str(&image), err)); /* any name will do */
	puts(argv[1]);
	return 0;
}

/* ---- takeover ---- */

static int kill_and_wait(pid_t pid, struct err *err)
{
	AUTO_FD int fd = pidfd_open(pid, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};

	if (fd < 0 || pidfd_send_signal(fd, SIGKILL, NULL, 0) < 0)
		return err_errno(err, errno, "kill %d", pid);
	if (poll(&p, 1, 20000) != 1)
		return err_set(err, ERR_DEADLINE, "%d does not die", pid);
	return 0;
}

static int take_over(char **argv, struct err *err)
{
	pid_t worker = atoi(argv[0]), holder = atoi(argv[1]);
	int kept[FFS_FDS_KEPT], pidfd = fcntl(pidfd_open(worker, 0), F_DUPFD_CLOEXEC, 20);

	for (int i = FFS_FD_FUSE; i < FFS_FDS_KEPT; i++) {
		int fd = pidfd_getfd(pidfd, i, 0);

		if (fd < 0)
			return err_errno(err, errno, "take descriptor %d", i);
		kept[i] = fcntl(fd, F_DUPFD_CLOEXEC, 20);
		close(fd);
	}
	kill(worker, SIGSTOP); /* so that it does not see the holder's end */
	TRY(kill_and_wait(holder, err));
	TRY(kill_and_wait(worker, err));
	for (int i = FFS_FD_FUSE; i < FFS_FDS_KEPT; i++)
		dup2(kept[i], i);
	execvp(argv[2], argv + 2);
	return err_errno(err, errno, "execute %s", argv[2]);
}

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;

	if (argc == 7 && !strcmp(argv[1], "make"))
		return make(argv + 2, &err) < 0 ? complain(&err) : 0;
	if (argc >= 5 && !strcmp(argv[1], "read"))
		return read_all(argc - 2, argv + 2, &err) < 0 ? complain(&err) : 0;
	if (argc == 4 && !strcmp(argv[1], "tree"))
		return write_tree(argv + 2, &err) < 0 ? complain(&err) : 0;
	if (argc >= 5 && !strcmp(argv[1], "takeover"))
		return take_over(argv + 2, &err) < 0 ? complain(&err) : 0;
	fprintf(stderr,
	        "usage: lazyfixture make ROOT REFERENCE OUT SEED FILES | read DIR EXPECTED SECONDS [THREADS] |\n"
	        "       tree ROOT KEY | takeover WORKER HOLDER COMMAND...\n");
	return 2;
}
