"""The files in the folder of a run, and the functions that read and write these files."""
