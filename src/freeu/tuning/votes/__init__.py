"""A search by a person's votes between two images: what to show next, what was voted, and what follows from it.

space       settings that a person's search may try, as points
preference  from votes to a preference over settings: a Gaussian process
ballots     pairs and votes in SQLite
search      ``VoteSearch``: pairs out, votes in, a result at the end; no page and no images
images      the images of pairs, generated ahead
outcome     all of it for a model: verdict, preset.json, report
report      the page of it
"""
