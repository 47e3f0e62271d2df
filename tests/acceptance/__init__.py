"""The numbered acceptance list, and which of its numbers tests cite."""
