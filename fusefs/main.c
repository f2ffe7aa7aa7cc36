#include "base/failpoint.h"
#include "base/log.h"
#include "fusefs/options.h"
#include "fusefs/roles.h"
#include "fusefs/worker.h"

int main(int argc, char **argv)
{
	struct ffs_options opts;

	failpoint_init();
	ffs_options_parse(argc, argv, &opts);
	log_init("contentfs", opts.log_level, opts.log_json);
	return opts.role == FFS_ROLE_WORKER ? ffs_worker_main(&opts) : ffs_holder_main(&opts);
}
