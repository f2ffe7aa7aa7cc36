#include "estargz/testing/test_stack.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

/* The names of the merged tree in depth-first order, "path:layer" each (layers from 1, 0 = implied). */
static void list(const struct stack_image *im, uint32_t node, struct str path, struct buf *out)
{
	const struct esgz_node *n = &im->tree->nodes[node];
	unsigned layer = 0;

	for (size_t i = 0; i < im->opened.n; i++)
		if (im->opened.p[i] == n->ix)
			layer = (unsigned)i + 1;
	buf_addf(out, "%s/" STR_FMT ":%u", node ? " " : "", STR_ARG(path), layer);
	for (uint32_t c = n->first_child; c < n->first_child + n->n_children; c++) {
		AUTO(buf) struct buf below = BUF_INIT;

		assert_int_equal(im->tree->nodes[c].parent, node);
		if (c > n->first_child)
			assert_true(str_cmp(im->tree->nodes[c - 1].name, im->tree->nodes[c].name) < 0);
		buf_addstr(&below, path);
		if (path.n)
			buf_addc(&below, '/');
		buf_addstr(&below, im->tree->nodes[c].name);
		list(im, c, buf_str(&below), out);
	}
}

static void assert_tree(const struct stack *s, const char *want)
{
	AUTO(stack_image) struct stack_image im = {0};
	AUTO(buf) struct buf got = BUF_INIT;
	struct err err = ERR_INIT;

	if (stack_build(s, &im, &err) < 0)
		fail_msg("%s", err.msg);
	list(&im, 0, STR_NONE, &got);
	assert_string_equal(got.p, want);
}

static void test_no_layers(void **state)
{
	AUTO(stack) struct stack s = {0};

	assert_tree(&s, "/:0");
}

static void test_whiteout(void **state)
{
	AUTO(stack) struct stack s = {0};

	stack_push(&s);
	stack_file(&s, "a/keep", 1, 1);
	stack_file(&s, "a/gone", 1, 1);
	stack_file(&s, "a/dir/x", 1, 1);
	stack_file(&s, "b", 1, 1);
	stack_push(&s);
	stack_file(&s, "a/.wh.gone", 0, 0);
	stack_file(&s, "a/.wh.dir", 0, 0);
	stack_file(&s, "a/.wh.never", 0, 0);
	stack_file(&s, ".wh.b", 0, 0);
	assert_tree(&s, "/:0 /a:0 /a/keep:1");
	stack_push(&s);
	stack_file(&s, "a/gone", 1, 1); /* back again */
	assert_tree(&s, "/:0 /a:0 /a/gone:3 /a/keep:1");
}

/* A whiteout beside an entry of the same name: the entry is new, nothing of the old one shows through. */
static void test_replace(void **state)
{
	AUTO(stack) struct stack s = {0};

	stack_push(&s);
	stack_add(&s, ESGZ_DIR, "d")->mode = 0700;
	stack_file(&s, "d/old", 1, 1);
	stack_push(&s);
	stack_file(&s, "d/new", 1, 1); /* d itself is implied: it takes nothing from below */
	stack_file(&s, ".wh.d", 0, 0);
	assert_tree(&s, "/:0 /d:0 /d/new:2");
}

static void test_opaque(void **state)
{
	AUTO(stack) struct stack s = {0};

	stack_push(&s);
	stack_add(&s, ESGZ_DIR, "d")->mode = 0700;
	stack_file(&s, "d/old", 1, 1);
	stack_add(&s, ESGZ_DIR, "d/sub");
	stack_push(&s);
	stack_file(&s, "d/mid", 1, 1);
	stack_file(&s, "d/sub/mid", 1, 1);
	stack_push(&s);
	stack_file(&s, "d/.wh..wh..opq", 0, 0);
	stack_file(&s, "d/sub/new", 1, 1);
	stack_push(&s);
	stack_file(&s, "d/top", 1, 1);
	/* d keeps the attributes of layer 1 (nobody gave others); sub is new, and implied. */
	assert_tree(&s, "/:0 /d:1 /d/sub:0 /d/sub/new:3 /d/top:4");
}

