"""``freeu convert`` and ``freeu metadata``: settings from one tool to another."""
