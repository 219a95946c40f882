"""Model serving by gRPC and REST: a client, a server, and deployment files."""
