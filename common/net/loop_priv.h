/* loop_priv.h - what work_pool.c needs of the loop. */
#ifndef NET_LOOP_PRIV_H
#define NET_LOOP_PRIV_H

#include "net/loop.h"

/* Runs the messages posted until now; what these post themselves waits for the next turn. Loop thread. */
void loop_run_posted(struct loop *l);

#endif
