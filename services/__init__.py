"""The two services of Tripleherd. They never import each other; what both share of the web is in `services.web`."""
