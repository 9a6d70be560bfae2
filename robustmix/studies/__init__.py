"""Studies: tables of runs, those of the papers among them, as files that run."""
