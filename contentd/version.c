#include "base/cleanup.h"
#include "contentd/daemon.h"
#include "contentd/services.h"
#include "rpc/proto/health.pb-c.h"
#include "rpc/proto/version.pb-c.h"

#include <errno.h>
#include <poll.h>

/* Clients parse the version and switch features by containerd's numbers: nerdctl and dockerd ask for at least 1.6, and
 * for 1.7 before they use Transfer. What we serve is 1.7's API; our own version is the build metadata behind it. */
#define API_VERSION "v1.7.0+contentd." CONTENTD_VERSION

static int version_version(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	Version__VersionResponse rsp = VERSION__VERSION_RESPONSE__INIT;

	rsp.version = API_VERSION;
	rsp.revision = CONTENTD_VERSION;
	return rpc_reply(c, &rsp.base, err);
}

static const struct rpc_method version_methods[] = {
    {"Version", RPC_INLINE, version_version},
};

const struct rpc_service cd_version_service = {&version__version__descriptor, version_methods,
                                               ARRAY_LEN(version_methods)};

/* ---- health ---- */

/* Clients ask for the whole server (""), or for a service by its full name. */
static int health_check(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Health__HealthCheckRequest *req = request;
	Health__HealthCheckResponse rsp = HEALTH__HEALTH_CHECK_RESPONSE__INIT;
	struct cd_daemon *d = svc;

	if (!cd_knows_service(req->service))
		return err_set(err, ERR_NOT_FOUND, "unknown service \"%.100s\"", req->service);
	rsp.status = HEALTH__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
	if (cd_wait_meta(d, c, NULL) < 0)
		rsp.status = HEALTH__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
	return rpc_reply(c, &rsp.base, err);
}

/* Until the client goes: the answer only changes when the server stops, and that ends the call. */
static int health_watch(struct rpc_call *c, const void *request, void *svc, struct err *err)
{
	const Health__HealthCheckRequest *req = request;
	Health__HealthCheckResponse rsp = HEALTH__HEALTH_CHECK_RESPONSE__INIT;
	struct pollfd p = {rpc_cancel_fd(c), POLLIN, 0};
	struct cd_daemon *d = svc;

	rsp.status = HEALTH__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN;
	if (cd_knows_service(req->service))
		rsp.status = cd_wait_meta(d, c, NULL) < 0 ? HEALTH__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
		                                          : HEALTH__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
	TRY(rpc_send(c, &rsp.base, err));
	while (rpc_cancelled(c, NULL) == 0)
		if (p.fd < 0 || (poll(&p, 1, -1) < 0 && errno != EINTR))
			return err_set(err, ERR_EXHAUSTED, "no descriptor left");
	return rpc_cancelled(c, err);
}

static const struct rpc_method health_methods[] = {
    {"Check", 0, health_check},
    {"Watch", RPC_SERVER_STREAM | RPC_LONG, health_watch},
};

const struct rpc_service cd_health_service = {&health__health__descriptor, health_methods, ARRAY_LEN(health_methods)};
