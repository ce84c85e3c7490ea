"""Metrics of single images by name: those of other packages, those of installed plug-ins, and any callable.

metric    what a metric is, and what a plug-in says of itself
adapters  the ones that freeu knows: a few lines around each package
registry  finds a metric by what ``--metric`` names
"""
