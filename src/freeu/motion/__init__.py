"""Optical flow: the displacement of pixels between the frames of a video, and the motion in it.

measure.py   flow between neighbouring frames, direction and strength of the motion
estimate.py  flow between frames near or far; repair.py corrects it in flat areas; raft.py uses a RAFT network

Imports only errors, extras and wording; evaluate, analysis and rerender build on it.
"""

from freeu.extras import need

need("video", "numpy")
