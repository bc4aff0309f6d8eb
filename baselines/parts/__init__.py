"""What papers share: the learner's contract, the buffer, networks, encoder, exploration. Imports no paper."""
