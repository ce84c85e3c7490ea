"""Results of a study: from the stored votes to conclusions, report and exports.

Imports study.statistics, store and plan, and pages.rendering.
"""
