"""From workspaces to data for learning: transitions, replay, minibatches."""
