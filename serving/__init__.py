"""The model behind gRPC and REST: a client, an embedded server, and deployments."""
