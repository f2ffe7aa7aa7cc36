#include "fusefs/access.h"

#include "base/bytes.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/vec.h"
#include "registry/reference.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define MAGIC "cdsecrt2"
#define HEADER_BYTES 56
#define ENTRY_BYTES 8
#define SLOT_BYTES (HEADER_BYTES + FFS_SECRETS_BYTES_MAX)
#define REPOSITORY_MAX (REG_HOST_MAX + 1 + REG_REPOSITORY_MAX)

struct secret {
	char *owner, *repository;
	struct reg_account *account;
	struct wiped packed; /* the account */
};

struct ffs_secrets {
	int fd;
	struct reg_client *client;
	pthread_mutex_t lock; /* guards what follows, and the file */
	uint64_t generation;  /* of what the file holds; its slot is generation % 2 */
	VEC(struct secret) v; /* the oldest first */
};

static void drop(struct ffs_secrets *s, struct secret *it)
{
	if (s->client)
		reg_client_forget(s->client, it->account);
	reg_account_unref(it->account);
	wiped_fini(&it->packed);
	free(it->owner);
	free(it->repository);
}

static void drop_all(struct ffs_secrets *s)
{
	vec_each(&s->v, it)
		drop(s, it);
	vec_clear(&s->v);
}

/* ---- decoding ---- */

static int damaged(const char *what, struct err *err)
{
	return err_set(err, ERR_DATA_LOSS, "stored credentials: %s", what);
}

static int take(struct str *rest, size_t n, struct str *out, struct err *err)
{
	if (rest->n < n)
		return damaged("cut short", err);
	*out = str_sub(*rest, 0, n);
	*rest = str_sub(*rest, n, rest->n);
	return 0;
}

static void add(struct ffs_secrets *s, struct str owner, struct str repository, TAKE(struct reg_account *) account)
{
	vec_push(&s->v, (struct secret){str_dup(owner), str_dup(repository), account, {BUF_INIT}});
	account_pack(account, &vec_last(&s->v)->packed.b);
}

static int decode_one(struct ffs_secrets *s, struct str *rest, struct err *err)
{
	struct str head, owner, repository, packed;
	struct reg_account *account = NULL;

	TRY(take(rest, ENTRY_BYTES, &head, err));
	TRY(take(rest, get_le16(head.p), &owner, err));
	TRY(take(rest, get_le16(head.p + 2), &repository, err));
	TRY(take(rest, get_le32(head.p + 4), &packed, err));
	if (owner.n > FFS_OWNER_MAX || !repository.n || repository.n > REPOSITORY_MAX)
		return damaged("out of bounds", err);
	TRY(account_unpack(packed, &account, err));
	add(s, owner, repository, account);
	return 0;
}

/* The generation of a slot, 0 when it holds nothing sound; its bytes go to `out`. */
static uint64_t read_slot(int fd, unsigned slot, struct wiped *out, uint32_t *count)
{
	off_t at = (off_t)slot * SLOT_BYTES;
	uint8_t header[HEADER_BYTES];
	struct digest sum;
	uint32_t n;

	if (fd_pread_all(fd, header, sizeof(header), at, NULL) < 0 || memcmp(header, MAGIC, 8) != 0)
		return 0;
	n = get_le32(header + 16);
	*count = get_le32(header + 20);
	if (n > FFS_SECRETS_BYTES_MAX || *count > FFS_SECRETS_MAX)
		return 0;
	buf_clear(&out->b);
	buf_reserve(&out->b, n);
	if (fd_pread_all(fd, out->b.p, n, at + HEADER_BYTES, NULL) < 0)
		return 0;
	out->b.n = n;
	digest_of(out->b.p, n, &sum);
	return memcmp(&sum, header + 24, sizeof(sum)) == 0 ? get_le64(header + 8) : 0;
}

static int load(struct ffs_secrets *s, struct err *err)
{
	AUTO(wiped) struct wiped even = {BUF_INIT};
	AUTO(wiped) struct wiped odd = {BUF_INIT};
	uint32_t counts[2] = {0};
	uint64_t a = read_slot(s->fd, 0, &even, &counts[0]);
	uint64_t b = read_slot(s->fd, 1, &odd, &counts[1]);
	struct str rest = buf_str(a > b ? &even.b : &odd.b);
	struct stat st;

	if (!a && !b) {
		if (fstat(s->fd, &st) < 0)
			return err_errno(err, errno, "stored credentials");
		return st.st_size ? damaged("unreadable", err) : 0;
	}
	s->generation = a > b ? a : b;
	for (uint32_t i = 0; i < counts[a > b ? 0 : 1]; i++)
		TRY(decode_one(s, &rest, err));
	return rest.n ? damaged("bytes left over", err) : 0;
}

