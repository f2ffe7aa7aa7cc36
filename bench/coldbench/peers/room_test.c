#include "base/testing.h"
#include "bench/coldbench/peers/peers.h"

#include "base/clock.h"
#include "base/file.h"
#include "bench/coldbench/measure/command.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/wait.h>

static char dir[] = "/tmp/coldbench-room.XXXXXX";

/* Runs a line of shell in the room; its output goes to DIR/out. */
static int run_in(const struct room *room, const char *script, struct err *err)
{
	AUTO(argv) struct argv argv = ARGV_INIT;
	AUTO_FREE char *output = xasprintf("%s/out", dir);

	argv.room = room;
	argv_addl(&argv, "sh", "-c", script, "sh", dir, NULL);
	return command_run(&argv, output, clock_mono_ns() + 60 * NS_PER_S, -1, err);
}

/* A root whose /usr is this machine's, and a mark. */
static char *make_root(void)
{
	char *root = xasprintf("%s.root", dir), *usr = xasprintf("%s/usr", root);

	OK(dir_make(usr, 0755, err));
	assert_int_equal(mount("overlay", usr, "overlay", 0, "lowerdir=/usr:/etc"), 0);
	free(usr);
	return root;
}

static void drop_root(char *root)
{
	AUTO_FREE char *usr = xasprintf("%s/usr", root);

	assert_int_equal(umount2(usr, MNT_DETACH), 0);
	assert_int_equal(rmdir(usr), 0);
	assert_int_equal(rmdir(root), 0);
	free(root);
}

static bool is_mount(const char *name)
{
	AUTO(buf) struct buf mounts = BUF_INIT;
	AUTO_FREE char *path = xasprintf(" %s%s ", dir, name);

	OK(file_read(AT_FDCWD, "/proc/self/mounts", 4u << 20, &mounts, err));
	return strstr(buf_cstr(&mounts), path);
}

static void mounts_below_the_folder_are_seen_on_both_sides(void **state)
{
	AUTO_FREE char *at = xasprintf("%s/b", dir);
	struct room *room = NULL, *other = NULL;
	char *root = make_root();

	OK(room_open(&(struct room_spec){.root = root, .dir = dir}, &room, err));
	OK(run_in(room, "mkdir $1/a $1/b && mount -t tmpfs none $1/a && touch $1/a/file", err));
	assert_true(is_mount("/a"));
	assert_int_equal(mount("none", at, "tmpfs", 0, NULL), 0);
	OK(run_in(room, "mountpoint $1/b && umount $1/b", err));
	assert_false(is_mount("/b"));
	OK(run_in(room, "test -e /usr/passwd && umount $1/a", err));
	OK(room_open(&(struct room_spec){.root = NULL}, &other, err));
	FAILS(run_in(other, "test -e /usr/passwd", err), ERR_INTERNAL);
	room_close(room);
	room_close(other);
	assert_false(is_mount(""));
	drop_root(root);
}

static void other_mounts_stay_in_the_room(void **state)
{
	struct room *room = NULL;
	char *root = make_root();

	OK(room_open(&(struct room_spec){.root = root}, &room, err));
	OK(run_in(room, "mount -t tmpfs none $1", err));
	assert_false(is_mount(""));
	room_close(room);
	drop_root(root);
}

static void a_room_hides_the_unified_hierarchy(void **state)
{
	struct room *room = NULL;

	if (access("/sys/fs/cgroup/unified", F_OK)) {
		skip();
		return;
	}
	OK(room_open(&(struct room_spec){.one_cgroups = true}, &room, err));
	OK(run_in(room, "! mountpoint -q /sys/fs/cgroup/unified", err));
	room_close(room);
	assert_int_equal(access("/sys/fs/cgroup/unified/cgroup.procs", F_OK), 0);
}

static void a_folder_stands_in_for_the_machines(void **state)
{
	AUTO_FREE char *from = xasprintf("%s/from", dir), *at = xasprintf("%s/at", dir);
	AUTO_FREE char *inside = xasprintf("%s/from/file", dir), *outside = xasprintf("%s/at/file", dir);
	const struct room_bind binds[] = {{from, at}, {0}};
	struct room *room = NULL;

	OK(room_open(&(struct room_spec){.binds = binds}, &room, err));
	OK(run_in(room, "touch $1/at/file", err));
	room_close(room);
	assert_int_equal(access(inside, F_OK), 0);
	assert_int_equal(access(outside, F_OK), -1);
}

