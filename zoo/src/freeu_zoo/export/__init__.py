"""From a checkpoint to the directory that ``from_pretrained`` loads, with its facts, card and sample sheets.

Imports training, world, recipe, card and grid. It never trains.
"""
