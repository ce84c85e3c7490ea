"""Optical flow: what moves in a video, and where the pixels of one frame lie in another.

measure.py   flow from frame to frame, direction and strength of the movement
estimate.py  flow between frames near or far, repair.py where there is nothing to follow, raft.py by a RAFT network

Imports only errors and extras, so that evaluate, analysis and rerender can stand on it.
"""
