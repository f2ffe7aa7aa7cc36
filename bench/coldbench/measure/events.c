#include "bench/coldbench/measure/events.h"

#include "base/cleanup.h"
#include "base/unix.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

/* An event takes some 500 bytes of it: enough for 60 000 while the reader is not scheduled. */
#define RECEIVE_BYTES (32 << 20)

/* Where an event lies in its message. */
#define EVENT_AT (NLMSG_HDRLEN + sizeof(struct cn_msg))
#define FIELD_AT(field) (EVENT_AT + offsetof(struct proc_event, field))

/* Filters load words as the network has them, and these lie as the processor has them. */
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, FIELD_AT(field))
#define SKIP_UNLESS(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(value), 0, n)
#define PASS_IF_EQUAL(a, b)                                                                                            \
	LOAD(a), BPF_STMT(BPF_MISC | BPF_TAX, 0), LOAD(b), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_X, 0, 0, 1), PASS, DROP
#define PASS BPF_STMT(BPF_RET | BPF_K, UINT32_MAX)
#define DROP BPF_STMT(BPF_RET | BPF_K, 0)

static int filter(int fd, struct err *err)
{
	struct sock_filter program[] = {
	    LOAD(what),
	    SKIP_UNLESS(PROC_EVENT_EXEC, 1),
	    PASS,
	    SKIP_UNLESS(PROC_EVENT_FORK, 6), /* of a process, not of a thread */
	    PASS_IF_EQUAL(event_data.fork.child_pid, event_data.fork.child_tgid),
	    SKIP_UNLESS(PROC_EVENT_EXIT, 6), /* of its first thread */
	    PASS_IF_EQUAL(event_data.exit.process_pid, event_data.exit.process_tgid),
	    DROP,
	};
	const struct sock_fprog all = {.len = ARRAY_LEN(program), .filter = program};

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &all, sizeof(all)))
		return err_errno(err, errno, "filter process events");
	return 0;
}

/* The kernel makes events as long as anybody listens; kernels before 6.6 count requests, so that one end too many would make
 * others deaf. */
static int set_listening(struct events *e, bool on, struct err *err)
{
	struct {
		struct nlmsghdr head;
		struct cn_msg message;
		enum proc_cn_mcast_op op;
	} __attribute__((packed)) request = {
	    .head = {.nlmsg_len = sizeof(request), .nlmsg_type = NLMSG_DONE},
	    .message = {.id = {CN_IDX_PROC, CN_VAL_PROC}, .len = sizeof(request.op)},
	    .op = on ? PROC_CN_MCAST_LISTEN : PROC_CN_MCAST_IGNORE,
	};

	if (e->listening != on && send(e->fd, &request, sizeof(request), 0) < 0)
		return err_errno(err, errno, "ask the kernel for process events");
	e->listening = on;
	return 0;
}

int events_open(struct events *out, struct err *err)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = CN_IDX_PROC};
	AUTO_FD int fd = socket(PF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_CONNECTOR);
	struct events made = {0};
	int bytes = RECEIVE_BYTES;

	if (fd < 0 && errno == EPROTONOSUPPORT)
		return err_set(err, ERR_UNAVAILABLE, "this kernel tells of no processes (CONFIG_PROC_EVENTS)");
	if (fd < 0)
		return err_errno(err, errno, "socket for process events");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)))
		return err_errno(err, errno, "room for process events");
	TRY(filter(fd, err));
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)))
		return err_errno(err, errno, "bind the socket for process events");
	made.fd = fd;
	TRY(set_listening(&made, true, err));
	made.fd = STEAL_FD(fd);
	*out = made;
	return 0;
}

void events_close(struct events *e)
{
	if (e->fd < 0)
		return;
	set_listening(e, false, NULL);
	close(e->fd);
	e->fd = -1;
}

/* Members of the group get the events that are made for whoever else listens, too. */
static int set_membership(int fd, int option, struct err *err)
{
	const int group = CN_IDX_PROC;

	if (setsockopt(fd, SOL_NETLINK, option, &group, sizeof(group)))
		return err_errno(err, errno, "join or leave the listeners to process events");
	return 0;
}

int events_pause(struct events *e, struct err *err)
{
	TRY(set_listening(e, false, err));
	return set_membership(e->fd, NETLINK_DROP_MEMBERSHIP, err);
}

int events_resume(struct events *e, struct err *err)
{
	TRY(set_membership(e->fd, NETLINK_ADD_MEMBERSHIP, err));
	return set_listening(e, true, err);
}

static struct event event_of(const struct proc_event *e)
{
	struct event out = {.at_ns = (int64_t)e->timestamp_ns}; /* ktime_get_ns: CLOCK_MONOTONIC */

	switch ((unsigned)e->what) { /* the filter lets nothing else pass */
	case PROC_EVENT_FORK:
		out.kind = EVENT_FORK;
		out.pid = e->event_data.fork.child_tgid;
		out.parent = e->event_data.fork.parent_tgid;
		break;
	case PROC_EVENT_EXEC:
		out.kind = EVENT_EXEC;
		out.pid = e->event_data.exec.process_tgid;
		break;
	case PROC_EVENT_EXIT:
		out.kind = EVENT_EXIT;
		out.pid = e->event_data.exit.process_tgid;
		out.status = (int)e->event_data.exit.exit_code;
		break;
	}
	return out;
}

bool events_take(const struct events *e, struct event *out)
{
	_Alignas(struct nlmsghdr) char room[1024];
	struct sockaddr_nl from = {0};
	socklen_t from_bytes = sizeof(from);
	struct cn_msg message;
	struct proc_event event;
	ssize_t n = recvfrom(e->fd, room, sizeof(room), 0, (struct sockaddr *)&from, &from_bytes);

	*out = (struct event){0};
	if (n < 0)
		return errno != ENOBUFS;
	if (from.nl_pid != 0 || (size_t)n < EVENT_AT + sizeof(event))
		return true;
	memcpy(&message, room + NLMSG_HDRLEN, sizeof(message));
	if (message.id.idx != CN_IDX_PROC || message.id.val != CN_VAL_PROC || message.len < sizeof(event))
		return true;
	memcpy(&event, room + EVENT_AT, sizeof(event));
	*out = event_of(&event);
	return true;
}
