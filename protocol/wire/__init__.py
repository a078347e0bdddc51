"""Wire formats: a :class:`~protocol.chat.ChatRequest` to bytes, bytes to a reply or a failure. Pure functions."""
