"""Which part of a configuration does what, and when re-weighting helps: ``freeu evaluate --explain`` and ``--when``."""
