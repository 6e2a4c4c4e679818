"""One run: checked, trained, evaluated, resumed, reported on the console."""
