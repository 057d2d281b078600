"""One stage per file; a stage reads files of earlier stages and adds files to the run's folder."""
