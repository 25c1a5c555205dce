"""What a server is, compared with what it was made to be. Nothing in here changes a server."""
