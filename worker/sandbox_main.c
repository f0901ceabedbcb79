/* drover-sandbox: the helper of drover-worker's sandboxes as a program of its own, which starts faster than the worker would. It is
 * of no use by hand. */
#include <stdio.h>

#include "worker/sandbox.h"

int
main(int argc, char **argv)
{
	int rc = sandbox_helper_main(argc, argv);

	if (rc < 0)
		(void)fputs("drover-sandbox is started by drover-worker\n", stderr);
	return rc < 0 ? 2 : rc;
}
