#include "fusefs/verbs.h"

#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

static void load_host(struct reg_client *client, const char *certs_dir, int dir_fd, const char *host)
{
	struct reg_host_opts opts = {0};
	struct err why = ERR_INIT;
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/ca.crt", host) >= (int)sizeof(path) ||
	    faccessat(dir_fd, path, R_OK, AT_EACCESS) < 0)
		return;
	if (snprintf(path, sizeof(path), "%s/%s/ca.crt", certs_dir, host) >= (int)sizeof(path))
		return;
	opts.ca_file = path;
	if (reg_client_set_host(client, host, &opts, &why) < 0)
		log_warn("%s: %s", path, why.msg);
}

void load_certs(struct reg_client *client, const char *certs_dir)
{
	AUTO_FD int fd = -1;
	AUTO_DIR DIR *d = NULL;
	struct err why = ERR_INIT;
	struct dirent *e;

	fd = open(certs_dir, O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		if (errno != ENOENT)
			log_warn("%s: %s", certs_dir, strerror(errno));
		return;
	}
	if (dir_iter_open(fd, &d, &why) < 0) {
		log_warn("%s: %s", certs_dir, why.msg);
		return;
	}
	while (dir_iter_next(d, &e, &why) > 0)
		load_host(client, certs_dir, fd, e->d_name);
	if (why.code != ERR_OK)
		log_warn("%s: %s", certs_dir, why.msg);
}
