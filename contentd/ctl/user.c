/* Names of users and groups inside an image (spec.h). */
#include "contentd/ctl/spec.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>

#define FILE_BYTES_MAX (1u << 20)
#define FIELDS_MAX 7

/* One line of passwd or group, split at colons. */
struct line {
	struct str field[FIELDS_MAX];
	unsigned n;
};

static bool next_line(struct str *rest, struct line *out)
{
	struct str text, part;

	if (!rest->n || !str_split(rest, '\n', &text))
		return false;
	out->n = 0;
	while (out->n < FIELDS_MAX && text.n && str_split(&text, ':', &part))
		out->field[out->n++] = part;
	return true;
}

static bool field_id(const struct line *l, unsigned i, uint32_t *out)
{
	uint64_t v;

	if (i >= l->n || !str_u64(l->field[i], 10, &v) || v > UINT32_MAX - 1)
		return false;
	*out = (uint32_t)v;
	return true;
}

static int read_below(const char *root, const char *path, struct buf *out, struct err *err)
{
	AUTO_FD int root_fd = open(root, O_DIRECTORY | O_CLOEXEC);
	AUTO_FD int fd = -1;

	if (root_fd < 0)
		return err_errno(err, errno, "open %s", root);
	/* A pipe in its place must not hold us up. */
	TRY(file_open_beneath(root_fd, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0, false, &fd, err));
	return fd_read_all(fd, FILE_BYTES_MAX, out, err);
}

static void split_user(const char *text, struct str *user, struct str *group, bool *has_group)
{
	struct str rest = str_of(text);
	ptrdiff_t colon = str_find(rest, ':');

	*has_group = colon >= 0;
	*user = colon >= 0 ? str_sub(rest, 0, (size_t)colon) : rest;
	*group = colon >= 0 ? str_sub(rest, (size_t)colon + 1, rest.n) : STR_NONE;
}

/* By far the most common, and the same in every image: no file is opened for it. */
static bool is_root(struct str user, bool has_group)
{
	return !has_group && (str_empty(user) || str_eqc(user, "0") || str_eqc(user, "root"));
}

bool spec_user_needs_files(const struct spec_process *p)
{
	struct str user, group;
	bool has_group;
	uint64_t v;

	split_user(p->user, &user, &group, &has_group);
	if (is_root(user, has_group))
		return false;
	return !has_group || !str_u64(user, 10, &v) || !str_u64(group, 10, &v);
}

/* passwd: name:password:uid:gid:... A number that has no line is itself, with group 0. */
static int find_user(struct spec_process *p, struct str user, struct str passwd, struct str *name, struct err *err)
{
	struct line l;
	uint64_t number;
	bool numeric = str_u64(user, 10, &number) && number < UINT32_MAX;

	*name = user;
	while (next_line(&passwd, &l)) {
		uint32_t uid, gid;

		if (!field_id(&l, 2, &uid) || !field_id(&l, 3, &gid))
			continue;
		if (numeric ? uid == number : str_eq(l.field[0], user)) {
			p->uid = uid;
			p->gid = gid;
			*name = l.field[0];
			return 0;
		}
	}
	if (!numeric)
		return err_set(err, ERR_NOT_FOUND, "the image has no user " STR_FMT " in /etc/passwd", STR_ARG(user));
	p->uid = (uint32_t)number;
	p->gid = 0;
	return 0;
}

static int find_group(struct spec_process *p, struct str group, struct str text, struct err *err)
{
	struct line l;
	uint64_t number;

	if (str_u64(group, 10, &number) && number < UINT32_MAX) {
		p->gid = (uint32_t)number;
		return 0;
	}
	while (next_line(&text, &l))
		if (l.n >= 3 && str_eq(l.field[0], group) && field_id(&l, 2, &p->gid))
			return 0;
	return err_set(err, ERR_NOT_FOUND, "the image has no group " STR_FMT " in /etc/group", STR_ARG(group));
}

/* group: name:password:gid:member,member */
static void add_memberships(struct spec_process *p, struct str name, struct str text)
{
	struct line l;

	while (next_line(&text, &l)) {
		struct str members = l.n >= 4 ? l.field[3] : STR_NONE, one;
		uint32_t gid;

		if (!field_id(&l, 2, &gid) || gid == p->gid)
			continue;
		while (members.n && str_split(&members, ',', &one))
			if (str_eq(one, name))
				vec_push(&p->groups, gid);
	}
}

int spec_resolve_user(struct spec_process *p, const char *root, struct err *err)
{
	AUTO(buf) struct buf passwd = BUF_INIT;
	AUTO(buf) struct buf groups = BUF_INIT;
	struct err why = ERR_INIT;
	struct str user, group, name;
	bool has_group;

	split_user(p->user, &user, &group, &has_group);
	if (is_root(user, has_group))
		return 0;
	/* An image without these files can still name users by number. */
	if (root && read_below(root, "etc/passwd", &passwd, &why) < 0 && why.code != ERR_NOT_FOUND)
		return err_set(err, why.code, "/etc/passwd of the image: %s", why.msg);
	if (root && read_below(root, "etc/group", &groups, &why) < 0 && why.code != ERR_NOT_FOUND)
		return err_set(err, why.code, "/etc/group of the image: %s", why.msg);
	TRY(find_user(p, user, buf_str(&passwd), &name, err));
	if (has_group)
		return find_group(p, group, buf_str(&groups), err);
	add_memberships(p, name, buf_str(&groups));
	return 0;
}
