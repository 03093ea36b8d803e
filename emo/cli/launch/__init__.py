"""Where the jobs of a sweep run: in this process, in several, or as tasks of a cluster."""
