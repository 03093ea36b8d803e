"""From a command line to jobs: one, a sweep, or a task; here, in processes, or on a cluster."""
