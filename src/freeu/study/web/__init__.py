"""The web application for raters and administrators.

Imports study.store, plan and results; never generates.
"""
