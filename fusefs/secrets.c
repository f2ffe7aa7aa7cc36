#include "fusefs/secrets.h"

#include "base/bytes.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/vec.h"
#include "registry/reference.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define MAGIC "cdsecrt1"
#define HEADER_BYTES 56
#define ENTRY_BYTES 11
#define SLOT_BYTES (HEADER_BYTES + FFS_SECRETS_BYTES_MAX)

struct secret {
	char *host;
	struct reg_credentials credentials;
};

struct ffs_secrets {
	int fd;
	uint64_t generation; /* of what the file holds; its slot is generation % 2 */
	VEC(struct secret) v;
};

/* Bytes that held secrets. */
struct wiped {
	struct buf b;
};

static void wiped_fini(struct wiped *w)
{
	if (w->b.p)
		explicit_bzero(w->b.p, w->b.cap);
	buf_fini(&w->b);
}
DEFINE_AUTO_FINI(wiped);

static void drop(struct secret *s)
{
	free(s->host);
	reg_credentials_fini(&s->credentials);
}

static void drop_all(struct ffs_secrets *s)
{
	vec_each(&s->v, it)
		drop(it);
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

static int decode_one(struct ffs_secrets *s, struct str *rest, struct err *err)
{
	struct str head, host, username, secret;
	struct secret *it;

	TRY(take(rest, ENTRY_BYTES, &head, err));
	TRY(take(rest, get_le16(head.p), &host, err));
	TRY(take(rest, get_le32(head.p + 2), &username, err));
	TRY(take(rest, get_le32(head.p + 6), &secret, err));
	if (!host.n || host.n > REG_HOST_MAX || username.n > REG_SECRET_MAX || secret.n > REG_SECRET_MAX)
		return damaged("out of bounds", err);
	it = vec_add(&s->v);
	it->host = str_dup(host);
	if (head.p[10]) {
		it->credentials.identity_token = str_dup(secret);
	} else {
		it->credentials.username = str_dup(username);
		it->credentials.password = str_dup(secret);
	}
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

int ffs_secrets_open(int fd, struct ffs_secrets **out, struct err *err)
{
	struct ffs_secrets *s = xcalloc(1, sizeof(*s));
	int r;

	s->fd = fd;
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
	free(s);
}

/* ---- encoding ---- */

static void encode(const struct ffs_secrets *s, struct buf *out)
{
	vec_each(&s->v, it) {
		const struct reg_credentials *c = &it->credentials;
		struct str host = str_of(it->host), username = str_of(c->username);
		struct str secret = str_of(c->identity_token ? c->identity_token : c->password);

		buf_le16(out, (uint16_t)host.n);
		buf_le32(out, (uint32_t)username.n);
		buf_le32(out, (uint32_t)secret.n);
		buf_addc(out, c->identity_token != NULL);
		buf_addstr(out, host);
		buf_addstr(out, username);
		buf_addstr(out, secret);
	}
}

static size_t encoded_bytes(const struct ffs_secrets *s)
{
	size_t n = 0;

	vec_each(&s->v, it) {
		const struct reg_credentials *c = &it->credentials;

		n += ENTRY_BYTES + strlen(it->host) + str_of(c->username).n +
		     str_of(c->identity_token ? c->identity_token : c->password).n;
	}
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

static bool has(const struct ffs_secrets *s, const char *host)
{
	vec_each(&s->v, it)
		if (!strcmp(it->host, host))
			return true;
	return false;
}

static void replace(struct ffs_secrets *s, const char *host, const struct reg_credentials *c)
{
	for (size_t i = 0; i < s->v.n; i++)
		if (!strcmp(s->v.p[i].host, host)) {
			drop(&s->v.p[i]);
			vec_swap_remove(&s->v, i);
			break;
		}
	if (reg_credentials_empty(c))
		return;
	vec_push(&s->v, (struct secret){.host = xstrdup(host)});
	reg_credentials_copy(&vec_last(&s->v)->credentials, c);
}

int ffs_secrets_set(struct ffs_secrets *s, const char *host, const struct reg_credentials *c, struct err *err)
{
	size_t more =
	    ENTRY_BYTES + strlen(host) + str_of(c->username).n + str_of(c->password).n + str_of(c->identity_token).n;

	if (!*host || strlen(host) > REG_HOST_MAX)
		return err_set(err, ERR_INVALID, "credentials: bad host name");
	if (!reg_credentials_empty(c) &&
	    ((s->v.n >= FFS_SECRETS_MAX && !has(s, host)) || encoded_bytes(s) + more > FFS_SECRETS_BYTES_MAX))
		return err_set(err, ERR_EXHAUSTED, "credentials of too many registries");
	replace(s, host, c);
	return save(s, err);
}

void ffs_secrets_each(const struct ffs_secrets *s,
                      void (*fn)(void *arg, const char *host, const struct reg_credentials *c), void *arg)
{
	vec_each(&s->v, it)
		fn(arg, it->host, &it->credentials);
}
