"""LoRAs and textual-inversion embeddings: read, checked, and attached to a pipeline.

Imports pipelines.io and models.sources.
"""
