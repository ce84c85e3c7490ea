"""Statistics of votes: shares, rankings, agreement, exclusion, power, simulated raters.

Imports intervals, study.plan and the records of study.store.
"""
