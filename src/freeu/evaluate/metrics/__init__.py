"""Metrics of images and videos: functions of arrays, and the networks (judges) that some of them need.

Imports intervals and motion, and in ``plugins`` what reads weights; generates nothing and reads no manifests.
"""

from freeu.extras import need

need("eval", "numpy", "scipy")
