"""The miniature world: sprites, scenes and clips as data, their captions, edges and degraded versions.

Imports errors and files. It never touches a model, and knows no recipe.
"""
