"""Where rows run: this process, worker processes, Ray, Slurm, a rented machine. The executors are twins: one queue
(`queue.run_queue`) drives them all, and each does the same (`queue.carry_out`)."""
