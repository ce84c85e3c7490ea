"""Votes and raters in a database: one writer, append-only records, backups.

Imports study.plan; knows no web page and no statistics.
"""
