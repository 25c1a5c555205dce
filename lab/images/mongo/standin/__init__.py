"""The lab's stand-in for mongo:8.0: mongod, mongosh and the image's entrypoint around a wire protocol server."""
