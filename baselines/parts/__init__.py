"""Parts that papers share: the learner's contract, buffer, networks, encoder, exploration. They import no paper."""
