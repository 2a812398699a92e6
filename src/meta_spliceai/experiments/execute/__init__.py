"""Where rows run: this process, worker processes, Ray, Slurm, a rented machine. The executors are interchangeable: one
queue (`queue.run_queue`) drives them all, and each ends in the same function (`queue.carry_out`)."""
