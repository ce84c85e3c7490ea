"""Video to video by text, as in "Rerender A Video" (Yang, Zhou, Liu & Loy, SIGGRAPH Asia 2023, arXiv:2306.07954).

Some frames of a film, the key frames, are drawn anew by image-to-image with a ControlNet so that they agree with one
another; the frames between are made of the drawn key frames along the optical flow of the film.

source.py, sound.py      the video that comes in, a frame at a time, and its sound
flow.py, flow_repair.py  where the pixels of one frame lie in another, near or far, and where they cannot be seen
raft.py                  the same by a RAFT network
keyframes.py             which frames are key frames
settings.py              how key frames are drawn: prompt, steps, and the stages that tie them together
painter.py               draws them; attention.py, stages.py, fusion.py, encoding.py and steps.py are its parts
memory.py                what it remembers of key frames, on disk too
propagate.py, blend.py   the frames between two key frames
request.py               what a user asks for, and how it becomes a job
keys.py, run.py          the film of a job, and how it goes on after an interruption
finish.py                what shows source and film at once
"""
