#include "contentd/ops/notify.h"

#include "base/buf.h"
#include "base/log.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un address;
static socklen_t address_bytes; /* 0: nobody wants to know */
static int64_t watchdog_ns;

static void take_address(const char *path)
{
	size_t n = strlen(path);

	/* '@' stands for the NUL of an abstract name. */
	if ((path[0] != '/' && path[0] != '@') || n < 2 || n >= sizeof(address.sun_path))
		return;
	address.sun_family = AF_UNIX;
	memcpy(address.sun_path, path, n);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
}

void cd_notify_init(void)
{
	const char *path = getenv("NOTIFY_SOCKET"), *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	uint64_t us, whose;

	if (path)
		take_address(path);
	if (usec && str_u64(str_of(usec), 10, &us) && us < INT64_MAX / 1000 &&
	    (!pid || (str_u64(str_of(pid), 10, &whose) && whose == (uint64_t)getpid())))
		watchdog_ns = (int64_t)us * 1000 / 2;
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

void cd_notify(const char *fmt, ...)
{
	AUTO(buf) struct buf text = BUF_INIT;
	AUTO_FD int fd = -1;
	va_list ap;

	if (!address_bytes)
		return;
	va_start(ap, fmt);
	buf_vaddf(&text, fmt, ap);
	va_end(ap);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, text.p, text.n, MSG_NOSIGNAL, (struct sockaddr *)&address, address_bytes) < 0)
		log_debug("the service manager cannot be told: %s", strerror(errno));
}

int64_t cd_notify_watchdog_ns(void)
{
	return address_bytes ? watchdog_ns : 0;
}
