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

static void add_line(void *arg, const char *host, const struct reg_credentials *c)
{
	if (c->identity_token)
		buf_addf(arg, "%s token %s;", host, c->identity_token);
	else
		buf_addf(arg, "%s %s:%s;", host, c->username, c->password);
}

/* What a process that opens the file now finds. */
static void assert_holds(int fd, const char *want)
{
	AUTO(ffs_secrets) struct ffs_secrets *s = NULL;
	AUTO(buf) struct buf text = BUF_INIT;

	OK(ffs_secrets_open(fd, &s, err));
	ffs_secrets_each(s, add_line, &text);
	assert_string_equal(buf_cstr(&text), want);
}

static void set(struct ffs_secrets *s, const char *host, const char *user, const char *password, const char *token)
{
	AUTO(reg_credentials) struct reg_credentials c = REG_CREDENTIALS_INIT;

	c.username = user ? xstrdup(user) : NULL;
	c.password = password ? xstrdup(password) : NULL;
	c.identity_token = token ? xstrdup(token) : NULL;
	OK(ffs_secrets_set(s, host, &c, err));
}

static void a_successor_has_them(void **state)
{
	int fd = *(int *)*state;
	AUTO(ffs_secrets) struct ffs_secrets *s = NULL;

	assert_holds(fd, "");
	OK(ffs_secrets_open(fd, &s, err));
	set(s, "docker.io", "bob", "s3cret", NULL);
	assert_holds(fd, "docker.io bob:s3cret;");
	set(s, "127.0.0.1:5000", NULL, NULL, "refresh");
	assert_holds(fd, "docker.io bob:s3cret;127.0.0.1:5000 token refresh;");
	set(s, "docker.io", "bob", "changed", NULL);
	assert_holds(fd, "127.0.0.1:5000 token refresh;docker.io bob:changed;");
	set(s, "docker.io", NULL, NULL, NULL);
	assert_holds(fd, "127.0.0.1:5000 token refresh;");
	set(s, "127.0.0.1:5000", NULL, NULL, NULL);
	assert_holds(fd, "");
}

static void what_was_forgotten_is_gone(void **state)
{
	int fd = *(int *)*state;
	AUTO(ffs_secrets) struct ffs_secrets *s = NULL;
	AUTO(buf) struct buf all = BUF_INIT;

	OK(ffs_secrets_open(fd, &s, err));
	set(s, "docker.io", "bob", "needle-in-memory", NULL);
	set(s, "docker.io", NULL, NULL, NULL);
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

	OK(ffs_secrets_open(fd, &s, err));
	set(s, "docker.io", "bob", "old", NULL);
	assert_int_equal(fstat(fd, &st), 0);
	at = st.st_size - 1; /* the last byte of the secret, in the second half */
	for (off_t i = 0; i < 200; i++)
		assert_int_equal(pwrite(fd, "\xff", 1, i), 1); /* the other half: begun, not finished */
	assert_holds(fd, "docker.io bob:old;");
	assert_int_equal(pwrite(fd, &zero, 1, at), 1);
	assert_int_equal(ffs_secrets_open(fd, &again, NULL), -(int)ERR_DATA_LOSS);
	assert_non_null(again);
	set(again, "docker.io", "bob", "new", NULL);
	assert_holds(fd, "docker.io bob:new;");
}

static void there_are_bounds(void **state)
{
	int fd = *(int *)*state;
	AUTO(ffs_secrets) struct ffs_secrets *s = NULL;
	struct reg_credentials c = {.username = (char *)"bob", .password = (char *)"x"};
	char host[32];
	int r = 0;

	OK(ffs_secrets_open(fd, &s, err));
	for (unsigned i = 0; r == 0 && i <= FFS_SECRETS_MAX; i++) {
		snprintf(host, sizeof(host), "host%u.example", i);
		r = ffs_secrets_set(s, host, &c, NULL);
		assert_int_equal(r, i < FFS_SECRETS_MAX ? 0 : -(int)ERR_EXHAUSTED);
	}
	OK(ffs_secrets_set(s, "host8.example", &c, err));
	OK(ffs_secrets_set(s, "host7.example", &REG_CREDENTIALS_INIT, err));
	OK(ffs_secrets_set(s, "another.example", &c, err));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(a_successor_has_them, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(what_was_forgotten_is_gone, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(a_torn_write_leaves_the_older_ones, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(there_are_bounds, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
