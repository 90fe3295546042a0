"""The privileged daemon, its protocol, and the client that programs use."""
