"""What algorithms share: options, updates of a family, samples of a chunk, and what is saved of a learner."""
