"""Video to video by text, as in "Rerender A Video" (Yang, Zhou, Liu & Loy, SIGGRAPH Asia 2023, arXiv:2306.07954).

Some frames of a video, the key frames, are re-rendered by image-to-image with a ControlNet so that they agree with one
another; the frames between are made of the generated key frames along the optical flow of the video.

video     the video that comes in, a frame at a time, its sound, its key frames, and the frames between two key frames
denoise  how key frames are generated, and the constraints that tie them together
request.py  what a user asks for, and how it becomes a job
keys.py, run.py  the video of a job, and how it goes on after an interruption
finish.py   what shows source and video at once

Optical flow is in ``freeu.motion``.
"""
