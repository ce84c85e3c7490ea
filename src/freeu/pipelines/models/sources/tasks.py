"""The tasks of a pipeline: what it starts from, and what it makes."""

from __future__ import annotations

VIDEO_TASKS = ("video", "video-to-video", "image-to-video")


TASKS = ("text", "image", "inpaint", *VIDEO_TASKS)


TASK_NAMES = {
    "text": "text-to-image",
    "image": "image-to-image",
    "inpaint": "inpainting",
    "video": "text-to-video",
    "video-to-video": "video-to-video",
    "image-to-video": "image-to-video",
}
