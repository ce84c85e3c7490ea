"""What a generated frame shows beyond the outline of an object, and that it does not stay behind when the object moves.

numpy and OpenCV only.
"""
