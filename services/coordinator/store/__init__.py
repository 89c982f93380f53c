"""Where the coordinator keeps its state: a database for what is small, blobs for tensors."""
