"""How the models are trained: one resumable run, its data, and a file per model.

Imports world, recipe and reader, and the checkpoint of ``freeu.personalize``. It never writes a finished model: that is
for export.
"""
