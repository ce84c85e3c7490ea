"""The headless browser of ``tests/browser.py``."""

from browser import chromium, watched

__all__ = ["chromium", "watched"]
