"""The tasks of a pipeline: what it starts from, and what it makes."""
