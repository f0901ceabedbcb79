/* simulate.h - `drover-autoscale simulate`: policies compared without a cluster. */
#ifndef AUTOSCALE_SIMULATE_H
#define AUTOSCALE_SIMULATE_H

/* Runs the command with its own arguments (argv[0] is "simulate"); the exit status of the program: 0, or 2 for a wrong call. */
int simulate_main(int argc, char **argv);

#endif
