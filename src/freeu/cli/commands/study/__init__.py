"""``freeu study``: make a study, serve it, and evaluate its votes.

Imports freeu.study inside its functions only.
"""
