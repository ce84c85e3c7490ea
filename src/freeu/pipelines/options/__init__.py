"""The options that several commands share, each written once: frozen dataclasses that any caller can fill.

A field holds a value, its default and, as annotation, what a command line or a page shows of it (``option.Option``).
``freeu.cli.bundles`` makes options of a command out of them, ``runs.request`` keeps them as they are.

Imports config, pipelines.io and models.addons; loads no model and knows no plan.
"""