static void test_attributes_of_directories(void **state)
{
	AUTO(stack) struct stack s = {0};

	stack_push(&s);
	stack_add(&s, ESGZ_DIR, "");
	stack_add(&s, ESGZ_DIR, "etc");
	stack_push(&s);
	stack_add(&s, ESGZ_DIR, "");
	stack_file(&s, "etc/passwd", 10, 1);
	stack_push(&s);
	stack_file(&s, "var/log", 10, 1);
	assert_tree(&s, "/:2 /etc:1 /etc/passwd:2 /var:0 /var/log:3");
	stack_push(&s);
	stack_add(&s, ESGZ_DIR, "etc");
	assert_tree(&s, "/:2 /etc:4 /etc/passwd:2 /var:0 /var/log:3");
}

static void test_files_and_directories_take_turns(void **state)
{
	AUTO(stack) struct stack s = {0};

	stack_push(&s);
	stack_file(&s, "x/in", 1, 1);
	stack_push(&s);
	stack_file(&s, "x", 1, 1);
	assert_tree(&s, "/:0 /x:2");
	stack_push(&s);
	stack_file(&s, "x/other", 1, 1);
	assert_tree(&s, "/:0 /x:0 /x/other:3");
	stack_push(&s);
	stack_link(&s, ESGZ_SYMLINK, "x", "y");
	assert_tree(&s, "/:0 /x:4");
}

static const struct esgz_node *find(const struct stack_image *im, const char *path)
{
	const struct esgz_tree *t = im->tree;
	uint32_t at = 0;

	for (struct str rest = str_of(path), name; str_split(&rest, '/', &name);) {
		uint32_t c = t->nodes[at].first_child, end = c + t->nodes[at].n_children;

		while (c < end && !str_eq(t->nodes[c].name, name))
			c++;
		assert_true(c < end);
		at = c;
	}
	return &t->nodes[at];
}

static void test_hard_links(void **state)
{
	AUTO(stack) struct stack s = {0};
	AUTO(stack_image) struct stack_image im = {0};

	stack_push(&s);
	stack_link(&s, ESGZ_HARDLINK, "before", "dir/file");
	stack_file(&s, "dir/file", 5, 1);
	stack_link(&s, ESGZ_HARDLINK, "chain", "before");
	stack_link(&s, ESGZ_HARDLINK, "z", "dir/file");
	stack_push(&s);
	stack_file(&s, "dir/.wh.file", 0, 0); /* one name goes, the file stays */
	stack_file(&s, "z", 6, 1);            /* another is a new file now */
	stack_link(&s, ESGZ_HARDLINK, "zz", "z");
	assert_int_equal(stack_build(&s, &im, NULL), 0);
	assert_int_equal(find(&im, "before")->inode, find(&im, "chain")->inode);
	assert_ptr_equal(find(&im, "before")->ix, im.opened.p[0]);
	assert_int_equal(find(&im, "before")->entry, find(&im, "chain")->entry);
	assert_int_equal(find(&im, "z")->inode, find(&im, "zz")->inode);
	assert_int_not_equal(find(&im, "z")->inode, find(&im, "chain")->inode);
	assert_int_equal(find(&im, "dir")->n_children, 0);
	assert_int_equal(im.tree->n_nodes, 6);
	assert_int_equal(im.tree->n_inodes, 4);
}

static void test_breadth_first_and_dense(void **state)
{
	for (uint32_t seed = 0; seed < 50; seed++) {
		AUTO(stack) struct stack s = {0};
		AUTO(stack_image) struct stack_image im = {0};
		uint32_t next_child = 1, inodes = 0;

		stack_random(&s, seed);
		assert_int_equal(stack_build(&s, &im, NULL), 0);
		for (uint32_t i = 0; i < im.tree->n_nodes; i++) {
			const struct esgz_node *n = &im.tree->nodes[i];

			assert_true(n->inode <= inodes);
			inodes += n->inode == inodes;
			if (n->n_children)
				assert_int_equal(n->first_child, next_child);
			next_child += n->n_children;
		}
		assert_int_equal(next_child, im.tree->n_nodes);
		assert_int_equal(inodes, im.tree->n_inodes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_no_layers),
	    cmocka_unit_test(test_whiteout),
	    cmocka_unit_test(test_replace),
	    cmocka_unit_test(test_opaque),
	    cmocka_unit_test(test_attributes_of_directories),
	    cmocka_unit_test(test_files_and_directories_take_turns),
	    cmocka_unit_test(test_hard_links),
	    cmocka_unit_test(test_breadth_first_and_dense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
