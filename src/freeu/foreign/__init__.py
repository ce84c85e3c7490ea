"""Files of others that need no library: what is in them, without trusting them.

Imports errors only.
"""
