"""The gateway's gRPC face and its HTTP port."""
