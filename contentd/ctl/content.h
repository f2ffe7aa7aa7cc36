/* contentctl content verify: a family member with a file of its own. */
#ifndef CTL_CONTENT_H
#define CTL_CONTENT_H

#include "contentd/ctl/ctl.h"

int ctl_verify_verb(struct ctl *c, int argc, char **argv);

#endif
