#include "base/log.h"

#include "base/file.h"
#include "base/json.h"

#include <errno.h>
#include <sys/mman.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Standard error goes to a memory file during a test. */
static int saved, captured;

static int set_up(void **state)
{
	saved = dup(STDERR_FILENO);
	captured = memfd_create("stderr", MFD_CLOEXEC);
	return dup2(captured, STDERR_FILENO) < 0;
}

static int tear_down(void **state)
{
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(captured);
	return 0;
}

static void take_log(struct buf *out)
{
	lseek(captured, 0, SEEK_SET);
	assert_int_equal(fd_read_all(captured, 1 << 20, out, NULL), 0);
}

static void one_line_of_text(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;
	struct str line;
	struct str rest;

	log_init("prog", LOG_INFO, false);
	errno = 7;
	log_warn("two\nlines and \x1b[31m %s", "red");
	assert_int_equal(errno, 7);
	log_debug("%s", "not shown");
	take_log(&b);
	rest = buf_str(&b);
	assert_true(str_split(&rest, '\n', &line));
	assert_true(str_ends(line, STR("Z warn prog: two lines and ?[31m red")));
	assert_int_equal(rest.n, 0);
}

static unsigned n_evaluated;

static int evaluated(void)
{
	return (int)++n_evaluated;
}

static void levels(void **state)
{
	enum log_level level;

	assert_true(log_level_parse("debug", &level));
	assert_int_equal(level, LOG_DEBUG);
	assert_false(log_level_parse("Debug", &level));
	log_init("prog", LOG_ERROR, false);
	assert_int_equal(log_level_get(), LOG_ERROR);
	log_debug("%d", evaluated());
	assert_int_equal(n_evaluated, 0);
	log_init("prog", LOG_DEBUG, false);
	log_debug("%d", evaluated());
	assert_int_equal(n_evaluated, 1);
}

static void json_lines(void **state)
{
	AUTO(json_reader) struct json_reader *r = NULL;
	AUTO(buf) struct buf b = BUF_INIT;
	struct str key, value;
	unsigned seen = 0;
	int more;

	log_init("prog", LOG_INFO, true);
	log_error("a \"quoted\" \\ message");
	take_log(&b);
	r = json_reader_new(buf_str(&b));
	assert_int_equal(json_object_begin(r, NULL), 0);
	while ((more = json_object_next(r, &key, NULL)) > 0) {
		assert_int_equal(json_string(r, &value, NULL), 0);
		seen += (json_key_is(key, "level") && str_eqc(value, "error")) ||
		        (json_key_is(key, "program") && str_eqc(value, "prog")) ||
		        (json_key_is(key, "msg") && str_eqc(value, "a \"quoted\" \\ message")) ||
		        (json_key_is(key, "time") && str_ends(value, STR("Z")));
	}
	assert_int_equal(more, 0);
	assert_int_equal(json_end(r, NULL), 0);
	assert_int_equal(seen, 4);
	log_init("prog", LOG_INFO, false);
}

static void long_messages_are_cut(void **state)
{
	AUTO(buf) struct buf b = BUF_INIT;

	log_init("prog", LOG_INFO, false);
	log_info("%*s", 100000, "x");
	take_log(&b);
	assert_true(b.n < 5000);
	assert_int_equal(b.p[b.n - 1], '\n');
	assert_int_equal(str_find(buf_str(&b), '\n'), b.n - 1);
}

#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    LOG_TEST(one_line_of_text),
	    LOG_TEST(levels),
	    LOG_TEST(json_lines),
	    LOG_TEST(long_messages_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
