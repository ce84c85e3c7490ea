"""``freeu dreambooth`` and ``freeu reversion``."""
