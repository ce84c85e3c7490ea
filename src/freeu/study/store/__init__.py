"""Votes and raters in a database: a single writer, append-only records, backups.

Imports study.plan; knows no web page and no statistics.
"""