/* PATH says nothing of a program that would take it there. */
static void a_process_begins_in_the_room(void **state)
{
	AUTO_FREE char *path = xstrdup(getenv("PATH"));
	char before[64] = "", after[64] = "";
	struct room *room = NULL;
	char *root = make_root();
	int status = -1;
	pid_t pid = 0;

	OK(room_open(&(struct room_spec){.root = root, .dir = dir}, &room, err));
	assert_true(readlink("/proc/self/ns/mnt", before, sizeof(before) - 1) > 0);
	setenv("PATH", "/nowhere", 1);
	{
		AUTO(argv) struct argv there = {.room = room};
		AUTO(argv) struct argv absent = {.room = room};

		argv_addl(&there, "/bin/sh", "-c", "test -e /usr/passwd", NULL);
		argv_addl(&absent, "/usr/no-such-program", NULL);
		OK(room_start(&there, (struct spawn){.stdio = {-1, -1, -1}}, &pid, err));
		OK(spawn_wait(pid, &status, err));
		FAILS(room_start(&absent, (struct spawn){.stdio = {-1, -1, -1}}, &pid, err), ERR_NOT_FOUND);
	}
	setenv("PATH", path, 1);
	assert_int_equal(status, 0);
	/* We have stayed outside. */
	assert_true(readlink("/proc/thread-self/ns/mnt", after, sizeof(after) - 1) > 0);
	assert_string_equal(before, after);
	assert_int_equal(access("/usr/passwd", F_OK), -1);
	room_close(room);
	drop_root(root);
}

static void a_planted_wait_comes_first(void **state)
{
	AUTO(argv) struct argv argv = {.wait_ns = 30 * NS_PER_MS};
	int64_t begun_ns = clock_mono_ns();
	int status;
	pid_t pid;

	argv_add(&argv, "true");
	OK(room_start(&argv, (struct spawn){.stdio = {-1, -1, -1}}, &pid, err));
	OK(spawn_wait(pid, &status, err));
	assert_true(clock_mono_ns() - begun_ns >= argv.wait_ns);
}

/* Places that were there stay, and those that somebody else has come to use. */
static void the_machine_has_no_more_folders_than_before(void **state)
{
	AUTO_FREE char *from = xasprintf("%s/place", dir), *old = xasprintf("%s/old", dir);
	AUTO_FREE char *deep = xasprintf("%s/old/deep", dir), *at = xasprintf("%s/old/deep/at", dir);
	AUTO_FREE char *used = xasprintf("%s/used", dir), *file = xasprintf("%s/used/file", dir);
	const struct room_bind binds[] = {{from, at}, {from, used}, {0}};
	struct room *room = NULL;

	OK(dir_make(old, 0755, err));
	OK(room_open(&(struct room_spec){.binds = binds}, &room, err));
	assert_int_equal(access(at, F_OK), 0);
	OK(file_write_atomic(AT_FDCWD, file, STR("x"), 0644, err));
	OK(run_in(room, "touch $1/old/deep/at/x", err));
	room_close(room);
	assert_int_equal(access(deep, F_OK), -1);
	assert_int_equal(access(old, F_OK), 0);
	assert_int_equal(access(file, F_OK), 0);
}

/* Removing the folder would undo the mount of the other. */
static void the_last_room_removes_its_places(void **state)
{
	AUTO_FREE char *from = xasprintf("%s/from", dir), *at = xasprintf("%s/shared/at", dir);
	AUTO_FREE char *shared = xasprintf("%s/shared", dir);
	const struct room_bind binds[] = {{from, at}, {0}};
	struct room *first = NULL, *second = NULL;

	OK(room_open(&(struct room_spec){.binds = binds}, &first, err));
	OK(room_open(&(struct room_spec){.binds = binds}, &second, err));
	room_close(first);
	OK(run_in(second, "mountpoint -q $1/shared/at", err));
	room_close(second);
	assert_int_equal(access(shared, F_OK), -1);
}

