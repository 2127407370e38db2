"""Reports for people: plots, and the pages that show them."""
