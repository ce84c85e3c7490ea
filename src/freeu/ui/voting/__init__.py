"""Votes of the studio's visitors between the two images of a pair, and the preference that follows from them.

showing.py   which pair a visitor has before him, and what he may know of it
standing.py  what a visitor's votes say
voters.py    the votes of each visitor on disk, and what they say; without a web framework
votes.py     what votes are to the studio: which pairs can be voted on, which pair is next
panel.py     the part of the page, with Gradio
"""
