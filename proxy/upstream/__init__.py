"""The client of upstream: connections, the bytes of requests, whole and streamed replies, its clock."""
