/* The handlers of echo.proto. */
#ifndef RPC_TESTING_ECHO_H
#define RPC_TESTING_ECHO_H

#include "rpc/service.h"
#include "rpc/testing/echo.pb-c.h"

#include <stdatomic.h>

#define ECHO_SERVICE "contentd.testing.Echo"

/* What the handlers report to the test. */
struct echo {
	atomic_int running, max_running; /* handlers of Wait and Slow now, and at most at a time */
	atomic_int cancelled;            /* handlers that saw their call cancelled */
	atomic_int last_code;            /* why, the last time */
	atomic_bool hold;                /* Up does not read while this is set */
	atomic_bool stuck;               /* Slow hears nothing while this is set */
};

/* Unary, streams and long calls; Absent has no handler. */
struct rpc_service echo_service(struct echo *e);

/* For ttrpc: unary calls, descriptors and progress. */
struct rpc_service echo_ttrpc_service(struct echo *e);

#endif
