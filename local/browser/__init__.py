"""Reports and sign-in pages in a real browser; see __main__.py."""
