"""One file per stage: it reads what earlier stages left in the run's folder, and leaves its own."""