static void places_of_the_killed_go_with_the_next_room(void **state)
{
	AUTO_FREE char *from = xasprintf("%s/from", dir), *at = xasprintf("%s/left/at", dir);
	AUTO_FREE char *left = xasprintf("%s/left", dir);
	const struct room_bind binds[] = {{from, at}, {0}};
	struct room *room = NULL;
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(room_open(&(struct room_spec){.binds = binds}, &room, NULL) < 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(access(at, F_OK), 0);
	OK(room_open(&(struct room_spec){.binds = binds}, &room, err));
	room_close(room);
	assert_int_equal(access(left, F_OK), -1);
}

/* Whoever measures may have podman set up for himself. */
static void variables_that_overrule_stay_outside(void **state)
{
	static const char *const VARS[] = {
	    "CONTAINERS_CONF",         "CONTAINERS_CONF_OVERRIDE",
	    "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF",
	    "CONTAINER_HOST",          "CONTAINERD_SNAPSHOTTER",
	    "DOCKER_CONFIG",           "REGISTRY_AUTH_FILE",
	    "STORAGE_DRIVER",          "STORAGE_OPTS",
	    "COLDBENCH_OTHER",
	};
	AUTO(argv) struct argv argv = ARGV_INIT;
	AUTO(buf) struct buf printed = BUF_INIT;
	int status;

	for (size_t i = 0; i < ARRAY_LEN(VARS); i++)
		setenv(VARS[i], "the-users", 1);
	argv_addl(&argv, "sh", "-c", "env | grep the-users", NULL);
	OK(command_output(&argv, false, clock_mono_ns() + 60 * NS_PER_S, -1, &printed, &status, err));
	assert_string_equal(buf_cstr(&printed), "COLDBENCH_OTHER=the-users\n");
	for (size_t i = 0; i < ARRAY_LEN(VARS); i++)
		unsetenv(VARS[i]);
}

static void a_root_that_is_not_there_fails(void **state)
{
	AUTO_FREE char *root = xasprintf("%s/absent", dir);
	struct room *room = NULL;

	FAILS(room_open(&(struct room_spec){.root = root, .dir = dir}, &room, err), ERR_NOT_FOUND);
	assert_false(is_mount(""));
}

static void check_version(const char *printed, const char *want)
{
	struct str got = STR("none");

	peers_parse_version(str_of(printed), &got);
	assert_true(str_eqc(got, want));
}

static void versions_are_found(void **state)
{
	check_version("containerd github.com/containerd/containerd/v2 2.1.9+unknown \n", "2.1.9+unknown");
	check_version("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3\n", "1.6.20~ds1");
	check_version("runc version 1.3.6+ds1\ncommit: 1.3.6+ds1-1\nspec: 1.2.1\n", "1.3.6+ds1");
	check_version("ctr v1.2\n", "1.2");
	check_version("no digits, version\n1.2\n", "none");
	check_version("", "none");
}

static void programs_of_the_host_have_versions(void **state)
{
	AUTO(buf) struct buf versions = BUF_INIT;

	OK(peers_versions("host", (const char *const[]){"bash", "/bin/mount", NULL}, -1, &versions, err));
	assert_memory_equal(buf_cstr(&versions), "bash ", 5);
	assert_non_null(strstr(buf_cstr(&versions), ", mount "));
	FAILS(peers_versions("host", (const char *const[]){"no-such-program", NULL}, -1, &versions, err),
	      ERR_UNAVAILABLE);
	FAILS(peers_versions("potato", (const char *const[]){"bash", NULL}, -1, &versions, err), ERR_INVALID);
}

static void asking_for_a_version_can_be_stopped(void **state)
{
	AUTO_FREE char *program = xasprintf("%s/hangs", dir);
	AUTO(buf) struct buf versions = BUF_INIT;
	int pipes[2];

	OK(file_write_atomic(AT_FDCWD, program, STR("#!/bin/sh\nexec sleep 1000\n"), 0755, err));
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(write(pipes[1], "x", 1), 1);
	FAILS(peers_versions("host", (const char *const[]){program, NULL}, pipes[0], &versions, err), ERR_CANCELLED);
	close(pipes[0]);
	close(pipes[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(mounts_below_the_folder_are_seen_on_both_sides),
	    cmocka_unit_test(other_mounts_stay_in_the_room),
	    cmocka_unit_test(a_room_hides_the_unified_hierarchy),
	    cmocka_unit_test(a_folder_stands_in_for_the_machines),
	    cmocka_unit_test(the_machine_has_no_more_folders_than_before),
	    cmocka_unit_test(the_last_room_removes_its_places),
	    cmocka_unit_test(places_of_the_killed_go_with_the_next_room),
	    cmocka_unit_test(a_process_begins_in_the_room),
	    cmocka_unit_test(a_root_that_is_not_there_fails),
	};
	const struct CMUnitTest programs[] = {
	    cmocka_unit_test(versions_are_found),
	    cmocka_unit_test(programs_of_the_host_have_versions),
	    cmocka_unit_test(asking_for_a_version_can_be_stopped),
	    cmocka_unit_test(a_planted_wait_comes_first),
	    cmocka_unit_test(variables_that_overrule_stay_outside),
	};
	AUTO_FD int dir_fd = -1;
	int failed;

	if (!mkdtemp(dir))
		return 1;
	/* Rooms need root. */
	failed = geteuid() ? 0 : cmocka_run_group_tests_name("rooms", tests, NULL, NULL);
	failed += cmocka_run_group_tests_name("programs", programs, NULL, NULL);
	dir_fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir_remove(dir_fd, dir + strlen("/tmp/"), NULL);
	return failed;
}
