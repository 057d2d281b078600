"""Stages, one per file; each reads files of earlier stages in the run's folder and adds its own."""
