"""The page on which a person votes between two images: a small application for one person and one search."""
