#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/file.h"
#include "fusefs/secrets.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define OK(expr)                                                                                                       \
	do {                                                                                                           \
		struct err e_ = ERR_INIT;                                                                              \
		struct err *err = &e_;                                                                                 \
		if ((expr) < 0)                                                                                        \
			fail_msg("%s: %s", #expr, e_.msg);                                                             \
	} while (0)

static int set_up(void **state)
{
	int *fd = xmalloc(sizeof(*fd));

	*fd = memfd_create("secrets", MFD_CLOEXEC);
	*state = fd;
	return *fd < 0;
}

static int tear_down(void **state)
{
	close(*(int *)*state);
	free(*state);
	return 0;
}

/* What a process that opens the file now finds there: "user:password", "token ...", or "". */
static void assert_holds(int fd, const char *owner, const char *repository, const char *want)
{
	AUTO(ffs_secrets) struct ffs_secrets *s = NULL;
	AUTO(reg_account) struct reg_account *account = NULL;
	AUTO(buf) struct buf text = BUF_INIT;
	const struct reg_credentials *c;

	OK(ffs_secrets_open(fd, NULL, &s, err));
	account = ffs_secrets_get(s, owner, repository);
	c = reg_account_credentials(account);
	if (c->identity_token)
		buf_addf(&text, "token %s", c->identity_token);
	else if (account)
		buf_addf(&text, "%s:%s", c->username, c->password);
	assert_string_equal(buf_cstr(&text), want);
}

static void set(struct ffs_secrets *s, const char *owner, const char *repository, struct reg_credentials c)
{
	AUTO(reg_account) struct reg_account *account = reg_account_new(&c);

	OK(ffs_secrets_set(s, owner, repository, account, err));
}

static struct reg_credentials password(const char *user, const char *text)
{
	return (struct reg_credentials){.username = (char *)user, .password = (char *)text};
}

#define IMAGE "docker.io/library/alpine"

static void a_successor_has_them(void **state)
{
	const struct reg_credentials token = {.identity_token = (char *)"refresh"};
	int fd = *(int *)*state;
	AUTO(ffs_secrets) struct ffs_secrets *s = NULL;

	OK(ffs_secrets_open(fd, NULL, &s, err));
	set(s, "a", IMAGE, password("bob", "s3cret"));
	assert_holds(fd, "a", IMAGE, "bob:s3cret");
	set(s, "a", "127.0.0.1:5000/x/y", token);
	set(s, "", IMAGE, password("node", "its own"));
	assert_holds(fd, "a", IMAGE, "bob:s3cret");
	assert_holds(fd, "a", "127.0.0.1:5000/x/y", "token refresh");
	assert_holds(fd, "", IMAGE, "node:its own");
	set(s, "a", IMAGE, password("bob", "changed"));
	assert_holds(fd, "a", IMAGE, "bob:changed");
	set(s, "a", IMAGE, REG_CREDENTIALS_INIT);
	assert_holds(fd, "a", IMAGE, "");
	assert_holds(fd, "", IMAGE, "node:its own");
}

static void nobody_has_anybody_elses(void **state)
{
	int fd = *(int *)*state;
	AUTO(ffs_secrets) struct ffs_secrets *s = NULL;

	OK(ffs_secrets_open(fd, NULL, &s, err));
	set(s, "a", IMAGE, password("bob", "s3cret"));
	assert_holds(fd, "b", IMAGE, "");
	assert_holds(fd, "", IMAGE, "");
	assert_holds(fd, "a", "docker.io/library/alpin", "");
	assert_holds(fd, "a", "docker.io/library/other", "");
	assert_holds(fd, "adocker.io", "library/alpine", "");
}

static void what_was_forgotten_is_gone(void **state)
{
	int fd = *(int *)*state;
	AUTO(ffs_secrets) struct ffs_secrets *s = NULL;
	AUTO(buf) struct buf all = BUF_INIT;

	OK(ffs_secrets_open(fd, NULL, &s, err));
	set(s, "a", IMAGE, password("bob", "needle-in-memory"));
	set(s, "a", IMAGE, REG_CREDENTIALS_INIT);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	OK(fd_read_all(fd, 64u << 20, &all, err));
	assert_null(memmem(all.p, all.n, "needle-in-memory", 16));
}

/* A worker that dies while it writes: the other half still counts. */
static void a_torn_write_leaves_the_older_ones(void **state)
{
	int fd = *(int *)*state;
	AUTO(ffs_secrets) struct ffs_secrets *s = NULL;
	AUTO(ffs_secrets) struct ffs_secrets *again = NULL;
	struct stat st;
	char zero = 0;
	off_t at;

	OK(ffs_secrets_open(fd, NULL, &s, err));
	set(s, "a", IMAGE, password("bob", "old"));
	assert_int_equal(fstat(fd, &st), 0);
	at = st.st_size - 1; /* the last byte of the secret, in the second half */
	for (off_t i = 0; i < 200; i++)
		assert_int_equal(pwrite(fd, "\xff", 1, i), 1); /* the other half: begun, not finished */
	assert_holds(fd, "a", IMAGE, "bob:old");
	assert_int_equal(pwrite(fd, &zero, 1, at), 1);
	assert_int_equal(ffs_secrets_open(fd, NULL, &again, NULL), -(int)ERR_DATA_LOSS);
	assert_non_null(again);
	set(again, "a", IMAGE, password("bob", "new"));
	assert_holds(fd, "a", IMAGE, "bob:new");
}

/* Beyond the bounds the oldest goes, not the newest. */
static void there_are_bounds(void **state)
{
	int fd = *(int *)*state;
	AUTO(ffs_secrets) struct ffs_secrets *s = NULL;
	AUTO(reg_account) struct reg_account *account = reg_account_new(&(struct reg_credentials){"bob", "x", NULL});
	AUTO_FREE char *large = xcalloc(REG_SECRET_MAX + 1, 1);
	char repository[32];

	OK(ffs_secrets_open(fd, NULL, &s, err));
	for (unsigned i = 0; i <= FFS_SECRETS_MAX; i++) {
		snprintf(repository, sizeof(repository), "host.example/r%u", i);
		OK(ffs_secrets_set(s, "a", repository, account, err));
	}
	assert_holds(fd, "a", "host.example/r0", "");
	assert_holds(fd, "a", "host.example/r1", "bob:x");
	assert_holds(fd, "a", repository, "bob:x");
	memset(large, 'y', REG_SECRET_MAX);
	for (unsigned i = 0; i < FFS_SECRETS_BYTES_MAX / REG_SECRET_MAX + 1; i++) {
		snprintf(repository, sizeof(repository), "large.example/r%u", i);
		set(s, "a", repository, password("bob", large));
	}
	assert_holds(fd, "a", "host.example/r1", "");
	assert_holds(fd, "a", "large.example/r0", "");
	assert_int_equal(ffs_secrets_set(s, "a", "", account, NULL), -(int)ERR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(a_successor_has_them, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(nobody_has_anybody_elses, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(what_was_forgotten_is_gone, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_torn_write_leaves_the_older_ones, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(there_are_bounds, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
