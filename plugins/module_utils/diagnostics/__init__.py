"""What a person needs who looks at a server from afar, in one archive that holds no secret of the server."""
