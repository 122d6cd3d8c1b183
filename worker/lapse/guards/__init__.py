"""What may keep a sweep from acting: each guard answers one question, and halts or says why not."""
