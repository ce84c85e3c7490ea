"""Video to video by text, as in "Rerender A Video" (Yang, Zhou, Liu & Loy, SIGGRAPH Asia 2023, arXiv:2306.07954).

Some frames of a film, the key frames, are drawn anew by image-to-image with a ControlNet so that they agree with one
another; the frames between are made of the drawn key frames along the optical flow of the film.

flow.py          where the pixels of one frame lie in another, near or far, and where they cannot be seen
"""
