"""The page at `/`: what it shows (`overview`, `crew`, `curves`, `outcome`, `scorer`), and how (`render`, `form`)."""
