"""The worker's parts: each file one small actor, wired together by `worker`."""