int ffs_secrets_open(int fd, struct reg_client *client, struct ffs_secrets **out, struct err *err)
{
	struct ffs_secrets *s = xcalloc(1, sizeof(*s));
	int r;

	s->fd = fd;
	s->client = client;
	pthread_mutex_init(&s->lock, NULL);
	r = load(s, err);
	if (r < 0)
		drop_all(s);
	*out = s;
	return r;
}

void ffs_secrets_free(struct ffs_secrets *s)
{
	if (!s)
		return;
	drop_all(s);
	vec_fini(&s->v);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- encoding ---- */

static void encode(const struct ffs_secrets *s, struct buf *out)
{
	vec_each(&s->v, it) {
		buf_le16(out, (uint16_t)strlen(it->owner));
		buf_le16(out, (uint16_t)strlen(it->repository));
		buf_le32(out, (uint32_t)it->packed.b.n);
		buf_adds(out, it->owner);
		buf_adds(out, it->repository);
		buf_addstr(out, buf_str(&it->packed.b));
	}
}

static size_t encoded_bytes(const struct ffs_secrets *s)
{
	size_t n = 0;

	vec_each(&s->v, it)
		n += ENTRY_BYTES + strlen(it->owner) + strlen(it->repository) + it->packed.b.n;
	return n;
}

static int wipe_slot(int fd, unsigned slot, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && st.st_size <= (off_t)slot * SLOT_BYTES)
		return 0;
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)slot * SLOT_BYTES, SLOT_BYTES) < 0)
		return err_errno(err, errno, "forget stored credentials");
	return 0;
}

/* The bytes, then the header that makes them count, then the other slot goes. */
static int save(struct ffs_secrets *s, struct err *err)
{
	AUTO(wiped) struct wiped bytes = {BUF_INIT};
	AUTO(buf) struct buf header = BUF_INIT;
	uint64_t generation = s->generation + 1;
	off_t at = (off_t)(generation % 2) * SLOT_BYTES;
	struct digest sum;

	buf_reserve(&bytes.b, encoded_bytes(s)); /* so that no copy is left behind by growing */
	encode(s, &bytes.b);
	digest_of(bytes.b.p, bytes.b.n, &sum);
	buf_adds(&header, MAGIC);
	buf_le64(&header, generation);
	buf_le32(&header, (uint32_t)bytes.b.n);
	buf_le32(&header, (uint32_t)s->v.n);
	buf_add(&header, &sum, sizeof(sum));
	TRY_WRAP(fd_pwrite_all(s->fd, buf_str(&bytes.b), at + HEADER_BYTES, err), err, "store credentials");
	TRY_WRAP(fd_pwrite_all(s->fd, buf_str(&header), at, err), err, "store credentials");
	s->generation = generation;
	return wipe_slot(s->fd, (generation + 1) % 2, err);
}

/* ---- pairs ---- */

/* Its place, or the number of all. */
static size_t find(const struct ffs_secrets *s, const char *owner, const char *repository)
{
	size_t i = 0;

	while (i < s->v.n && (strcmp(s->v.p[i].owner, owner) || strcmp(s->v.p[i].repository, repository)))
		i++;
	return i;
}

static void forget(struct ffs_secrets *s, size_t i)
{
	drop(s, &s->v.p[i]);
	memmove(&s->v.p[i], &s->v.p[i + 1], (s->v.n - i - 1) * sizeof(s->v.p[i]));
	s->v.n--;
}

static int set_locked(struct ffs_secrets *s, const char *owner, const char *repository, struct reg_account *account,
                      struct err *err)
{
	size_t i = find(s, owner, repository);

	if (i < s->v.n ? s->v.p[i].account == account : !account)
		return 0;
	if (i < s->v.n)
		forget(s, i);
	if (account)
		add(s, str_of(owner), str_of(repository), reg_account_ref(account));
	while (s->v.n > FFS_SECRETS_MAX || encoded_bytes(s) > FFS_SECRETS_BYTES_MAX)
		forget(s, 0);
	return save(s, err);
}

int ffs_secrets_set(struct ffs_secrets *s, const char *owner, const char *repository, struct reg_account *account,
                    struct err *err)
{
	int r;

	if (strlen(owner) > FFS_OWNER_MAX || !*repository || strlen(repository) > REPOSITORY_MAX)
		return err_set(err, ERR_INVALID, "credentials of an owner or for a repository with an impossible name");
	pthread_mutex_lock(&s->lock);
	r = set_locked(s, owner, repository, account, err);
	pthread_mutex_unlock(&s->lock);
	return r;
}

struct reg_account *ffs_secrets_get(struct ffs_secrets *s, const char *owner, const char *repository)
{
	struct reg_account *found;
	size_t i;

	pthread_mutex_lock(&s->lock);
	i = find(s, owner, repository);
	found = i < s->v.n ? reg_account_ref(s->v.p[i].account) : NULL;
	pthread_mutex_unlock(&s->lock);
	return found;
}
