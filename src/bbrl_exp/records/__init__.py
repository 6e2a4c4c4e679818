"""The files of a run folder that are text or records: each is read and written here only."""
