"""The two services of Tripleherd. They never import each other; what both share is in `web` and `settings`."""
