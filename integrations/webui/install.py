"""Run by the web UI before it starts: brings freeu if it is missing."""

import launch

if not launch.is_installed("freeu"):
    launch.run_pip("install freeu", "freeu for FreeU (exact)")
