"""Text-guided video-to-video, as in "Rerender A Video" (Yang, Zhou, Liu & Loy, SIGGRAPH Asia 2023, arXiv:2306.07954).

Some frames of a video, the key frames, are re-rendered by image-to-image with a ControlNet, consistent with each other;
the frames between are interpolated from the generated key frames along the optical flow of the source video.

video       the source video and its sound, its key frames, and the frames between two key frames
denoise     how key frames are generated, and the constraints that keep them consistent
options.py, request.py     what a user asks for, and how it becomes a job
key_frames.py, run.py      the output video of a job, and how an interrupted job resumes
finish.py   the page and the video that show source and output together

Optical flow is in ``freeu.motion``.
"""
