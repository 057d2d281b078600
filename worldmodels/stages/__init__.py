"""The stages, one per file: a stage reads files of earlier stages and writes its own files."""
